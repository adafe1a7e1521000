// SPDX-License-Identifier: Apache-2.0
#pragma once

// Inputs of the network's own kernels, and a run of each on the device.

#include <bit>
#include <cstdint>
#include <vector>

#include "nas/core/rng.h"
#include "tests/training/kernels/on_device.h"
#include "tests/training/kernels/sample_case.h"
#include "training/kernels/dice_loss.h"
#include "training/kernels/norm_act.h"

namespace nas::test {

inline float widen(float x) { return x; }
inline float widen(kernels::Bf16 x) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x) << 16);
}
template <class T>
T narrow(double x) {
  if constexpr (std::is_same_v<T, float>) {
    return static_cast<float>(x);
  } else {
    return static_cast<kernels::Bf16>(std::bit_cast<std::uint32_t>(static_cast<float>(x)) >> 16);
  }
}

template <class T>
struct NormActInput {
  kernels::NormActShape shape;
  float slope;
  bool affine;
  std::vector<T> x, dy;  // [N, V, C]
  std::vector<float> gamma, beta;

  NormActInput(const kernels::NormActShape& s, float slope_, bool affine_, float offset)
      : shape(s), slope(slope_), affine(affine_) {
    Rng rng(12);
    for (std::int64_t i = 0; i < s.samples * s.voxels * s.channels; ++i) {
      const double spread = 1.0 + static_cast<double>(i % s.channels % 7);
      x.push_back(narrow<T>(static_cast<double>(offset) + spread * rng.normal()));
      dy.push_back(narrow<T>(rng.normal()));
    }
    for (std::int64_t c = 0; c < s.channels; ++c) {
      gamma.push_back(static_cast<float>(rng.uniform(0.3, 1.5)));
      beta.push_back(static_cast<float>(rng.normal()));
    }
  }
};

template <class T>
struct NormActRun {
  std::vector<T> y, dx;
  std::vector<float> mean, rstd, dgamma, dbeta;

  explicit NormActRun(const NormActInput<T>& in)
      : y(in.x.size()),
        dx(in.x.size()),
        mean(static_cast<std::size_t>(in.shape.samples * in.shape.channels)),
        rstd(mean.size()),
        dgamma(in.gamma.size()),
        dbeta(in.gamma.size()) {}
};

/// \param in_place y lies where x lies, dx where dy lies.
template <class T>
NormActRun<T> on_device(const NormActInput<T>& in, bool in_place = false) {
  namespace cuda = kernels::cuda;
  NormActRun<T> r(in);
  const OnDevice<T> x(in.x), dy(in.dy), y(r.y), dx(r.dx), kept(in.x);
  const OnDevice<float> gamma(in.gamma), beta(in.beta), mean(r.mean), rstd(r.rstd),
      dgamma(r.dgamma), dbeta(r.dbeta);
  const OnDevice<char> scratch(std::vector<char>(cuda::norm_act_scratch_bytes(in.shape)));
  const OnDevice<T>&y_place = in_place ? x : y, &dx_place = in_place ? dy : dx;
  cuda::norm_act_forward<T>(x.data(),
                            in.shape,
                            in.affine ? gamma.data() : nullptr,
                            in.affine ? beta.data() : nullptr,
                            1e-5f,
                            in.slope,
                            y_place.data(),
                            mean.data(),
                            rstd.data(),
                            scratch.data(),
                            nullptr);
  cuda::norm_act_backward<T>(dy.data(),
                             kept.data(),
                             in.shape,
                             in.affine ? gamma.data() : nullptr,
                             in.affine ? beta.data() : nullptr,
                             in.slope,
                             mean.data(),
                             rstd.data(),
                             dx_place.data(),
                             in.affine ? dgamma.data() : nullptr,
                             in.affine ? dbeta.data() : nullptr,
                             scratch.data(),
                             nullptr);
  cuda::wait(nullptr);
  r.y = y_place.host();
  r.dx = dx_place.host();
  r.mean = mean.host();
  r.rstd = rstd.host();
  r.dgamma = dgamma.host();
  r.dbeta = dbeta.host();
  return r;
}

template <class T>
struct LossInput {
  kernels::LogitsShape shape;
  bool regions;
  float gamma;
  bool ignoring;                     // regions: a last channel marks ignored voxels
  std::vector<T> logits;             // at place(n, k, v)
  std::vector<std::int16_t> labels;  // [N, V], -1 and 99 count nowhere
  std::vector<std::uint8_t> masks;   // [N, channels, V]
  std::vector<double> a, b;          // [N, K]
  double ce = 0.37;
  float upstream = 2.5f;

