// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include <torch/torch.h>

namespace nas {

/// "auto" -> cuda:0 if LibTorch sees a device, else cpu. \throws Error(Usage) when a named device
/// is not there.
at::Device choose_device(const std::string& device);

/// How many CUDA devices LibTorch sees.
int cuda_devices();

/// The stream on which LibTorch works on a CUDA device now, as a cudaStream_t: our kernels go there
/// too, and order is kept without waiting.
void* current_stream(const at::Device& device);

/// Compute threads of LibTorch for `threads` (0: all processors), and deterministic operators on
/// the CPU.
void set_up_compute(int threads, const at::Device& device);

/// Autocast to `type` on `device` for the life of the object; nothing for float32.
class Autocast {
 public:
  Autocast(const at::Device& device, at::ScalarType type);
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;
  ~Autocast();

 private:
  at::DeviceType device_;
  bool was_enabled_;
  at::ScalarType was_type_;
};

/// Type of the arithmetic for "auto", "fp32", "bf16" or "fp16": auto is bf16 where the device has
/// it in hardware (AVX512-BF16 or AMX; CUDA compute capability 8 and up), else float32 (fp16 on
/// older CUDA). \throws Error(Usage) on an unknown name, and on fp16 on a CPU.
at::ScalarType choose_precision(const std::string& precision, const at::Device& device);

}  // namespace nas
