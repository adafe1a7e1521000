// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace nas {

/// The paths that `list` joins by commas. A path that exists is taken as it is, commas included: at
/// each place the longest one that is there, else all up to the next comma. No empty paths.
std::vector<std::filesystem::path> split_paths(const std::string& list);

}  // namespace nas
