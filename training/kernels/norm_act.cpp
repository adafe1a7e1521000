// SPDX-License-Identifier: Apache-2.0
#include "training/kernels/norm_act.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "nas/core/error.h"
#include "training/kernels/norm_act_impl.h"

namespace nas::kernels {
namespace {

std::vector<const NormActLoops*> runnable() {
  std::vector<const NormActLoops*> loops{&kNormActBase};
#if defined(NAS_X86_VARIANTS)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    loops.push_back(&kNormActAvx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
      loops.push_back(&kNormActAvx512);
    }
  }
#endif
  return loops;
}

std::atomic<const NormActLoops*>& chosen() {
  static std::atomic<const NormActLoops*> loops{runnable().back()};
  return loops;
}

template <class T>
const TypedLoops<T>& chosen_loops() {
  const NormActLoops& loops = *chosen().load();
  if constexpr (std::is_same_v<T, float>) {
    return loops.f32;
  } else {
    return loops.bf16;
  }
}

float value(float x) { return x; }
float value(Bf16 x) {
  const std::uint32_t bits = static_cast<std::uint32_t>(x) << 16;
  float out;
  std::memcpy(&out, &bits, sizeof(out));
  return out;
}

/// A sample cut into slabs of voxels. The cut depends on the shape alone: sums are the same for any
/// number of threads.
struct Slabs {
  NormActShape shape;
  std::int64_t rows, per_sample;

  explicit Slabs(const NormActShape& s) : shape(s) {
    check_shape(s);
    // About 64 k values: two arrays of a slab fit the second-level cache.
    rows = std::clamp<std::int64_t>(65536 / s.channels, 16, 4096);
    per_sample = (s.voxels + rows - 1) / rows;
  }
  std::int64_t count() const { return shape.samples * per_sample; }
  std::int64_t sample(std::int64_t slab) const { return slab / per_sample; }
  std::int64_t first(std::int64_t slab) const { return slab % per_sample * rows; }
  std::int64_t size(std::int64_t slab) const { return std::min(rows, shape.voxels - first(slab)); }
  std::int64_t offset(std::int64_t slab) const {
    return (sample(slab) * shape.voxels + first(slab)) * shape.channels;
  }
};

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

}  // namespace

