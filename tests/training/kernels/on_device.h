// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include <gtest/gtest.h>

#include "training/kernels/kernels.h"

#define NAS_GPU_OR_SKIP()                                                                \
  if (kernels::cuda::device_count() == 0) {                                              \
    GTEST_SKIP() << "needs a CUDA device"                                                \
                 << (kernels::cuda::compiled() ? "" : " and a build with CUDA kernels"); \
  }                                                                                      \
  static_assert(true)

namespace nas::test {

/// Device memory with the contents of a vector.
template <class T>
class OnDevice {
 public:
  explicit OnDevice(const std::vector<T>& host)
      : count_(host.size()),
        data_(static_cast<T*>(
            kernels::cuda::allocate(std::max<std::size_t>(1, count_) * sizeof(T)))) {
    kernels::cuda::copy_to_device(data_, host.data(), count_ * sizeof(T));
  }
  ~OnDevice() { kernels::cuda::release(data_); }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  T* data() const { return data_; }
  std::vector<T> host() const {
    std::vector<T> out(count_);
    kernels::cuda::copy_to_host(out.data(), data_, count_ * sizeof(T));
    return out;
  }

 private:
  std::size_t count_;
  T* data_;
};

}  // namespace nas::test
