// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "tests/training/kernels/gpu_runs.h"
#include "tests/training/kernels/sample_case.h"
#include "training/data/augment.h"
#include "training/kernels/kernels.h"

namespace nas {
namespace {

using test::sample;
using test::Sample;
using test::sample_on_device;
using test::SampleCase;

TEST(GpuSample, TheCropIsTheCpusToTheBit) {
  NAS_GPU_OR_SKIP();
  const SampleCase source({14, 17, 19}, 2, 3);
  for (int flips = 0; flips < 8; ++flips) {
    AugmentPlan plan = test::plain_plan(2);
    plan.flip = {(flips & 4) != 0, (flips & 2) != 0, (flips & 1) != 0};
    const PatchChoice choice{.begin = {-3, 2, 8}};
    EXPECT_EQ(sample_on_device(source, choice, {12, 10, 13}, plan),
              sample(source, choice, {12, 10, 13}, plan));
  }
}

TEST(GpuSample, EveryAugmentationEqualsTheCpus) {
  NAS_GPU_OR_SKIP();
  const SampleCase source({30, 32, 34}, 2, 4);
  const Extent3 patch{24, 28, 20};
#if defined(NAS_EMULATED)
  const int plans = 10;  // slow under the sanitizers
#else
  const int plans = 40;
#endif
  for (int i = 0; i < plans; ++i) {
    AugmentPlan plan = draw_augmentation({.strength = 2}, patch, 2, Rng(3).split("plan", i));
    if (i == 0) plan = test::full_plan(2);
    if (i == 1)
      plan.channels[0].drop = plan.channels[1].drop = plan.channels[1].drop_to_mean = true;
    const PatchChoice choice{.begin = {i % 7 - 3, 2, 5}};
    const Sample host = sample(source, choice, patch, plan);
    const Sample device = sample_on_device(source, choice, patch, plan);
    double worst = 0;
    for (std::size_t k = 0; k < host.image.size(); ++k) {
      worst = std::max(worst, std::abs(static_cast<double>(host.image[k] - device.image[k])));
    }
    // Logarithm, cosine and power differ in their last bits, sums in their order.
    EXPECT_LT(worst, 1e-4) << "plan " << i;
    EXPECT_EQ(host.label, device.label) << "plan " << i;
  }
}

TEST(GpuSample, RepeatsItselfToTheBit) {
  NAS_GPU_OR_SKIP();
  const SampleCase source({30, 32, 34}, 1, 4);
  const AugmentPlan plan = test::full_plan(1);
  const Sample once = sample_on_device(source, {}, {24, 28, 20}, plan);
  EXPECT_EQ(sample_on_device(source, {}, {24, 28, 20}, plan), once);
}

}  // namespace
}  // namespace nas
