// SPDX-License-Identifier: Apache-2.0
#include <bit>
#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "nas/core/error.h"
#include "nas/core/rng.h"
#include "tests/training/kernels/gpu_runs.h"

namespace nas {
namespace {

using kernels::Bf16;
using kernels::LogitsShape;
using kernels::NormActShape;
using test::LossInput;
using test::LossRun;
using test::NormActInput;
using test::NormActRun;
using test::widen;

// ---- norm and activation -----------------------------------------------------------------------

template <class T>
NormActRun<T> on_cpu(const NormActInput<T>& in) {
  const kernels::ParallelFor whole = [](std::int64_t n, const auto& body) { body(0, n); };
  NormActRun<T> r(in);
  const float* gamma = in.affine ? in.gamma.data() : nullptr;
  const float* beta = in.affine ? in.beta.data() : nullptr;
  kernels::norm_act_forward<T>(in.x.data(),
                               in.shape,
                               gamma,
                               beta,
                               1e-5f,
                               in.slope,
                               r.y.data(),
                               r.mean.data(),
                               r.rstd.data(),
                               whole);
  kernels::norm_act_backward<T>(in.dy.data(),
                                in.x.data(),
                                in.shape,
                                gamma,
                                beta,
                                in.slope,
                                r.mean.data(),
                                r.rstd.data(),
                                r.dx.data(),
                                in.affine ? r.dgamma.data() : nullptr,
                                in.affine ? r.dbeta.data() : nullptr,
                                whole);
  return r;
}

/// The CPU's loops are held against double elsewhere; they differ in the order of sums alone.
template <class T>
void expect_close(const std::vector<T>& found,
                  const std::vector<T>& expected,
                  double relative,
                  double absolute,
                  const std::string& what) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double e = static_cast<double>(widen(expected[i]));
    ASSERT_NEAR(static_cast<double>(widen(found[i])), e, relative * std::abs(e) + absolute)
        << what << " " << i;
  }
}

template <class T>
void check_norm_act(const NormActShape& shape, float slope, bool affine, float offset) {
  const NormActInput<T> in(shape, slope, affine, offset);
  const NormActRun<T> host = on_cpu(in), device = test::on_device(in);
  const double one = std::is_same_v<T, float> ? 3e-5 : 1.0 / 128;  // bfloat16: a last place
  expect_close(device.mean, host.mean, 1e-5, 1e-5, "mean");
  expect_close(device.rstd, host.rstd, 1e-4, 0, "rstd");
  expect_close(device.y, host.y, one, 3e-4, "y");
  expect_close(device.dx, host.dx, one, 1e-3, "dx");
  const double terms = 1e-4 * std::sqrt(static_cast<double>(shape.samples * shape.voxels)) + 1e-3;
  if (affine) {
    expect_close(device.dgamma, host.dgamma, 1e-4, terms, "dgamma");
    expect_close(device.dbeta, host.dbeta, 1e-4, terms, "dbeta");
  }
}

TEST(GpuNormAct, EqualsTheCpuAtEveryWidth) {
  NAS_GPU_OR_SKIP();
  for (const std::int64_t channels : {1, 3, 4, 8, 17, 32, 320}) {
    SCOPED_TRACE(channels);
    check_norm_act<float>({2, 77, channels}, 0.01f, true, 0.0f);
    check_norm_act<Bf16>({2, 77, channels}, 0.01f, true, 0.0f);
  }
  check_norm_act<float>({1, 1, 2100}, 0.2f, true, 0.0f);     // more channels than threads
  check_norm_act<float>({1, 9000, 24}, 0.0f, false, 0.0f);   // several slabs, ReLU, no weights
  check_norm_act<Bf16>({3, 5000, 16}, 1.0f, true, 0.0f);     // norm alone
  check_norm_act<float>({1, 5000, 5}, 0.01f, true, 300.0f);  // a mean far from zero
}

