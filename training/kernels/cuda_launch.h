// SPDX-License-Identifier: Apache-2.0
#pragma once

// How .cu files start a kernel: on the device where nvcc compiles them, in the tests' emulation
// (tests/support/cuda_emulation) where a C++ compiler does.

#include <cstdint>

#include <cuda_runtime.h>

#include "training/kernels/cuda_check.h"

/// NAS_LAUNCH(kernel, blocks, threads, stream, arguments...); a kernel with commas in its name goes
/// in parentheses. Throws Error(Internal) where the launch is refused.
#if defined(__CUDACC__)
#define NAS_LAUNCH(KERNEL, BLOCKS, THREADS, STREAM, ...)                                \
  do {                                                                                  \
    KERNEL<<<(BLOCKS), (THREADS), 0, static_cast<cudaStream_t>(STREAM)>>>(__VA_ARGS__); \
    NAS_CUDA_CHECK(cudaGetLastError());                                                 \
  } while (false)
#else
#define NAS_LAUNCH(KERNEL, BLOCKS, THREADS, STREAM, ...) \
  (static_cast<void>(STREAM),                            \
   ::nas::emulation::launch((BLOCKS), (THREADS), [&] { KERNEL(__VA_ARGS__); }))
#endif

namespace nas::kernels::cuda {

constexpr int kThreads = 256;

__device__ inline std::int64_t thread_index() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline std::int64_t thread_count() {
  return static_cast<std::int64_t>(gridDim.x) * blockDim.x;
}

/// Blocks of kThreads for a grid-stride loop over `work` items.
inline unsigned blocks_for(std::int64_t work) {
  const std::int64_t blocks = (work + kThreads - 1) / kThreads;
  return static_cast<unsigned>(blocks < 1 ? 1 : blocks > 65535 ? 65535 : blocks);
}

}  // namespace nas::kernels::cuda
