// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include <torch/torch.h>

namespace nas {

/// The memory of `device` for the life of the object: what LibTorch keeps unused of a GPU's memory is
/// given back at the end, to processes that share it. \param whole without the share that the
/// allocator was limited to (allocator_setting): nobody else works there now.
class DeviceMemory {
 public:
  DeviceMemory(const std::string& device, bool whole);
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  ~DeviceMemory();

 private:
  at::Device device_;
  double share_ = 0;  // to go back to; 0: nothing was changed
};

}  // namespace nas