TEST(GpuNormAct, WorksInPlace) {
  NAS_GPU_OR_SKIP();
  const NormActInput<float> in({2, 700, 12}, 0.01f, true, 0.5f);
  const NormActRun<float> apart = test::on_device(in), in_place = test::on_device(in, true);
  EXPECT_EQ(in_place.y, apart.y);
  EXPECT_EQ(in_place.dx, apart.dx);
}

TEST(GpuNormAct, ANotANumberReachesItsChannelAlone) {
  NAS_GPU_OR_SKIP();
  NormActInput<float> in({1, 50, 8}, 0.01f, true, 0.0f);
  in.x[7 * 8 + 2] = std::numeric_limits<float>::quiet_NaN();
  const NormActRun<float> r = test::on_device(in);
  for (std::size_t i = 0; i < r.y.size(); ++i) EXPECT_EQ(std::isnan(r.y[i]), i % 8 == 2) << i;
}

TEST(GpuNormAct, RefusesAnEmptyShape) {
  NAS_GPU_OR_SKIP();
  EXPECT_THROW(kernels::cuda::norm_act_scratch_bytes({1, 0, 4}), Error);
}

// ---- losses ------------------------------------------------------------------------------------

/// Plain double reference of what dice_loss.h defines.
struct Reference {
  std::vector<double> overlap, predicted, reference;  // [N, K]
  std::vector<double> nll, count;                     // [N]
  std::vector<double> gradient;                       // as logits
};

template <class T>
Reference reference_of(const LossInput<T>& in) {
  const LogitsShape& s = in.shape;
  const auto nk = static_cast<std::size_t>(s.samples * s.classes);
  Reference r;
  r.overlap.resize(nk);
  r.predicted.resize(nk);
  r.reference.resize(nk);
  r.nll.resize(static_cast<std::size_t>(s.samples));
  r.count.resize(r.nll.size());
  r.gradient.resize(in.logits.size());
  for (std::int64_t n = 0; n < s.samples; ++n) {
    for (std::int64_t v = 0; v < s.voxels; ++v) {
      if (in.ignored(n, v)) continue;
      const auto z = [&](std::int64_t k) {
        return static_cast<double>(widen(in.logits[in.place(n, k, v)]));
      };
      std::vector<double> p, t;
      double all = 0, nll = 0;
      for (std::int64_t k = 0; k < s.classes; ++k) all += std::exp(z(k));
      for (std::int64_t k = 0; k < s.classes; ++k) {
        p.push_back(in.regions ? 1 / (1 + std::exp(-z(k))) : std::exp(z(k)) / all);
        t.push_back(in.there(n, k, v) ? 1 : 0);
        if (in.regions) {
          nll -= t.back() * std::log(p.back()) + (1 - t.back()) * std::log(1 - p.back());
        }
      }
      // Derivative of the cross-entropy by each logit.
      std::vector<double> ce(p.size());
      if (in.regions) {
        for (std::size_t k = 0; k < p.size(); ++k) ce[k] = p[k] - t[k];
      } else {
        double hit = 0;
        for (std::size_t k = 0; k < p.size(); ++k) hit += p[k] * t[k];
        const double g = static_cast<double>(in.gamma);
        nll = -std::pow(1 - hit, g) * std::log(hit);
        const double by_p =
            g > 0 ? g * std::pow(1 - hit, g - 1) * std::log(hit) - std::pow(1 - hit, g) / hit
                  : -1 / hit;
        for (std::size_t k = 0; k < p.size(); ++k) ce[k] = by_p * hit * (t[k] - p[k]);
      }
      double mean = 0;
      for (std::size_t k = 0; k < p.size(); ++k) {
        const auto i = static_cast<std::size_t>(n * s.classes) + k;
        r.overlap[i] += p[k] * t[k];
        r.predicted[i] += p[k];
        r.reference[i] += t[k];
        mean += p[k] * (in.b[i] + in.a[i] * t[k]);
      }
      for (std::size_t k = 0; k < p.size(); ++k) {
        const auto i = static_cast<std::size_t>(n * s.classes) + k;
        const double g = in.b[i] + in.a[i] * t[k];
        const double dice = in.regions ? p[k] * (1 - p[k]) * g : p[k] * (g - mean);
        r.gradient[in.place(n, static_cast<std::int64_t>(k), v)] =
            static_cast<double>(in.upstream) * (dice + in.ce * ce[k]);
      }
      r.nll[static_cast<std::size_t>(n)] += nll;
      r.count[static_cast<std::size_t>(n)] += 1;
    }
  }
  return r;
}

