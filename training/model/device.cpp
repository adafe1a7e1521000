// SPDX-License-Identifier: Apache-2.0
#include "training/model/device.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <algorithm>

#include <ATen/autocast_mode.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "nas/core/error.h"
#include "nas/core/threads.h"

namespace nas {

int cuda_devices() { return static_cast<int>(torch::cuda::device_count()); }

at::Device choose_device(const std::string& device) {
  const int count = cuda_devices();
  if (device == "cpu") return at::kCPU;
  if (device == "auto") return count > 0 ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU);
  int index = -1;
  if (device == "cuda") index = 0;
  if (device.starts_with("cuda:") && device.size() > 5 && device.size() < 9 &&
      std::all_of(device.begin() + 5, device.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    index = std::stoi(device.substr(5));
  }
  NAS_CHECK_KIND(
      Usage, index >= 0, "device: expected auto, cpu, cuda or cuda:<i>, found '", device, "'");
  NAS_CHECK_KIND(Usage,
                 index < count,
                 "device ",
                 device,
                 " is not there: LibTorch sees ",
                 count,
                 " CUDA devices");
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(index));
}

void* current_stream(const at::Device& device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device).native_handle();
}

void set_up_compute(int threads, const at::Device& device) {
  at::set_num_threads(threads > 0 ? threads : processor_count());
#if defined(__GLIBC__)
  // Activations come and go every step; handing their pages back to the kernel costs a tenth of it.
  ::mallopt(M_MMAP_THRESHOLD, 32 << 20);
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
  // Deterministic operators where there is a choice; without filling fresh memory, which would cost
  // a pass each.
  at::globalContext().setDeterministicAlgorithms(device.is_cpu(), /*warn_only=*/true);
  at::globalContext().setDeterministicFillUninitializedMemory(false);
  at::globalContext().setBenchmarkCuDNN(true);
}

Autocast::Autocast(const at::Device& device, at::ScalarType type)
    : device_(device.type()),
      was_enabled_(at::autocast::is_autocast_enabled(device_)),
      was_type_(at::autocast::get_autocast_dtype(device_)) {
  const bool enable = type == at::kBFloat16 || type == at::kHalf;
  at::autocast::increment_nesting();
  at::autocast::set_autocast_enabled(device_, enable);
  if (enable) at::autocast::set_autocast_dtype(device_, type);
}

Autocast::~Autocast() {
  at::autocast::set_autocast_enabled(device_, was_enabled_);
  at::autocast::set_autocast_dtype(device_, was_type_);
  // The cache holds casts of weights that the next step changes.
  if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
}

at::ScalarType choose_precision(const std::string& precision, const at::Device& device) {
  if (precision == "fp32") return at::kFloat;
  if (precision == "bf16") return at::kBFloat16;
  if (precision == "fp16") {
    NAS_CHECK_KIND(
        Usage, !device.is_cpu(), "precision fp16 needs a CUDA device; on the CPU use bf16 or fp32");
    return at::kHalf;
  }
  NAS_CHECK_KIND(Usage,
                 precision == "auto",
                 "precision: expected auto, fp32, bf16 or fp16; found '",
                 precision,
                 "'");
  if (device.is_cpu()) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512bf16") || __builtin_cpu_supports("amx-bf16"))
      return at::kBFloat16;
#endif
    return at::kFloat;
  }
  return at::detail::getCUDAHooks().supportsBFloat16ConvolutionWithCuDNNv8() ? at::kBFloat16
                                                                             : at::kHalf;
}

}  // namespace nas
