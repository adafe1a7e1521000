// SPDX-License-Identifier: Apache-2.0
#include <type_traits>

#include "training/kernels/cuda_instances.h"
#include "training/kernels/cuda_slabs.h"
#include "training/kernels/norm_act.h"

// Two passes over memory each way: sums by slabs of voxels, then the values. In a block a thread
// keeps to its channels, so that what belongs to a channel is read once.

namespace nas::kernels::cuda {
namespace {

/// How a shape is cut; depends on the shape alone.
struct Cut {
  NormActShape shape;
  std::int64_t rows;   // voxels of a slab
  std::int64_t slabs;  // of a sample
};
Cut cut_of(const NormActShape& shape) {
  check_shape(shape);
  // Long enough that a thread adds some dozens of voxels, short enough for a few hundred blocks.
  const std::int64_t wanted = 65536 / shape.channels;
  const std::int64_t rows = wanted < 16 ? 16 : wanted > 4096 ? 4096 : wanted;
  return {shape, rows, (shape.voxels + rows - 1) / rows};
}

/// The channels and voxels of this thread: block (slab, sample), channels in groups of N.
struct Work {
  std::int64_t groups, sample, base;  // base: offset of the sample's first voxel
  std::int64_t begin, end;            // voxels of the slab
  int width, lanes, column, lane;     // a block holds `lanes` voxels of `width` groups
};
template <int N>
__device__ Work work_of(const Cut& cut) {
  Work w;
  w.groups = cut.shape.channels / N;
  w.sample = blockIdx.y;
  w.base = w.sample * cut.shape.voxels * cut.shape.channels;
  w.begin = static_cast<std::int64_t>(blockIdx.x) * cut.rows;
  w.end = w.begin + cut.rows < cut.shape.voxels ? w.begin + cut.rows : cut.shape.voxels;
  w.width = w.groups < kThreads ? static_cast<int>(w.groups) : kThreads;
  w.lanes = kThreads / w.width;
  w.column = static_cast<int>(threadIdx.x) % w.width;
  w.lane = static_cast<int>(threadIdx.x) / w.width;
  return w;
}

template <int N, class T>
__device__ const Pack<T, N>& pack_at(const T* data, std::int64_t offset) {
  return *reinterpret_cast<const Pack<T, N>*>(data + offset);
}

/// Adds the lanes of a block in order and stores [slab][2 * channels]: first sums, then seconds.
template <int N>
__device__ void store_sums(const Cut& cut,
                           const Work& w,
                           std::int64_t group,
                           const float* first,
                           const float* second,
                           double* partial) {
  __shared__ float shared[2][kThreads][N];
  __syncthreads();  // the groups before have been read
  for (int k = 0; k < N; ++k) {
    shared[0][threadIdx.x][k] = first[k];
    shared[1][threadIdx.x][k] = second[k];
  }
  __syncthreads();
  if (w.lane != 0 || group >= w.groups) return;
  const std::int64_t channels = cut.shape.channels;
  double* to = partial + (w.sample * cut.slabs + blockIdx.x) * 2 * channels + group * N;
  for (int which = 0; which < 2; ++which) {
    for (int k = 0; k < N; ++k) {
      double sum = 0;
      for (int lane = 0; lane < w.lanes; ++lane) {
        sum += static_cast<double>(shared[which][lane * w.width + w.column][k]);
      }
      to[which * channels + k] = sum;
    }
  }
}

/// Sums of x - pivot and of its square; the pivot is the sample's first voxel, so that nothing
/// cancels where the mean is far from zero.
template <class T, int N>
__global__ void moments_kernel(const T* x, Cut cut, double* partial) {
  const Work w = work_of<N>(cut);
  for (std::int64_t first = 0; first < w.groups; first += w.width) {
    const std::int64_t group = first + w.column;
    float sum[N], square[N];
    for (int k = 0; k < N; ++k) sum[k] = square[k] = 0.0f;
    if (group < w.groups && w.lane < w.lanes) {
      const T* from = x + w.base + group * N;
      const Pack<T, N> pivot = pack_at<N>(from, 0);
      for (std::int64_t v = w.begin + w.lane; v < w.end; v += w.lanes) {
        const Pack<T, N> value = pack_at<N>(from, v * cut.shape.channels);
        for (int k = 0; k < N; ++k) {
          const float d = widen(value.v[k]) - widen(pivot.v[k]);
          sum[k] += d;
          square[k] += d * d;
        }
      }
    }
    store_sums<N>(cut, w, group, sum, square, partial);
  }
}

/// y = a x + b of a channel: the same in both directions, so that z has the same sign.
struct Line {
  float a, b;
};
__device__ Line
line_of(const float* gamma, const float* beta, float mean, float rstd, std::int64_t c) {
  const double g = gamma ? static_cast<double>(gamma[c]) : 1.0;
  const float a = static_cast<float>(g * static_cast<double>(rstd));
  const double b = beta ? static_cast<double>(beta[c]) : 0.0;
  return {a, static_cast<float>(b - static_cast<double>(a) * static_cast<double>(mean))};
}

template <class T>
__global__ void statistics_kernel(
    const T* x, Cut cut, const double* sums, float eps, float* mean, float* rstd) {
  const std::int64_t channels = cut.shape.channels, all = cut.shape.samples * channels;
  for (std::int64_t i = thread_index(); i < all; i += thread_count()) {
    const std::int64_t n = i / channels, c = i % channels;
    const double count = static_cast<double>(cut.shape.voxels);
    const double shifted = sums[n * 2 * channels + c] / count;
    const double variance = sums[(n * 2 + 1) * channels + c] / count - shifted * shifted;
    const float pivot = widen(x[n * cut.shape.voxels * channels + c]);
    // A NaN in x must reach the output: no max() that would drop it.
    mean[i] = static_cast<float>(static_cast<double>(pivot) + shifted);
    rstd[i] =
        static_cast<float>(1.0 / sqrt((variance < 0 ? 0.0 : variance) + static_cast<double>(eps)));
  }
}

template <class T, int N>
__global__ void apply_kernel(const T* x,
                             Cut cut,
                             const float* gamma,
                             const float* beta,
                             const float* mean,
                             const float* rstd,
                             float slope,
                             T* y) {
  const Work w = work_of<N>(cut);
  if (w.lane >= w.lanes) return;
  for (std::int64_t group = w.column; group < w.groups; group += w.width) {
    Line line[N];
    for (int k = 0; k < N; ++k) {
      const std::int64_t c = group * N + k, i = w.sample * cut.shape.channels + c;
      line[k] = line_of(gamma, beta, mean[i], rstd[i], c);
    }
    for (std::int64_t v = w.begin + w.lane; v < w.end; v += w.lanes) {
      const std::int64_t at = w.base + v * cut.shape.channels + group * N;
      Pack<T, N> value = pack_at<N>(x, at);
      for (int k = 0; k < N; ++k) {
        const float z = line[k].a * widen(value.v[k]) + line[k].b;
        narrow(z > 0.0f ? z : z * slope, value.v[k]);
      }
      *reinterpret_cast<Pack<T, N>*>(y + at) = value;
    }
  }
}

/// Sums of g and of g (x - mean); g = dy where z > 0, slope dy elsewhere.
template <class T, int N>
__global__ void gradient_sums_kernel(const T* dy,
                                     const T* x,
                                     Cut cut,
                                     const float* gamma,
                                     const float* beta,
                                     const float* mean,
                                     const float* rstd,
                                     float slope,
                                     double* partial) {
  const Work w = work_of<N>(cut);
  for (std::int64_t first = 0; first < w.groups; first += w.width) {
    const std::int64_t group = first + w.column;
    float sum[N], product[N];
    for (int k = 0; k < N; ++k) sum[k] = product[k] = 0.0f;
    if (group < w.groups && w.lane < w.lanes) {
      Line line[N];
      float centre[N];
      for (int k = 0; k < N; ++k) {
        const std::int64_t c = group * N + k, i = w.sample * cut.shape.channels + c;
        line[k] = line_of(gamma, beta, mean[i], rstd[i], c);
        centre[k] = mean[i];
      }
      for (std::int64_t v = w.begin + w.lane; v < w.end; v += w.lanes) {
        const std::int64_t at = w.base + v * cut.shape.channels + group * N;
        const Pack<T, N> value = pack_at<N>(x, at), up = pack_at<N>(dy, at);
        for (int k = 0; k < N; ++k) {
          const float in = widen(value.v[k]), d = widen(up.v[k]);
          const float g = line[k].a * in + line[k].b > 0.0f ? d : d * slope;
          sum[k] += g;
          product[k] += g * (in - centre[k]);
        }
      }
    }
    store_sums<N>(cut, w, group, sum, product, partial);
  }
}

/// dgamma and dbeta: over the samples in their order.
__global__ void affine_gradient_kernel(
    Cut cut, const double* sums, const float* rstd, float* dgamma, float* dbeta) {
  const std::int64_t channels = cut.shape.channels;
  for (std::int64_t c = thread_index(); c < channels; c += thread_count()) {
    double by_gamma = 0, by_beta = 0;
    for (std::int64_t n = 0; n < cut.shape.samples; ++n) {
      by_beta += sums[n * 2 * channels + c];
      by_gamma += sums[(n * 2 + 1) * channels + c] * static_cast<double>(rstd[n * channels + c]);
    }
    if (dgamma) dgamma[c] = static_cast<float>(by_gamma);
    if (dbeta) dbeta[c] = static_cast<float>(by_beta);
  }
}

/// dx = a (g - mean(g) - xhat mean(g xhat)), xhat = (x - mean) rstd.
template <class T, int N>
__global__ void gradient_kernel(const T* dy,
                                const T* x,
                                Cut cut,
                                const float* gamma,
                                const float* beta,
                                const float* mean,
                                const float* rstd,
                                const double* sums,
                                float slope,
                                T* dx) {
  const Work w = work_of<N>(cut);
  if (w.lane >= w.lanes) return;
  const std::int64_t channels = cut.shape.channels;
  const double count = static_cast<double>(cut.shape.voxels);
  for (std::int64_t group = w.column; group < w.groups; group += w.width) {
    Line line[N];
    float centre[N], p[N], q[N];
    for (int k = 0; k < N; ++k) {
      const std::int64_t c = group * N + k, i = w.sample * channels + c;
      line[k] = line_of(gamma, beta, mean[i], rstd[i], c);
      centre[k] = mean[i];
      const double scale = static_cast<double>(rstd[i]), a = static_cast<double>(line[k].a);
      p[k] =
          static_cast<float>(-a * sums[(w.sample * 2 + 1) * channels + c] / count * scale * scale);
      q[k] = static_cast<float>(-a * sums[w.sample * 2 * channels + c] / count);
    }
    for (std::int64_t v = w.begin + w.lane; v < w.end; v += w.lanes) {
      const std::int64_t at = w.base + v * channels + group * N;
      const Pack<T, N> value = pack_at<N>(x, at);
      Pack<T, N> up = pack_at<N>(dy, at);
      for (int k = 0; k < N; ++k) {
        const float in = widen(value.v[k]), d = widen(up.v[k]);
        const float g = line[k].a * in + line[k].b > 0.0f ? d : d * slope;
        narrow(line[k].a * g + p[k] * (in - centre[k]) + q[k], up.v[k]);
      }
      *reinterpret_cast<Pack<T, N>*>(dx + at) = up;
    }
  }
}

/// Scratch: the partial sums of all slabs, then their sums.
struct Scratch {
  double* partial;
  double* sums;
};
Scratch scratch_of(const Cut& cut, void* memory) {
  auto* partial = static_cast<double*>(memory);
  return {partial, partial + cut.shape.samples * cut.slabs * 2 * cut.shape.channels};
}

/// Calls run(pack) with the number of channels that are read at once as a type: as many as fit 16
/// bytes where the channels and all pointers allow it, else 1.
template <class T, class Run, class... Pointers>
void with_pack(const Cut& cut, const Run& run, const Pointers*... pointers) {
  constexpr int kPack = 16 / sizeof(T);
  const auto aligned = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; };
  if (cut.shape.channels % kPack == 0 && (aligned(pointers) && ...)) {
    run(std::integral_constant<int, kPack>());
  } else {
    run(std::integral_constant<int, 1>());
  }
}

dim3 grid_of(const Cut& cut) {
  return {static_cast<unsigned>(cut.slabs), static_cast<unsigned>(cut.shape.samples)};
}

}  // namespace

