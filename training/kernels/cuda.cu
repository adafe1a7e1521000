// SPDX-License-Identifier: Apache-2.0
#include "training/kernels/cuda_launch.h"
#include "training/kernels/kernels.h"

// One thread per voxel (or per four voxels for noise), grid-stride loops with 64-bit indices. No
// torch here: a file with it compiles for a minute, this one for a second.

namespace nas::kernels::cuda {
namespace {

constexpr int kStatsBlocks = 128;  // fixed: the order of a sum must not depend on the device

cudaStream_t as_stream(Stream stream) { return static_cast<cudaStream_t>(stream); }

struct Place {
  std::int64_t z, y, x;
};
__device__ Place place_of(std::int64_t index, const Size3& size) {
  return {index / (size.h * size.w), index / size.w % size.h, index % size.w};
}

/// Source offset of a patch voxel of a plain crop, -1 for padding.
__device__ std::int64_t crop_offset(std::int64_t index,
                                    const Size3& size,
                                    const CropPlace& place,
                                    const Size3& patch) {
  const Place p = place_of(index, patch);
  const std::int64_t z = crop_index(p.z, place.begin[0], patch.d, place.flip[0]);
  const std::int64_t y = crop_index(p.y, place.begin[1], patch.h, place.flip[1]);
  const std::int64_t x = crop_index(p.x, place.begin[2], patch.w, place.flip[2]);
  const bool inside = z >= 0 && z < size.d && y >= 0 && y < size.h && x >= 0 && x < size.w;
  return inside ? (z * size.h + y) * size.w + x : -1;
}

__global__ void crop_image_kernel(const float* image,
                                  Size3 size,
                                  std::int64_t channels,
                                  CropPlace place,
                                  Size3 patch,
                                  float* out) {
  const std::int64_t n = voxel_count(patch), source = voxel_count(size);
  for (std::int64_t i = thread_index(); i < n; i += thread_count()) {
    const std::int64_t from = crop_offset(i, size, place, patch);
    for (std::int64_t c = 0; c < channels; ++c) {
      out[c * n + i] = from >= 0 ? image[c * source + from] : 0.0f;
    }
  }
}

__global__ void crop_label_kernel(
    const std::int16_t* label, Size3 size, CropPlace place, Size3 patch, std::int16_t* out) {
  for (std::int64_t i = thread_index(); i < voxel_count(patch); i += thread_count()) {
    const std::int64_t from = crop_offset(i, size, place, patch);
    out[i] = from >= 0 ? clean_label(label[from]) : static_cast<std::int16_t>(0);
  }
}

__global__ void affine_image_kernel(
    const float* image, Size3 size, std::int64_t channels, Affine3 map, Size3 patch, float* out) {
  const std::int64_t n = voxel_count(patch), source = voxel_count(size);
  for (std::int64_t i = thread_index(); i < n; i += thread_count()) {
    const Place p = place_of(i, patch);
    Corners corners;
    const bool inside = find_corners(size, affine_point(map, p.z, p.y, p.x), corners);
    for (std::int64_t c = 0; c < channels; ++c) {
      out[c * n + i] = inside ? sample_trilinear(image + c * source, corners) : 0.0f;
    }
  }
}

__global__ void affine_label_kernel(
    const std::int16_t* label, Size3 size, Affine3 map, Size3 patch, std::int16_t* out) {
  for (std::int64_t i = thread_index(); i < voxel_count(patch); i += thread_count()) {
    const Place p = place_of(i, patch);
    Corners corners;
    const bool inside = find_corners(size, affine_point(map, p.z, p.y, p.x), corners);
    out[i] = inside ? sample_label(label, corners) : static_cast<std::int16_t>(0);
  }
}

__global__ void noise_kernel(
    float* image, std::int64_t voxels, std::int64_t channels, float deviation, std::uint64_t key) {
  const std::int64_t groups = (voxels + 3) / 4;
  for (std::int64_t g = thread_index(); g < groups; g += thread_count()) {
    float noise[4];
    normal4(key, static_cast<std::uint64_t>(g), noise);
    for (std::int64_t c = 0; c < channels; ++c) {
      for (int k = 0; k < 4; ++k) {
        if (4 * g + k < voxels) image[c * voxels + 4 * g + k] += deviation * noise[k];
      }
    }
  }
}

/// One axis of a blur: the volume seen as [outer, n, inner].
__global__ void blur_kernel(const float* in,
                            float* out,
                            std::int64_t count,
                            std::int64_t n,
                            std::int64_t inner,
                            BlurTaps taps) {
  for (std::int64_t i = thread_index(); i < count; i += thread_count()) {
    const std::int64_t at = i / inner % n;
    const float* line = in + i - at * inner;
    float sum = taps.weight[0] * line[reflect_index(at - taps.radius, n) * inner];
    for (int k = 1; k <= 2 * taps.radius; ++k) {
      sum += taps.weight[k] * line[reflect_index(at + k - taps.radius, n) * inner];
    }
    out[i] = sum;
  }
}

__global__ void low_resolution_kernel(const float* in, float* out, Size3 size, LowSize low) {
  const std::int64_t plane = size.h * size.w;
  for (std::int64_t i = thread_index(); i < voxel_count(size); i += thread_count()) {
    const Place p = place_of(i, size);
    const LowTap z = low_resolution_tap(p.z, low.d, size.d);
    const LowTap y = low_resolution_tap(p.y, low.h, size.h);
    const LowTap x = low_resolution_tap(p.x, low.w, size.w);
    // W, then H, then D: the order of the CPU loops.
    float planes[2];
    for (int k = 0; k < 2; ++k) {
      const float* from = in + (k ? z.second : z.first) * plane;
      const float* a = from + y.first * size.w;
      const float* b = from + y.second * size.w;
      planes[k] = mix(
          mix(a[x.first], a[x.second], x.weight), mix(b[x.first], b[x.second], x.weight), y.weight);
    }
    out[i] = mix(planes[0], planes[1], z.weight);
  }
}

__global__ void scale_kernel(float* image, std::int64_t voxels, float factor) {
  for (std::int64_t i = thread_index(); i < voxels; i += thread_count()) image[i] *= factor;
}

__global__ void shift_kernel(float* image, std::int64_t voxels, float offset) {
  for (std::int64_t i = thread_index(); i < voxels; i += thread_count()) image[i] += offset;
}

struct Partial {
  float minimum, maximum;
  double sum, square;
};
__device__ Partial merge(const Partial& a, const Partial& b) {
  return {b.minimum < a.minimum ? b.minimum : a.minimum,
          b.maximum > a.maximum ? b.maximum : a.maximum,
          a.sum + b.sum,
          a.square + b.square};
}

__global__ void stats_kernel(const float* image, std::int64_t voxels, Partial* partials) {
  __shared__ Partial shared[kThreads];
  Partial own{image[0], image[0], 0.0, 0.0};
  for (std::int64_t i = thread_index(); i < voxels; i += thread_count()) {
    const double x = static_cast<double>(image[i]);
    own = merge(own, {image[i], image[i], x, x * x});
  }
  shared[threadIdx.x] = own;
  __syncthreads();
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) {
      shared[threadIdx.x] = merge(shared[threadIdx.x], shared[threadIdx.x + half]);
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) partials[blockIdx.x] = shared[0];
}

__global__ void stats_finish_kernel(const Partial* partials, std::int64_t voxels, Stats* stats) {
  Partial all = partials[0];
  for (int i = 1; i < kStatsBlocks; ++i) all = merge(all, partials[i]);
  const double n = static_cast<double>(voxels);
  const double mean = all.sum / n;
  const double variance = all.square / n - mean * mean;
  *stats = {all.minimum,
            all.maximum,
            static_cast<float>(mean),
            static_cast<float>(sqrt(variance < 0 ? 0.0 : variance))};
}

__global__ void contrast_kernel(float* image,
                                std::int64_t voxels,
                                float factor,
                                const Stats* stats) {
  const Stats s = *stats;
  for (std::int64_t i = thread_index(); i < voxels; i += thread_count()) {
    image[i] = contrast_voxel(image[i], factor, s);
  }
}

__global__ void gamma_kernel(
    float* image, std::int64_t voxels, float exponent, float sign, const Stats* stats) {
  const Stats s = *stats;
  for (std::int64_t i = thread_index(); i < voxels; i += thread_count()) {
    image[i] = gamma_voxel(image[i], exponent, sign, s);
  }
}

__global__ void restore_kernel(float* image,
                               std::int64_t voxels,
                               const Stats* before,
                               const Stats* after) {
  const Stats a = *before, b = *after;
  for (std::int64_t i = thread_index(); i < voxels; i += thread_count()) {
    image[i] = restore_voxel(image[i], a, b);
  }
}

__global__ void fill_mean_kernel(float* image, std::int64_t voxels, const Stats* stats) {
  const float mean = stats->mean;
  for (std::int64_t i = thread_index(); i < voxels; i += thread_count()) image[i] = mean;
}

}  // namespace