  LossInput(const kernels::LogitsShape& s, bool regions_, float gamma_, bool ignoring_ = false)
      : shape(s), regions(regions_), gamma(gamma_), ignoring(ignoring_) {
    Rng rng(7);
    for (std::int64_t i = 0; i < s.samples * s.classes * s.voxels; ++i) {
      logits.push_back(narrow<T>(2 * rng.normal()));
    }
    for (std::int64_t i = 0; i < s.samples * s.voxels; ++i) {
      const bool out = rng.chance(0.1);
      labels.push_back(out ? static_cast<std::int16_t>(i % 2 == 0 ? -1 : 99)
                           : static_cast<std::int16_t>(rng.integer(0, s.classes)));
    }
    for (std::int64_t i = 0; i < s.samples * channels() * s.voxels; ++i) {
      masks.push_back(rng.chance(0.4) ? 1 : 0);
    }
    for (std::int64_t i = 0; i < s.samples * s.classes; ++i) {
      a.push_back(rng.normal() * 0.1);
      b.push_back(rng.normal() * 0.1);
    }
  }
  std::int64_t channels() const { return shape.classes + (ignoring ? 1 : 0); }
  std::size_t place(std::int64_t n, std::int64_t k, std::int64_t v) const {
    return static_cast<std::size_t>(n * shape.classes * shape.voxels + k * shape.class_stride() +
                                    v * shape.voxel_stride());
  }
  bool mask(std::int64_t n, std::int64_t k, std::int64_t v) const {
    return masks[static_cast<std::size_t>((n * channels() + k) * shape.voxels + v)] != 0;
  }
  bool ignored(std::int64_t n, std::int64_t v) const {
    if (regions) return ignoring && mask(n, shape.classes, v);
    const std::int16_t label = labels[static_cast<std::size_t>(n * shape.voxels + v)];
    return label < 0 || label >= shape.classes;
  }
  bool there(std::int64_t n, std::int64_t k, std::int64_t v) const {
    return regions ? mask(n, k, v) : labels[static_cast<std::size_t>(n * shape.voxels + v)] == k;
  }
};

template <class T>
struct LossRun {
  std::vector<double> sums;
  std::vector<T> gradient;
  bool operator==(const LossRun&) const = default;
};

template <class T>
LossRun<T> on_device(const LossInput<T>& in) {
  namespace cuda = kernels::cuda;
  const kernels::LogitsShape& s = in.shape;
  const OnDevice<T> logits(in.logits), gradient(std::vector<T>(in.logits.size(), T{99}));
  const OnDevice<std::int16_t> labels(in.labels);
  const OnDevice<std::uint8_t> masks(in.masks);
  const OnDevice<double> a(in.a), b(in.b), ce(std::vector<double>{in.ce}),
      sums(std::vector<double>(
          static_cast<std::size_t>(s.samples * cuda::loss_sums_width(s.classes)), -1.0));
  const OnDevice<float> upstream(std::vector<float>{in.upstream});
  const OnDevice<char> scratch(std::vector<char>(cuda::loss_scratch_bytes(s)));
  if (in.regions) {
    cuda::dice_bce_sums<T>(
        logits.data(), masks.data(), in.channels(), s, sums.data(), scratch.data(), nullptr);
    cuda::dice_bce_gradient<T>(logits.data(),
                               masks.data(),
                               in.channels(),
                               s,
                               a.data(),
                               b.data(),
                               ce.data(),
                               upstream.data(),
                               gradient.data(),
                               nullptr);
  } else {
    cuda::dice_ce_sums<T>(
        logits.data(), labels.data(), s, in.gamma, sums.data(), scratch.data(), nullptr);
    cuda::dice_ce_gradient<T>(logits.data(),
                              labels.data(),
                              s,
                              in.gamma,
                              a.data(),
                              b.data(),
                              ce.data(),
                              upstream.data(),
                              gradient.data(),
                              nullptr);
  }
  cuda::wait(nullptr);
  return {sums.host(), gradient.host()};
}

inline Sample sample_on_device(const SampleCase& source,
                               const PatchChoice& choice,
                               const Extent3& patch,
                               const AugmentPlan& plan) {
  const OnDevice<float> image(source.image);
  const OnDevice<std::int16_t> label(source.label);
  const auto n = static_cast<std::size_t>(volume(patch));
  const OnDevice<float> out_image(
      std::vector<float>(n * static_cast<std::size_t>(source.cached.channels), 99.0f));
  const OnDevice<std::int16_t> out_label(std::vector<std::int16_t>(n, 99));
  const OnDevice<char> scratch(std::vector<char>(device_scratch_bytes(patch)));
  make_sample_cuda({source.cached.shape, source.cached.channels, image.data(), label.data()},
                   choice,
                   patch,
                   plan,
                   out_image.data(),
                   out_label.data(),
                   scratch.data(),
                   nullptr);
  kernels::cuda::wait(nullptr);
  return {out_image.host(), out_label.host()};
}

}  // namespace nas::test