std::size_t norm_act_scratch_bytes(const NormActShape& shape) {
  const Cut cut = cut_of(shape);
  return static_cast<std::size_t>(shape.samples * (cut.slabs + 1) * 2 * shape.channels) *
         sizeof(double);
}

template <class T>
void norm_act_forward(const T* x,
                      const NormActShape& shape,
                      const float* gamma,
                      const float* beta,
                      float eps,
                      float slope,
                      T* y,
                      float* mean,
                      float* rstd,
                      void* scratch,
                      void* stream) {
  const Cut cut = cut_of(shape);
  const Scratch sums = scratch_of(cut, scratch);
  const dim3 grid = grid_of(cut);
  with_pack<T>(
      cut,
      [&](auto pack) {
        constexpr int N = decltype(pack)::value;
        NAS_LAUNCH((moments_kernel<T, N>), grid, kThreads, stream, x, cut, sums.partial);
        sum_slabs(sums.partial, shape.samples, cut.slabs, 2 * shape.channels, sums.sums, stream);
        NAS_LAUNCH(statistics_kernel<T>,
                   blocks_for(shape.samples * shape.channels),
                   kThreads,
                   stream,
                   x,
                   cut,
                   sums.sums,
                   eps,
                   mean,
                   rstd);
        NAS_LAUNCH((apply_kernel<T, N>),
                   grid,
                   kThreads,
                   stream,
                   x,
                   cut,
                   gamma,
                   beta,
                   mean,
                   rstd,
                   slope,
                   y);
      },
      x,
      y);
}

