// SPDX-License-Identifier: Apache-2.0
#include "training/model/device_memory.h"

#include <c10/core/CachingDeviceAllocator.h>

#include "nas/core/exception_text.h"
#include "nas/core/log.h"
#include "training/model/device.h"
#include "training/model/memory_share.h"

namespace nas {

DeviceMemory::DeviceMemory(const std::string& device, bool whole) : device_(choose_device(device)) {
  if (whole && device_.is_cuda()) share_ = set_memory_share(device_.index(), 1);
}

DeviceMemory::~DeviceMemory() {
  if (!device_.is_cuda()) return;
  try {
    c10::getDeviceAllocator(c10::kCUDA)->emptyCache();
    if (share_ > 0) set_memory_share(device_.index(), share_);
  } catch (const std::exception& error) {
    log_warning(device_.str(), ": ", exception_text(error));
  }
}

}  // namespace nas
