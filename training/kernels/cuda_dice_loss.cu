// SPDX-License-Identifier: Apache-2.0
#include "nas/core/error.h"
#include "training/kernels/cuda_instances.h"
#include "training/kernels/cuda_slabs.h"
#include "training/kernels/dice_loss.h"
#include "training/kernels/loss_formulas.h"

// A block sums one slab of voxels for kChunk classes, so that the sums of a thread fit its
// registers whatever the number of classes; with more classes the normaliser is found once per
// chunk.

namespace nas::kernels::cuda {
namespace {

constexpr std::int64_t kSlab = 4096;  // voxels: fixed, so that sums do not depend on the device
constexpr int kChunk = 8;             // classes
constexpr int kValues = 3 * kChunk + 2;

std::int64_t slabs_of(const LogitsShape& shape) { return (shape.voxels + kSlab - 1) / kSlab; }

void check(const LogitsShape& shape) {
  NAS_CHECK_KIND(Shape,
                 shape.samples > 0 && shape.classes > 0 && shape.voxels > 0,
                 "loss: empty logits [",
                 shape.samples,
                 ", ",
                 shape.classes,
                 ", ",
                 shape.voxels,
                 "]");
}

/// LogitsShape with its strides, for the device.
struct Layout {
  std::int64_t classes, voxels, class_stride, voxel_stride;
};
Layout layout_of(const LogitsShape& s) {
  return {s.classes, s.voxels, s.class_stride(), s.voxel_stride()};
}

/// Log of the sum of exponentials of a voxel's logits.
template <class T>
__device__ float log_sum_exp(const T* logit, const Layout& l) {
  float top = widen(logit[0]);
  for (std::int64_t k = 1; k < l.classes; ++k) {
    const float z = widen(logit[k * l.class_stride]);
    top = z > top ? z : top;
  }
  float sum = 0.0f;
  for (std::int64_t k = 0; k < l.classes; ++k) {
    sum += expf(widen(logit[k * l.class_stride]) - top);
  }
  return logf(sum) + top;
}

/// What a thread has summed: of each class of the chunk, and of the voxels.
struct Sums {
  float overlap[kChunk], predicted[kChunk], reference[kChunk], nll, count;
};

/// Adds the threads of a block in a fixed order and stores the slab's row (loss_sums_width).
__device__ void store_sums(const Sums& own,
                           std::int64_t sample,
                           std::int64_t classes,
                           double* partial) {
  constexpr int kLanes = 8, kPerLane = kThreads / kLanes;
  __shared__ float values[kValues][kThreads + 1];  // + 1: other banks for other values
  __shared__ double lanes[kValues][kLanes];
  const int t = static_cast<int>(threadIdx.x);
  for (int k = 0; k < kChunk; ++k) {
    values[k][t] = own.overlap[k];
    values[kChunk + k][t] = own.predicted[k];
    values[2 * kChunk + k][t] = own.reference[k];
  }
  values[3 * kChunk][t] = own.nll;
  values[3 * kChunk + 1][t] = own.count;
  __syncthreads();
  if (t < kValues * kLanes) {
    const int value = t / kLanes, lane = t % kLanes;
    double sum = 0;
    for (int i = 0; i < kPerLane; ++i) {
      sum += static_cast<double>(values[value][lane * kPerLane + i]);
    }
    lanes[value][lane] = sum;
  }
  __syncthreads();
  if (t >= kValues) return;
  double sum = 0;
  for (int lane = 0; lane < kLanes; ++lane) sum += lanes[t][lane];
  const std::int64_t part = blockIdx.z, parts = gridDim.z;
  double* row = partial + (sample * gridDim.x + blockIdx.x) * (3 * classes + 2 * parts);
  if (t >= 3 * kChunk) {
    row[3 * classes + (t - 3 * kChunk) * parts + part] = sum;
    return;
  }
  const std::int64_t k = part * kChunk + t % kChunk;
  if (k < classes) row[t / kChunk * classes + k] = sum;
}
static_assert(kValues * 8 <= kThreads, "one thread adds each lane of a value");

/// What a block sums: voxels [begin, end) of a sample, for the classes from `from_class` on.
struct Slab {
  std::int64_t sample, begin, end, from_class;
};
__device__ Slab slab_of_block(const Layout& l) {
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * kSlab;
  return {static_cast<std::int64_t>(blockIdx.y),
          begin,
          begin + kSlab < l.voxels ? begin + kSlab : l.voxels,
          static_cast<std::int64_t>(blockIdx.z) * kChunk};
}

__device__ void clear(Sums& s) {
  for (int k = 0; k < kChunk; ++k) s.overlap[k] = s.predicted[k] = s.reference[k] = 0.0f;
  s.nll = s.count = 0.0f;
}

/// Grid (slabs, samples, parts).
template <class T>
__global__ void ce_sums_kernel(
    const T* logits, const std::int16_t* target, Layout l, float gamma, double* partial) {
  const auto [n, first, last, from_class] = slab_of_block(l);
  Sums s;
  clear(s);
  for (std::int64_t v = first + threadIdx.x; v < last; v += kThreads) {
    const std::int64_t t = target[n * l.voxels + v];
    if (t < 0 || t >= l.classes) continue;
    const T* logit = logits + n * l.classes * l.voxels + v * l.voxel_stride;
    const float normaliser = log_sum_exp(logit, l);
    for (int k = 0; k < kChunk; ++k) {
      if (from_class + k >= l.classes) break;
      const float p = expf(widen(logit[(from_class + k) * l.class_stride]) - normaliser);
      const bool hit = from_class + k == t;
      s.predicted[k] += p;
      s.overlap[k] += hit ? p : 0.0f;
      s.reference[k] += hit ? 1.0f : 0.0f;
    }
    if (blockIdx.z != 0) continue;  // the voxel's own terms once
    const float surprise = normaliser - widen(logit[t * l.class_stride]);
    const float missed = 1.0f - expf(-surprise);
    s.nll += gamma > 0.0f ? surprise * powf(missed > 0.0f ? missed : 0.0f, gamma) : surprise;
    s.count += 1.0f;
  }
  store_sums(s, n, l.classes, partial);
}

/// Grid (blocks, samples).
template <class T>
__global__ void ce_gradient_kernel(const T* logits,
                                   const std::int16_t* target,
                                   Layout l,
                                   float gamma,
                                   const double* a,
                                   const double* b,
                                   const double* ce_scale,
                                   const float* upstream,
                                   T* gradient) {
  const std::int64_t n = blockIdx.y;
  const float up = *upstream, scale = static_cast<float>(*ce_scale);
  const double* by_overlap = a + n * l.classes;
  const double* by_sum = b + n * l.classes;
  for (std::int64_t v = thread_index(); v < l.voxels; v += thread_count()) {
    const std::int64_t t = target[n * l.voxels + v];
    const std::int64_t at = n * l.classes * l.voxels + v * l.voxel_stride;
    if (t < 0 || t >= l.classes) {
      for (std::int64_t k = 0; k < l.classes; ++k) narrow(0.0f, gradient[at + k * l.class_stride]);
      continue;
    }
    const float normaliser = log_sum_exp(logits + at, l);
    const float p_target = expf(widen(logits[at + t * l.class_stride]) - normaliser);
    float mean = static_cast<float>(by_overlap[t]) * p_target;
    for (std::int64_t k = 0; k < l.classes; ++k) {
      mean +=
          static_cast<float>(by_sum[k]) * expf(widen(logits[at + k * l.class_stride]) - normaliser);
    }
    const float ce = scale * focal_factor(p_target, gamma);
    for (std::int64_t k = 0; k < l.classes; ++k) {
      const float p = expf(widen(logits[at + k * l.class_stride]) - normaliser);
      const float hit = k == t ? 1.0f : 0.0f;
      const float g =
          p * (static_cast<float>(by_sum[k]) + hit * static_cast<float>(by_overlap[k]) - mean) +
          ce * (p - hit);
      narrow(up * g, gradient[at + k * l.class_stride]);
    }
  }
}

template <class T>
__global__ void bce_sums_kernel(
    const T* logits, const std::uint8_t* target, std::int64_t channels, Layout l, double* partial) {
  const auto [n, first, last, from_class] = slab_of_block(l);
  const std::uint8_t* there = target + n * channels * l.voxels;
  Sums s;
  clear(s);
  for (std::int64_t v = first + threadIdx.x; v < last; v += kThreads) {
    if (channels > l.classes && there[l.classes * l.voxels + v] != 0) continue;
    const T* logit = logits + n * l.classes * l.voxels + v * l.voxel_stride;
    for (int k = 0; k < kChunk; ++k) {
      if (from_class + k >= l.classes) break;
      const float z = widen(logit[(from_class + k) * l.class_stride]);
      const float decay = decay_of(z), p = sigmoid(z, decay);
      const bool hit = there[(from_class + k) * l.voxels + v] != 0;
      s.predicted[k] += p;
      s.overlap[k] += hit ? p : 0.0f;
      s.reference[k] += hit ? 1.0f : 0.0f;
      s.nll += cross_entropy_of_logit(z, decay, hit);
    }
    if (blockIdx.z == 0) s.count += 1.0f;
  }
  store_sums(s, n, l.classes, partial);
}

template <class T>
__global__ void bce_gradient_kernel(const T* logits,
                                    const std::uint8_t* target,
                                    std::int64_t channels,
                                    Layout l,
                                    const double* a,
                                    const double* b,
                                    const double* ce_scale,
                                    const float* upstream,
                                    T* gradient) {
  const std::int64_t n = blockIdx.y;
  const float up = *upstream, scale = static_cast<float>(*ce_scale);
  const std::uint8_t* there = target + n * channels * l.voxels;
  for (std::int64_t v = thread_index(); v < l.voxels; v += thread_count()) {
    const bool counts = channels <= l.classes || there[l.classes * l.voxels + v] == 0;
    const std::int64_t at = n * l.classes * l.voxels + v * l.voxel_stride;
    for (std::int64_t k = 0; k < l.classes; ++k) {
      const float z = widen(logits[at + k * l.class_stride]);
      const float p = sigmoid(z, decay_of(z));
      const float hit = there[k * l.voxels + v] != 0 ? 1.0f : 0.0f;
      const float slope =
          static_cast<float>(b[n * l.classes + k]) + hit * static_cast<float>(a[n * l.classes + k]);
      const float g = counts ? p * (1.0f - p) * slope + scale * (p - hit) : 0.0f;
      narrow(counts ? up * g : 0.0f, gradient[at + k * l.class_stride]);
    }
  }
}

dim3 sums_grid(const LogitsShape& s) {
  return {static_cast<unsigned>(slabs_of(s)),
          static_cast<unsigned>(s.samples),
          static_cast<unsigned>(loss_parts(s.classes))};
}
dim3 gradient_grid(const LogitsShape& s) {
  return {blocks_for(s.voxels), static_cast<unsigned>(s.samples)};
}

}  // namespace

std::int64_t loss_parts(std::int64_t classes) { return (classes + kChunk - 1) / kChunk; }

std::size_t loss_scratch_bytes(const LogitsShape& shape) {
  check(shape);
  return static_cast<std::size_t>(shape.samples * slabs_of(shape) *
                                  loss_sums_width(shape.classes)) *
         sizeof(double);
}

template <class T>
void dice_ce_sums(const T* logits,
                  const std::int16_t* target,
                  const LogitsShape& shape,
                  float gamma,
                  double* sums,
                  void* scratch,
                  void* stream) {
  check(shape);
  auto* partial = static_cast<double*>(scratch);
  NAS_LAUNCH(ce_sums_kernel<T>,
             sums_grid(shape),
             kThreads,
             stream,
             logits,
             target,
             layout_of(shape),
             gamma,
             partial);
  sum_slabs(partial, shape.samples, slabs_of(shape), loss_sums_width(shape.classes), sums, stream);
}

template <class T>
void dice_ce_gradient(const T* logits,
                      const std::int16_t* target,
                      const LogitsShape& shape,
                      float gamma,
                      const double* a,
                      const double* b,
                      const double* ce,
                      const float* upstream,
                      T* gradient,
                      void* stream) {
  check(shape);
  NAS_LAUNCH(ce_gradient_kernel<T>,
             gradient_grid(shape),
             kThreads,
             stream,
             logits,
             target,
             layout_of(shape),
             gamma,
             a,
             b,
             ce,
             upstream,
             gradient);
}

template <class T>
void dice_bce_sums(const T* logits,
                   const std::uint8_t* target,
                   std::int64_t channels,
                   const LogitsShape& shape,
                   double* sums,
                   void* scratch,
                   void* stream) {
  check(shape);
  auto* partial = static_cast<double*>(scratch);
  NAS_LAUNCH(bce_sums_kernel<T>,
             sums_grid(shape),
             kThreads,
             stream,
             logits,
             target,
             channels,
             layout_of(shape),
             partial);
  sum_slabs(partial, shape.samples, slabs_of(shape), loss_sums_width(shape.classes), sums, stream);
}

template <class T>
void dice_bce_gradient(const T* logits,
                       const std::uint8_t* target,
                       std::int64_t channels,
                       const LogitsShape& shape,
                       const double* a,
                       const double* b,
                       const double* ce,
                       const float* upstream,
                       T* gradient,
                       void* stream) {
  check(shape);
  NAS_LAUNCH(bce_gradient_kernel<T>,
             gradient_grid(shape),
             kThreads,
             stream,
             logits,
             target,
             channels,
             layout_of(shape),
             a,
             b,
             ce,
             upstream,
             gradient);
}

NAS_DICE_LOSS_INSTANCES(float);
NAS_DICE_LOSS_INSTANCES(Bf16);

}  // namespace nas::kernels::cuda
