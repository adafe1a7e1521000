// SPDX-License-Identifier: Apache-2.0
#pragma once

// A CUDA device of its own on the CPU, so that the .cu files run in tests and under the sanitizers:
// this header takes the place of NVIDIA's in targets that have this folder in their include path.
// Blocks run one after the other, the threads of a block as fibers that change at __syncthreads().
// Device memory is host memory, a stream is a word, nothing runs later.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>

#define __global__
#define __host__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static thread_local  // one block at a time
#define __syncthreads() ::nas::emulation::barrier(__FILE__, __LINE__)

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
inline thread_local dim3 gridDim, blockDim, blockIdx, threadIdx;

namespace nas::emulation {

/// In which order blocks and threads run. A result that depends on it lacks a barrier, or one block
/// reads what another writes.
enum class Order { Forward, Backward, Mixed };
void set_order(Order order);

/// Waits for the other threads of the block.
void barrier(const char* file, int line);

/// Runs every block. \throws std::logic_error naming the place, where the threads of a block do not
/// all reach the same barrier, and for a grid or block that no GPU could run.
void launch(dim3 grid, dim3 block, const std::function<void()>& thread);

}  // namespace nas::emulation

using cudaStream_t = struct NasEmulatedStream*;
using cudaError_t = int;
constexpr cudaError_t cudaSuccess = 0;
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };

inline const char* cudaGetErrorString(cudaError_t) { return "out of memory"; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
inline cudaError_t cudaMalloc(void** memory, std::size_t bytes) {
  *memory = std::malloc(bytes);
  if (*memory == nullptr) return 2;
  std::memset(*memory, 0xFF, bytes);  // NaN, so that reading what nobody wrote shows
  return cudaSuccess;
}
inline cudaError_t cudaFree(void* memory) { return std::free(memory), cudaSuccess; }
inline cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind) {
  return std::memcpy(to, from, bytes), cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(
    void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
  return cudaMemcpy(to, from, bytes, kind);
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
