// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace nas {

/// Limits the memory that LibTorch's allocator may take of a CUDA device to this share, (0, 1].
/// \returns the share before; 0, and nothing is changed, in a build without the CUDA headers that
/// LibTorch's own need.
double set_memory_share(int device, double share);

}  // namespace nas