int device_count() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    cudaGetLastError();  // no driver is no error here
    return 0;
  }
  return count;
}
bool compiled() { return true; }
std::size_t stats_scratch_bytes() { return sizeof(Partial) * kStatsBlocks; }

void crop_image(const float* image,
                const Size3& size,
                std::int64_t channels,
                const CropPlace& place,
                const Size3& patch,
                float* out,
                Stream stream) {
  NAS_LAUNCH(crop_image_kernel,
             blocks_for(voxel_count(patch)),
             kThreads,
             stream,
             image,
             size,
             channels,
             place,
             patch,
             out);
}

void crop_label(const std::int16_t* label,
                const Size3& size,
                const CropPlace& place,
                const Size3& patch,
                std::int16_t* out,
                Stream stream) {
  NAS_LAUNCH(crop_label_kernel,
             blocks_for(voxel_count(patch)),
             kThreads,
             stream,
             label,
             size,
             place,
             patch,
             out);
}

void affine_image(const float* image,
                  const Size3& size,
                  std::int64_t channels,
                  const Affine3& map,
                  const Size3& patch,
                  float* out,
                  Stream stream) {
  NAS_LAUNCH(affine_image_kernel,
             blocks_for(voxel_count(patch)),
             kThreads,
             stream,
             image,
             size,
             channels,
             map,
             patch,
             out);
}