template <class T>
void norm_act_backward(const T* dy,
                       const T* x,
                       const NormActShape& shape,
                       const float* gamma,
                       const float* beta,
                       float slope,
                       const float* mean,
                       const float* rstd,
                       T* dx,
                       float* dgamma,
                       float* dbeta,
                       void* scratch,
                       void* stream) {
  const Cut cut = cut_of(shape);
  const Scratch sums = scratch_of(cut, scratch);
  const dim3 grid = grid_of(cut);
  with_pack<T>(
      cut,
      [&](auto pack) {
        constexpr int N = decltype(pack)::value;
        NAS_LAUNCH((gradient_sums_kernel<T, N>),
                   grid,
                   kThreads,
                   stream,
                   dy,
                   x,
                   cut,
                   gamma,
                   beta,
                   mean,
                   rstd,
                   slope,
                   sums.partial);
        sum_slabs(sums.partial, shape.samples, cut.slabs, 2 * shape.channels, sums.sums, stream);
        if (dgamma || dbeta) {
          NAS_LAUNCH(affine_gradient_kernel,
                     blocks_for(shape.channels),
                     kThreads,
                     stream,
                     cut,
                     sums.sums,
                     rstd,
                     dgamma,
                     dbeta);
        }
        NAS_LAUNCH((gradient_kernel<T, N>),
                   grid,
                   kThreads,
                   stream,
                   dy,
                   x,
                   cut,
                   gamma,
                   beta,
                   mean,
                   rstd,
                   sums.sums,
                   slope,
                   dx);
      },
      x,
      dy,
      dx);
}

NAS_NORM_ACT_INSTANCES(float);
NAS_NORM_ACT_INSTANCES(Bf16);

}  // namespace nas::kernels::cuda
