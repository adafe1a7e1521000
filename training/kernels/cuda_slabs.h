// SPDX-License-Identifier: Apache-2.0
#pragma once

// What kernels share that sum over the voxels of a sample: numbers in packs, and sums over slabs in
// a fixed order.

#include <cstdint>

#include "training/kernels/cuda_launch.h"

namespace nas::kernels::cuda {

/// N numbers that are read and written at once.
template <class T, int N>
struct alignas(sizeof(T) * N) Pack {
  T v[N];
};

// float as it is; bfloat16 by its bits, rounded to the nearest even.
__device__ inline float widen(float x) { return x; }
__device__ inline float widen(std::uint16_t x) {
  union {
    std::uint32_t bits;
    float value;
  } u;
  u.bits = static_cast<std::uint32_t>(x) << 16;
  return u.value;
}
__device__ inline void narrow(float x, float& out) { out = x; }
__device__ inline void narrow(float x, std::uint16_t& out) {
  union {
    float value;
    std::uint32_t bits;
  } u;
  u.value = x;
  // A NaN stays one: adding to its bits could make it infinite.
  out = x != x ? static_cast<std::uint16_t>(0x7fc0)
               : static_cast<std::uint16_t>((u.bits + 0x7fff + (u.bits >> 16 & 1)) >> 16);
}

/// sums[sample][i] = sum over slabs of partial[sample][slab][i], i < width. A block has 32 columns
/// and 8 lanes: lane l adds slabs l, l + 8, ..., then the lanes are added in a tree.
/// Grid (ceil(width / 32), samples), kThreads threads.
static __global__ void sum_slabs_kernel(const double* partial,
                                        std::int64_t slabs,
                                        std::int64_t width,
                                        double* sums) {
  constexpr unsigned kColumns = 32, kLanes = kThreads / kColumns;
  __shared__ double shared[kThreads];
  const unsigned column = threadIdx.x % kColumns, lane = threadIdx.x / kColumns;
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kColumns + column;
  const std::int64_t sample = blockIdx.y;
  double sum = 0;
  if (i < width) {
    const double* from = partial + sample * slabs * width + i;
    for (std::int64_t slab = lane; slab < slabs; slab += kLanes) sum += from[slab * width];
  }
  shared[threadIdx.x] = sum;
  __syncthreads();
  for (unsigned half = kLanes / 2; half > 0; half /= 2) {
    if (lane < half) shared[threadIdx.x] += shared[threadIdx.x + half * kColumns];
    __syncthreads();
  }
  if (lane == 0 && i < width) sums[sample * width + i] = shared[threadIdx.x];
}

inline void sum_slabs(const double* partial,
                      std::int64_t samples,
                      std::int64_t slabs,
                      std::int64_t width,
                      double* sums,
                      void* stream) {
  const dim3 grid(static_cast<unsigned>((width + 31) / 32), static_cast<unsigned>(samples));
  NAS_LAUNCH(sum_slabs_kernel, grid, kThreads, stream, partial, slabs, width, sums);
}

}  // namespace nas::kernels::cuda
