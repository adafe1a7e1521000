// SPDX-License-Identifier: Apache-2.0
#include <c10/cuda/CUDACachingAllocator.h>

#include "training/model/memory_share.h"

namespace nas {

double set_memory_share(int device, double share) {
  const auto index = static_cast<c10::DeviceIndex>(device);
  c10::cuda::CUDACachingAllocator::CUDAAllocator* const allocator =
      c10::cuda::CUDACachingAllocator::get();
  const double before = allocator->getMemoryFraction(index);
  allocator->setMemoryFraction(share, index);
  return before;
}

}  // namespace nas
