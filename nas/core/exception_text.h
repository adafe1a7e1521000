// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <string>

namespace nas {

/// What a message shows of an exception: its text, of LibTorch's without the place in its source
/// and the stack of frames that follow, "out of memory" of std::bad_alloc.
std::string exception_text(const std::exception& error);

}  // namespace nas