template <class T>
void check_loss(const LossInput<T>& in) {
  const LogitsShape& s = in.shape;
  const Reference r = reference_of(in);
  const LossRun<T> found = test::on_device(in);
  const std::int64_t parts = kernels::cuda::loss_parts(s.classes);
  const std::int64_t width = kernels::cuda::loss_sums_width(s.classes);
  for (std::int64_t n = 0; n < s.samples; ++n) {
    const double* sums = found.sums.data() + n * width;
    double nll = 0, count = 0;
    for (std::int64_t i = 0; i < parts; ++i) {
      nll += sums[3 * s.classes + i];
      count += sums[3 * s.classes + parts + i];
    }
    const auto at = static_cast<std::size_t>(n);
    EXPECT_EQ(count, r.count[at]);
    EXPECT_NEAR(nll, r.nll[at], 2e-6 * std::abs(r.nll[at]) + 1e-4);
    for (std::int64_t k = 0; k < s.classes; ++k) {
      const auto i = static_cast<std::size_t>(n * s.classes + k);
      EXPECT_NEAR(sums[k], r.overlap[i], 2e-6 * r.overlap[i] + 1e-4);
      EXPECT_NEAR(sums[s.classes + k], r.predicted[i], 2e-6 * r.predicted[i] + 1e-4);
      EXPECT_EQ(sums[2 * s.classes + k], r.reference[i]);
    }
  }
  const double relative = std::is_same_v<T, float> ? 1e-5 : 1.0 / 256;
  for (std::size_t i = 0; i < r.gradient.size(); ++i) {
    ASSERT_NEAR(static_cast<double>(widen(found.gradient[i])),
                r.gradient[i],
                relative * std::abs(r.gradient[i]) + 2e-6)
        << i;
  }
}

TEST(GpuLoss, OfLabelsEqualsTheDefinition) {
  NAS_GPU_OR_SKIP();
  for (const bool last : {false, true}) {
    for (const std::int64_t classes : {2, 3, 8, 9, 30}) {
      SCOPED_TRACE(testing::Message() << classes << " classes, channels last " << last);
      check_loss(LossInput<float>({2, classes, 500, last}, false, 0.0f));
      check_loss(LossInput<Bf16>({1, classes, 300, last}, false, 0.0f));
    }
    check_loss(LossInput<float>({2, 3, 9000, last}, false, 0.0f));  // several slabs
    check_loss(LossInput<float>({1, 4, 700, last}, false, 2.0f));   // focal
  }
}

TEST(GpuLoss, OfRegionsEqualsTheDefinition) {
  NAS_GPU_OR_SKIP();
  for (const bool last : {false, true}) {
    for (const bool ignoring : {false, true}) {
      for (const std::int64_t regions : {1, 3, 11}) {
        check_loss(LossInput<float>({2, regions, 600, last}, true, 0.0f, ignoring));
        check_loss(LossInput<Bf16>({1, regions, 300, last}, true, 0.0f, ignoring));
      }
    }
  }
}

TEST(GpuLoss, LargeLogitsStayFinite) {
  NAS_GPU_OR_SKIP();
  for (const bool regions : {false, true}) {
    LossInput<float> in({1, 3, 200, true}, regions, 0.0f);
    for (std::size_t i = 0; i < in.logits.size(); ++i) in.logits[i] = i % 2 == 0 ? 300.0f : -300.0f;
    const LossRun<float> found = test::on_device(in);
    for (const double x : found.sums) EXPECT_TRUE(std::isfinite(x));
    for (const float x : found.gradient) EXPECT_TRUE(std::isfinite(x));
  }
}

}  // namespace
}  // namespace nas