void affine_label(const std::int16_t* label,
                  const Size3& size,
                  const Affine3& map,
                  const Size3& patch,
                  std::int16_t* out,
                  Stream stream) {
  NAS_LAUNCH(affine_label_kernel,
             blocks_for(voxel_count(patch)),
             kThreads,
             stream,
             label,
             size,
             map,
             patch,
             out);
}

void add_noise(float* image,
               std::int64_t voxels,
               std::int64_t channels,
               float deviation,
               std::uint64_t key,
               Stream stream) {
  NAS_LAUNCH(noise_kernel,
             blocks_for((voxels + 3) / 4),
             kThreads,
             stream,
             image,
             voxels,
             channels,
             deviation,
             key);
}

void blur(float* image, float* scratch, const Size3& size, const BlurTaps taps[3], Stream stream) {
  const std::int64_t count = voxel_count(size);
  const std::int64_t lengths[3] = {size.d, size.h, size.w};
  const std::int64_t inner[3] = {size.h * size.w, size.w, 1};
  float* in = image;
  float* out = scratch;
  for (int a = 0; a < 3; ++a) {
    if (taps[a].radius == 0) continue;
    NAS_LAUNCH(blur_kernel,
               blocks_for(count),
               kThreads,
               stream,
               in,
               out,
               count,
               lengths[a],
               inner[a],
               taps[a]);
    float* last = in;
    in = out;
    out = last;
  }
  if (in != image) {
    NAS_CUDA_CHECK(cudaMemcpyAsync(image,
                                   in,
                                   sizeof(float) * static_cast<std::size_t>(count),
                                   cudaMemcpyDeviceToDevice,
                                   as_stream(stream)));
  }
}

void low_resolution(
    float* image, float* scratch, const Size3& size, const LowSize& low, Stream stream) {
  const std::int64_t count = voxel_count(size);
  NAS_LAUNCH(low_resolution_kernel, blocks_for(count), kThreads, stream, image, scratch, size, low);
  NAS_CUDA_CHECK(cudaMemcpyAsync(image,
                                 scratch,
                                 sizeof(float) * static_cast<std::size_t>(count),
                                 cudaMemcpyDeviceToDevice,
                                 as_stream(stream)));
}

void scale(float* image, std::int64_t voxels, float factor, Stream stream) {
  NAS_LAUNCH(scale_kernel, blocks_for(voxels), kThreads, stream, image, voxels, factor);
}

void shift(float* image, std::int64_t voxels, float offset, Stream stream) {
  NAS_LAUNCH(shift_kernel, blocks_for(voxels), kThreads, stream, image, voxels, offset);
}

void stats(const float* image, std::int64_t voxels, void* scratch, Stats* stats, Stream stream) {
  auto* partials = static_cast<Partial*>(scratch);
  NAS_LAUNCH(stats_kernel, kStatsBlocks, kThreads, stream, image, voxels, partials);
  NAS_LAUNCH(stats_finish_kernel, 1, 1, stream, partials, voxels, stats);
}

void contrast(float* image, std::int64_t voxels, float factor, const Stats* stats, Stream stream) {
  NAS_LAUNCH(contrast_kernel, blocks_for(voxels), kThreads, stream, image, voxels, factor, stats);
}

void gamma(float* image,
           std::int64_t voxels,
           float exponent,
           bool invert,
           const Stats* stats,
           Stream stream) {
  NAS_LAUNCH(gamma_kernel,
             blocks_for(voxels),
             kThreads,
             stream,
             image,
             voxels,
             exponent,
             invert ? -1.0f : 1.0f,
             stats);
}

void restore(
    float* image, std::int64_t voxels, const Stats* before, const Stats* after, Stream stream) {
  NAS_LAUNCH(restore_kernel, blocks_for(voxels), kThreads, stream, image, voxels, before, after);
}

void fill_mean(float* image, std::int64_t voxels, const Stats* stats, Stream stream) {
  NAS_LAUNCH(fill_mean_kernel, blocks_for(voxels), kThreads, stream, image, voxels, stats);
}

void* allocate(std::size_t bytes) {
  void* memory = nullptr;
  NAS_CUDA_CHECK(cudaMalloc(&memory, bytes));
  return memory;
}
void release(void* memory) noexcept { cudaFree(memory); }
void copy_to_device(void* device, const void* host, std::size_t bytes) {
  NAS_CUDA_CHECK(cudaMemcpy(device, host, bytes, cudaMemcpyHostToDevice));
}
void copy_to_host(void* host, const void* device, std::size_t bytes) {
  NAS_CUDA_CHECK(cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost));
}
void wait(Stream stream) { NAS_CUDA_CHECK(cudaStreamSynchronize(as_stream(stream))); }

}  // namespace nas::kernels::cuda
