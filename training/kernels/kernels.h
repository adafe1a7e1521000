// SPDX-License-Identifier: Apache-2.0
#pragma once

// Whole-patch operations over the formulas of voxel.h: loops on the CPU (namespace cpu), launchers
// on the GPU (namespace cuda) with the same arguments and a stream. Images are [C, D, H, W] or one
// channel [D, H, W] float32, labels [D, H, W] int16, W fastest, without gaps. Indices are 64-bit.

#include <cstddef>
#include <cstdint>
#include <string>

#include "training/kernels/voxel.h"

namespace nas::kernels {

/// A plain crop: patch voxel i reads begin + i, or from the other end where flipped.
struct CropPlace {
  std::int64_t begin[3] = {0, 0, 0};  // D H W, any sign
  bool flip[3] = {false, false, false};
};

/// Voxels kept per axis by the low-resolution simulation.
using LowSize = Size3;

namespace cpu {

/// image [channels, size] -> out [channels, patch]; 0 outside. label [size] -> [patch]; negative
/// and outside: 0.
void crop_image(const float* image,
                const Size3& size,
                std::int64_t channels,
                const CropPlace& place,
                const Size3& patch,
                float* out);
void crop_label(const std::int16_t* label,
                const Size3& size,
                const CropPlace& place,
                const Size3& patch,
                std::int16_t* out);
/// The same through an affine map, trilinear / by largest weight.
void affine_image(const float* image,
                  const Size3& size,
                  std::int64_t channels,
                  const Affine3& map,
                  const Size3& patch,
                  float* out);
void affine_label(const std::int16_t* label,
                  const Size3& size,
                  const Affine3& map,
                  const Size3& patch,
                  std::int16_t* out);

/// image[c][i] += deviation * normal(key, i): one noise field for all channels.
void add_noise(
    float* image, std::int64_t voxels, std::int64_t channels, float deviation, std::uint64_t key);

// One channel each, in place; `scratch` holds one channel.
void blur(float* image, float* scratch, const Size3& size, const BlurTaps taps[3]);
void low_resolution(float* image, float* scratch, const Size3& size, const LowSize& low);
void scale(float* image, std::int64_t voxels, float factor);
void shift(float* image, std::int64_t voxels, float offset);
/// \param scratch of stats_scratch_bytes() (unused on the CPU). *stats lies where the image lies.
void stats(const float* image, std::int64_t voxels, void* scratch, Stats* stats);
void contrast(float* image, std::int64_t voxels, float factor, const Stats* stats);
void gamma(float* image, std::int64_t voxels, float exponent, bool invert, const Stats* stats);
void restore(float* image, std::int64_t voxels, const Stats* before, const Stats* after);
void fill_mean(float* image, std::int64_t voxels, const Stats* stats);

}  // namespace cpu

/// Launchers; none waits. `stream` is a cudaStream_t; pointers are device memory. In a build
/// without CUDA each throws Error(Usage).
namespace cuda {

using Stream = void*;

/// Devices that the driver offers; 0 without a driver or in a build without CUDA.
int device_count();
/// True if this build holds CUDA kernels.
bool compiled();
std::size_t stats_scratch_bytes();

void crop_image(const float* image,
                const Size3& size,
                std::int64_t channels,
                const CropPlace& place,
                const Size3& patch,
                float* out,
                Stream stream);
void crop_label(const std::int16_t* label,
                const Size3& size,
                const CropPlace& place,
                const Size3& patch,
                std::int16_t* out,
                Stream stream);
void affine_image(const float* image,
                  const Size3& size,
                  std::int64_t channels,
                  const Affine3& map,
                  const Size3& patch,
                  float* out,
                  Stream stream);
void affine_label(const std::int16_t* label,
                  const Size3& size,
                  const Affine3& map,
                  const Size3& patch,
                  std::int16_t* out,
                  Stream stream);
void add_noise(float* image,
               std::int64_t voxels,
               std::int64_t channels,
               float deviation,
               std::uint64_t key,
               Stream stream);
void blur(float* image, float* scratch, const Size3& size, const BlurTaps taps[3], Stream stream);
void low_resolution(
    float* image, float* scratch, const Size3& size, const LowSize& low, Stream stream);
void scale(float* image, std::int64_t voxels, float factor, Stream stream);
void shift(float* image, std::int64_t voxels, float offset, Stream stream);
void stats(const float* image, std::int64_t voxels, void* scratch, Stats* stats, Stream stream);
void contrast(float* image, std::int64_t voxels, float factor, const Stats* stats, Stream stream);
void gamma(float* image,
           std::int64_t voxels,
           float exponent,
           bool invert,
           const Stats* stats,
           Stream stream);
void restore(
    float* image, std::int64_t voxels, const Stats* before, const Stats* after, Stream stream);
void fill_mean(float* image, std::int64_t voxels, const Stats* stats, Stream stream);

// Plain device memory for callers below the torch line (tests, tools): allocation, copies, waiting.
void* allocate(std::size_t bytes);
void release(void* memory) noexcept;
void copy_to_device(void* device, const void* host, std::size_t bytes);
void copy_to_host(void* host, const void* device, std::size_t bytes);
void wait(Stream stream);

}  // namespace cuda
}  // namespace nas::kernels