void check_shape(const NormActShape& s) {
  NAS_CHECK_KIND(Shape,
                 s.samples > 0 && s.voxels > 0 && s.channels > 0,
                 "norm_act: empty activation [",
                 s.samples,
                 ", ",
                 s.voxels,
                 ", ",
                 s.channels,
                 "]");
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
                      const ParallelFor& parallel) {
  const Slabs slabs(shape);
  const TypedLoops<T>& loops = chosen_loops<T>();
  const std::int64_t channels = shape.channels;

  // Sums of x - pivot with the sample's first voxel as pivot: no cancellation when the mean is far
  // from zero.
  std::vector<float> pivot(index(shape.samples * channels));
  for (std::int64_t n = 0; n < shape.samples; ++n) {
    for (std::int64_t c = 0; c < channels; ++c) {
      pivot[index(n * channels + c)] = value(x[n * shape.voxels * channels + c]);
    }
  }
  std::vector<float> sums(index(slabs.count() * 2 * channels), 0.0f);
  parallel(slabs.count(), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      float* sum = sums.data() + i * 2 * channels;
      loops.moments(x + slabs.offset(i),
                    slabs.size(i),
                    channels,
                    pivot.data() + slabs.sample(i) * channels,
                    sum,
                    sum + channels);
    }
  });

  std::vector<float> a(pivot.size()), b(pivot.size());
  for (std::int64_t n = 0; n < shape.samples; ++n) {
    for (std::int64_t c = 0; c < channels; ++c) {
      double sum = 0, square = 0;
      for (std::int64_t i = n * slabs.per_sample; i < (n + 1) * slabs.per_sample; ++i) {
        sum += static_cast<double>(sums[index(i * 2 * channels + c)]);
        square += static_cast<double>(sums[index((i * 2 + 1) * channels + c)]);
      }
      const double count = static_cast<double>(shape.voxels);
      const double shifted = sum / count;
      const double variance = square / count - shifted * shifted;
      const std::size_t k = index(n * channels + c);
      const double centre = static_cast<double>(pivot[k]) + shifted;
      // A NaN in x must reach the output: no max() that would drop it.
      const double scale =
          1.0 / std::sqrt((variance < 0 ? 0.0 : variance) + static_cast<double>(eps));
      const double g = gamma ? static_cast<double>(gamma[c]) : 1.0;
      mean[k] = static_cast<float>(centre);
      rstd[k] = static_cast<float>(scale);
      a[k] = static_cast<float>(g * static_cast<double>(rstd[k]));
      b[k] = static_cast<float>((beta ? static_cast<double>(beta[c]) : 0.0) -
                                static_cast<double>(a[k]) * static_cast<double>(mean[k]));
    }
  }

  parallel(slabs.count(), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t k = slabs.sample(i) * channels;
      loops.apply(x + slabs.offset(i),
                  slabs.size(i),
                  channels,
                  a.data() + k,
                  b.data() + k,
                  slope,
                  y + slabs.offset(i));
    }
  });
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
                       const ParallelFor& parallel) {
  const Slabs slabs(shape);
  const TypedLoops<T>& loops = chosen_loops<T>();
  const std::int64_t channels = shape.channels;

  // The same a and b as forward, so that z has the same sign.
  std::vector<float> a(index(shape.samples * channels)), b(a.size()), p(a.size()), q(a.size());
  for (std::int64_t n = 0; n < shape.samples; ++n) {
    for (std::int64_t c = 0; c < channels; ++c) {
      const std::size_t k = index(n * channels + c);
      const double g = gamma ? static_cast<double>(gamma[c]) : 1.0;
      a[k] = static_cast<float>(g * static_cast<double>(rstd[k]));
      b[k] = static_cast<float>((beta ? static_cast<double>(beta[c]) : 0.0) -
                                static_cast<double>(a[k]) * static_cast<double>(mean[k]));
    }
  }
  std::vector<float> sums(index(slabs.count() * 2 * channels), 0.0f);
  parallel(slabs.count(), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t k = slabs.sample(i) * channels;
      float* sum = sums.data() + i * 2 * channels;
      loops.gradient_sums(dy + slabs.offset(i),
                          x + slabs.offset(i),
                          slabs.size(i),
                          channels,
                          a.data() + k,
                          b.data() + k,
                          mean + k,
                          slope,
                          sum,
                          sum + channels);
    }
  });

  // dx = a * (g - mean(g) - xhat * mean(g * xhat)), xhat = (x - mean) * rstd.
  std::vector<double> gamma_sum(index(channels), 0.0), beta_sum(index(channels), 0.0);
  for (std::int64_t n = 0; n < shape.samples; ++n) {
    for (std::int64_t c = 0; c < channels; ++c) {
      double sum = 0, product = 0;
      for (std::int64_t i = n * slabs.per_sample; i < (n + 1) * slabs.per_sample; ++i) {
        sum += static_cast<double>(sums[index(i * 2 * channels + c)]);
        product += static_cast<double>(sums[index((i * 2 + 1) * channels + c)]);
      }
      const std::size_t k = index(n * channels + c);
      const double scale = static_cast<double>(rstd[k]);
      const double count = static_cast<double>(shape.voxels);
      p[k] = static_cast<float>(-static_cast<double>(a[k]) * product / count * scale * scale);
      q[k] = static_cast<float>(-static_cast<double>(a[k]) * sum / count);
      gamma_sum[index(c)] += product * scale;
      beta_sum[index(c)] += sum;
    }
  }
  for (std::int64_t c = 0; c < channels; ++c) {
    if (dgamma) dgamma[c] = static_cast<float>(gamma_sum[index(c)]);
    if (dbeta) dbeta[c] = static_cast<float>(beta_sum[index(c)]);
  }

  parallel(slabs.count(), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t k = slabs.sample(i) * channels;
      loops.gradient(dy + slabs.offset(i),
                     x + slabs.offset(i),
                     slabs.size(i),
                     channels,
                     a.data() + k,
                     b.data() + k,
                     mean + k,
                     p.data() + k,
                     q.data() + k,
                     slope,
                     dx + slabs.offset(i));
    }
  });
}

#define NAS_INSTANTIATE(T)                                \
  template void norm_act_forward<T>(const T*,             \
                                    const NormActShape&,  \
                                    const float*,         \
                                    const float*,         \
                                    float,                \
                                    float,                \
                                    T*,                   \
                                    float*,               \
                                    float*,               \
                                    const ParallelFor&);  \
  template void norm_act_backward<T>(const T*,            \
                                     const T*,            \
                                     const NormActShape&, \
                                     const float*,        \
                                     const float*,        \
                                     float,               \
                                     const float*,        \
                                     const float*,        \
                                     T*,                  \
                                     float*,              \
                                     float*,              \
                                     const ParallelFor&)
NAS_INSTANTIATE(float);
NAS_INSTANTIATE(Bf16);

std::vector<std::string> norm_act_variants() {
  std::vector<std::string> names;
  for (const NormActLoops* loops : runnable()) names.emplace_back(loops->name);
  return names;
}

NormActVariant::NormActVariant(const std::string& name) : before_(chosen().load()) {
  for (const NormActLoops* loops : runnable()) {
    if (loops->name == name) {
      chosen().store(loops);
      return;
    }
  }
  fail(ErrorKind::Usage, "norm_act: this processor cannot run the variant '", name, "'");
}
NormActVariant::~NormActVariant() { chosen().store(static_cast<const NormActLoops*>(before_)); }

}  // namespace nas::kernels
