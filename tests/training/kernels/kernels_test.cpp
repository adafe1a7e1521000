// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <numbers>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "nas/core/error.h"
#include "tests/training/kernels/sample_case.h"
#include "training/data/augment.h"
#include "training/data/patches.h"
#include "training/kernels/kernels.h"
#include "training/kernels/norm_act.h"

namespace nas {
namespace {

using test::full_plan;
using test::plain_plan;
using test::sample;
using test::Sample;
using test::SampleCase;

std::int64_t flat(const Extent3& shape, std::int64_t z, std::int64_t y, std::int64_t x) {
  return (z * shape[1] + y) * shape[2] + x;
}

bool inside(const Extent3& shape, std::int64_t z, std::int64_t y, std::int64_t x) {
  return z >= 0 && y >= 0 && x >= 0 && z < shape[0] && y < shape[1] && x < shape[2];
}

template <class T>
T at(const std::vector<T>& data,
     const Extent3& shape,
     std::int64_t z,
     std::int64_t y,
     std::int64_t x) {
  return inside(shape, z, y, x) ? data[static_cast<std::size_t>(flat(shape, z, y, x))] : T{0};
}

void for_voxels(const Extent3& shape,
                const std::function<void(std::int64_t, std::int64_t, std::int64_t)>& body) {
  for (std::int64_t z = 0; z < shape[0]; ++z) {
    for (std::int64_t y = 0; y < shape[1]; ++y) {
      for (std::int64_t x = 0; x < shape[2]; ++x) body(z, y, x);
    }
  }
}

std::vector<float> random_image(const Extent3& shape, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<float> image(static_cast<std::size_t>(volume(shape)));
  for (float& x : image) x = static_cast<float>(rng.normal());
  return image;
}

/// Expects every value within `tolerance` of the reference; reports the worst.
void expect_close(const std::vector<float>& found,
                  const std::vector<double>& expected,
                  double tolerance) {
  ASSERT_EQ(found.size(), expected.size());
  double worst = 0;
  std::size_t place = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double error = std::abs(static_cast<double>(found[i]) - expected[i]);
    if (!(error <= worst)) {
      worst = error;
      place = i;
    }
  }
  EXPECT_LE(worst, tolerance) << "at " << place << ": " << found[place] << " for "
                              << expected[place];
}

// ---- where patches lie ----

TEST(Patches, TheLastSamplesOfABatchAreForegroundAsInNnunet) {
  // round(batch * (1 - fraction)) uniform samples, half to even.
  const std::map<std::pair<std::int64_t, double>, std::int64_t> uniform = {{{2, 0.33}, 1},
                                                                           {{7, 0.33}, 5},
                                                                           {{9, 0.33}, 6},
                                                                           {{1, 0.5}, 0},
                                                                           {{3, 0.5}, 2},
                                                                           {{4, 0.0}, 4},
                                                                           {{4, 1.0}, 0}};
  for (const auto& [key, count] : uniform) {
    for (std::int64_t i = 0; i < key.first; ++i) {
      EXPECT_EQ(is_foreground_sample(key.first, i, key.second), i >= count)
          << "batch " << key.first << " fraction " << key.second << " sample " << i;
    }
  }
}

TEST(Patches, ForegroundPatchesAreCentredOnALabelledVoxelOfEveryClassAlike) {
  const SampleCase source({30, 32, 34}, 1, 1);
  const std::vector<const CachedCase*> cases{&source.cached};
  const Extent3 patch{8, 9, 10};
  std::map<int, int> classes;
  for (int step = 0; step < 3000; ++step) {
    const PatchChoice choice =
        choose_patch(cases, patch, 2, 1, 0.33, Rng(5).split("patch", step, 1));
    ASSERT_TRUE(choice.foreground);
    Extent3 centre = choice.begin;
    bool moved = false;
    for (std::size_t a = 0; a < 3; ++a) {
      EXPECT_GE(choice.begin[a], 0);
      moved = moved || choice.begin[a] == 0;  // the lower border may have moved the patch
      centre[a] += patch[a] / 2;
    }
    const std::int16_t label =
        at(source.label, source.cached.shape, centre[0], centre[1], centre[2]);
    if (!moved) {
      EXPECT_GT(label, 0);
      ++classes[label];
    }
  }
  // Classes are drawn with equal probability although class 3 has 1 % of the voxels: each about 1/3
  // of the unmoved.
  const double total = classes[1] + classes[2] + classes[3];
  ASSERT_GT(total, 1000);
  for (int k = 1; k <= 3; ++k) EXPECT_NEAR(classes[k] / total, 1.0 / 3, 0.06) << "class " << k;
}

TEST(Patches, UniformPatchesCoverEveryPlaceAndEveryCase) {
  const SampleCase first({9, 10, 11}, 1, 1), second({5, 10, 11}, 1, 2);
  const std::vector<const CachedCase*> cases{&first.cached, &second.cached};
  const Extent3 patch{8, 8, 8};
  std::array<std::map<std::int64_t, int>, 2> starts;
  constexpr int kDraws = 4000;
  for (int step = 0; step < kDraws; ++step) {
    const PatchChoice choice = choose_patch(cases, patch, 2, 0, 0.33, Rng(6).split("p", step));
    EXPECT_FALSE(choice.foreground);
    ++starts[static_cast<std::size_t>(choice.case_index)][choice.begin[0]];
    EXPECT_GE(choice.begin[1], 0);
    EXPECT_LE(choice.begin[1], 2);
    EXPECT_LE(choice.begin[2], 3);
  }
  // D of the first case: 0, 1. Of the second, 3 voxels short: floor(-1.5) = -2 up to 5 + 2 - 8 =
  // -1.
  ASSERT_EQ(starts[0].size(), 2u);
  ASSERT_EQ(starts[1].size(), 2u);
  EXPECT_EQ(starts[1].begin()->first, -2);
  for (const auto& of_case : starts) {
    for (const auto& [begin, count] : of_case) {
      EXPECT_NEAR(count, kDraws / 4, 5 * std::sqrt(kDraws * 3.0 / 16)) << begin;
    }
  }
}

TEST(Patches, DependOnTheirOwnStreamAlone) {
  const SampleCase source({20, 20, 20}, 1, 1);
  const std::vector<const CachedCase*> cases{&source.cached};
  const auto draw = [&](int step, int i) {
    return choose_patch(cases, {8, 8, 8}, 4, i, 0.5, Rng(7).split("patch", step, i));
  };
  const PatchChoice late = draw(9, 3);
  for (int step = 0; step < 9; ++step) draw(step, 0);
  EXPECT_EQ(draw(9, 3), late);
  EXPECT_NE(draw(9, 2), late);
}

TEST(Patches, ACaseWithoutForegroundGetsAUniformPatchAndWrongInputIsNamed) {
  SampleCase source({20, 20, 20}, 1, 1);
  source.cached.class_locations.assign(4, {});
  EXPECT_FALSE(choose_patch({&source.cached}, {8, 8, 8}, 2, 1, 1.0, Rng(1)).foreground);
  EXPECT_THROW(choose_patch({}, {8, 8, 8}, 2, 1, 0.5, Rng(1)), Error);
  EXPECT_THROW(choose_patch({&source.cached}, {0, 8, 8}, 2, 1, 0.5, Rng(1)), Error);
  EXPECT_THROW(choose_patch({&source.cached}, {8, 8, 8}, 2, 2, 0.5, Rng(1)), Error);
}

// ---- crop, rotate, scale, flip ----

TEST(MakeSample, WithoutAugmentationIsTheExactCropWithPadding) {
  const SampleCase source({7, 9, 11}, 2, 3);
  const Extent3 patch{6, 8, 10};
  const auto n = static_cast<std::size_t>(volume(patch));
  for (const Extent3 begin : {Extent3{0, 0, 0},
                              Extent3{1, 1, 1},
                              Extent3{-3, 4, -2},
                              Extent3{4, -5, 6},
                              Extent3{-6, 0, 0},
                              Extent3{0, 0, 11},
                              Extent3{100, 100, 100},
                              Extent3{0, 0, -30}}) {
    for (int flips = 0; flips < 8; ++flips) {
      AugmentPlan plan = plain_plan(2);
      plan.flip = {(flips & 4) != 0, (flips & 2) != 0, (flips & 1) != 0};
      const Sample found = sample(source, {.begin = begin}, patch, plan);
      const std::vector<float> second(source.image.begin() + volume(source.cached.shape),
                                      source.image.end());
      for_voxels(patch, [&](std::int64_t z, std::int64_t y, std::int64_t x) {
        const std::int64_t sz = begin[0] + (plan.flip[0] ? patch[0] - 1 - z : z);
        const std::int64_t sy = begin[1] + (plan.flip[1] ? patch[1] - 1 - y : y);
        const std::int64_t sx = begin[2] + (plan.flip[2] ? patch[2] - 1 - x : x);
        const auto i = static_cast<std::size_t>(flat(patch, z, y, x));
        ASSERT_EQ(found.image[i], at(source.image, source.cached.shape, sz, sy, sx));
        ASSERT_EQ(found.image[n + i], at(second, source.cached.shape, sz, sy, sx));
        const std::int16_t label = at(source.label, source.cached.shape, sz, sy, sx);
        ASSERT_EQ(found.label[i], std::max<std::int16_t>(label, 0));
      });
    }
  }
}

TEST(MakeSample, AnAffineMapWithoutRotationOrScaleIsTheSameCrop) {
  const SampleCase source({12, 13, 14}, 2, 4);
  for (const Extent3 begin : {Extent3{0, 1, 2}, Extent3{-3, 5, 8}}) {
    for (int flips = 0; flips < 8; ++flips) {
      AugmentPlan plan = plain_plan(2);
      plan.flip = {(flips & 4) != 0, (flips & 2) != 0, (flips & 1) != 0};
      const Sample crop = sample(source, {.begin = begin}, {8, 9, 10}, plan);
      plan.affine = true;
      EXPECT_EQ(sample(source, {.begin = begin}, {8, 9, 10}, plan), crop);
    }
  }
}

TEST(MakeSample, AQuarterTurnIsAPermutationOfIndices) {
  const Extent3 cube{6, 6, 6};
  const SampleCase source(cube, 1, 5);
  for (std::size_t axis = 0; axis < 3; ++axis) {
    AugmentPlan plan = plain_plan(1);
    plan.affine = true;
    plan.angle[axis] = std::numbers::pi / 2;
    const Sample found = sample(source, {}, cube, plan);
    for_voxels(cube, [&](std::int64_t z, std::int64_t y, std::int64_t x) {
      const Extent3 from = axis == 0   ? Extent3{z, 5 - x, y}
                           : axis == 1 ? Extent3{5 - x, y, z}
                                       : Extent3{5 - y, z, x};
      const auto i = static_cast<std::size_t>(flat(cube, z, y, x));
      // cos(pi/2) is 6e-17, not 0: equal up to rounding of the coordinate.
      ASSERT_NEAR(found.image[i], at(source.image, cube, from[0], from[1], from[2]), 1e-5);
      ASSERT_EQ(found.label[i],
                std::max<std::int16_t>(at(source.label, cube, from[0], from[1], from[2]), 0));
    });
  }
}

TEST(MakeSample, RotationAndScaleEqualANaiveInterpolationInDouble) {
  const SampleCase source({20, 22, 24}, 1, 6);
  const Extent3 patch{10, 12, 14}, begin{4, -3, 15};
  AugmentPlan plan = plain_plan(1);
  plan.affine = true;
  plan.angle = {0.4, -0.3, 0.2};
  plan.scale = {1.3, 0.8, 0.8};
  plan.flip = {false, true, false};
  const Sample found = sample(source, {.begin = begin}, patch, plan);

  const auto turn = [](std::array<double, 3> p, std::size_t i, std::size_t j, double angle) {
    const double a = p[i], b = p[j];
    p[i] = std::cos(angle) * a - std::sin(angle) * b;
    p[j] = std::sin(angle) * a + std::cos(angle) * b;
    return p;
  };
  int compared = 0;
  for_voxels(patch, [&](std::int64_t z, std::int64_t y, std::int64_t x) {
    std::array<double, 3> p{static_cast<double>(z), static_cast<double>(y), static_cast<double>(x)};
    for (std::size_t a = 0; a < 3; ++a) {
      p[a] = (p[a] - 0.5 * static_cast<double>(patch[a] - 1)) * plan.scale[a] *
             (plan.flip[a] ? -1 : 1);
    }
    p = turn(turn(turn(p, 0, 1, plan.angle[2]), 0, 2, plan.angle[1]), 1, 2, plan.angle[0]);
    double value = 0;
    std::map<std::int16_t, double> votes;
    std::array<double, 3> low{};
    for (std::size_t a = 0; a < 3; ++a) {
      p[a] += static_cast<double>(begin[a]) + 0.5 * static_cast<double>(patch[a] - 1);
      low[a] = std::floor(p[a]);
    }
    for (int k = 0; k < 8; ++k) {
      double weight = 1;
      std::array<std::int64_t, 3> corner{};
      for (std::size_t a = 0; a < 3; ++a) {
        const bool up = (k >> a & 1) != 0;
        weight *= up ? p[a] - low[a] : 1 - (p[a] - low[a]);
        corner[a] = static_cast<std::int64_t>(low[a]) + (up ? 1 : 0);
      }
      value += weight * static_cast<double>(
                            at(source.image, source.cached.shape, corner[0], corner[1], corner[2]));
      votes[std::max<std::int16_t>(
          at(source.label, source.cached.shape, corner[0], corner[1], corner[2]), 0)] += weight;
    }
    const auto i = static_cast<std::size_t>(flat(patch, z, y, x));
    ASSERT_NEAR(found.image[i], value, 2e-5);
    std::vector<std::pair<double, std::int16_t>> order;
    for (const auto& [label, weight] : votes) order.emplace_back(weight, label);
    std::sort(order.rbegin(), order.rend());
    if (order.size() > 1 && order[0].first - order[1].first < 1e-4) return;  // a tie in float
    ASSERT_EQ(found.label[i], order[0].second);
    ++compared;
  });
  EXPECT_GT(compared, 1500);
}

TEST(MakeSample, GivesTheSameBitsInAnyOrderAndNeedsAPlanForEveryChannel) {
  const SampleCase source({20, 22, 24}, 2, 6);
  const AugmentPlan plan = full_plan(2);
  const Sample once = sample(source, {.begin = {2, 3, 4}}, {12, 12, 12}, plan);
  sample(source, {.begin = {0, 0, 0}}, {8, 8, 8}, plain_plan(2));
  EXPECT_EQ(sample(source, {.begin = {2, 3, 4}}, {12, 12, 12}, plan), once);
  for (const float x : once.image) ASSERT_TRUE(std::isfinite(x));
  EXPECT_THROW(sample(source, {}, {8, 8, 8}, plain_plan(1)), Error);
}

TEST(MakeSample, SurvivesFlatPatchesAndNotANumber) {
  SampleCase source({1, 20, 20}, 1, 6);
  const Sample flat_patch = sample(source, {.begin = {0, -2, 3}}, {1, 16, 16}, full_plan(1));
  for (const float x : flat_patch.image) ASSERT_TRUE(std::isfinite(x));
  std::fill(source.image.begin(), source.image.end(), 3.0f);  // no range at all
  for (const float x : sample(source, {}, {1, 9, 9}, full_plan(1)).image) {
    ASSERT_TRUE(std::isfinite(x));
  }
  source.image[5] = std::numeric_limits<float>::quiet_NaN();
  sample(source, {}, {1, 9, 9}, full_plan(1));
  AugmentPlan broken = plain_plan(1);
  broken.affine = true;
  broken.scale = {NAN, 1e30, -1e30};
  for (const float x : sample(source, {}, {1, 9, 9}, broken).image) EXPECT_EQ(x, 0.0f);
}

// ---- intensity, each against a naive reference in double ----

TEST(Intensity, NoiseIsStandardNormalPerVoxelIndexAndSharedByChannels) {
  constexpr std::int64_t kVoxels = 200001;
  std::vector<float> image(2 * kVoxels, 0.0f);
  kernels::cpu::add_noise(image.data(), kVoxels, 2, 0.5f, 42);
  double mean = 0, square = 0, neighbours = 0, fourth = 0;
  for (std::size_t i = 0; i < kVoxels; ++i) {
    const double x = static_cast<double>(image[i]) / 0.5;
    mean += x;
    square += x * x;
    fourth += x * x * x * x;
    if (i > 0) neighbours += x * static_cast<double>(image[i - 1]) / 0.5;
    ASSERT_EQ(image[i], image[kVoxels + i]);
  }
  const double sigma = 1 / std::sqrt(static_cast<double>(kVoxels));
  EXPECT_NEAR(mean / kVoxels, 0, 4 * sigma);
  EXPECT_NEAR(square / kVoxels, 1, 4 * std::sqrt(2.0) * sigma);
  EXPECT_NEAR(fourth / kVoxels, 3, 4 * std::sqrt(96.0) * sigma);
  EXPECT_NEAR(neighbours / kVoxels, 0, 4 * sigma);
  std::vector<float> shorter(1001, 0.0f);
  kernels::cpu::add_noise(shorter.data(), 1001, 1, 0.5f, 42);
  EXPECT_TRUE(std::equal(shorter.begin(), shorter.end(), image.begin()));
}

TEST(Intensity, BlurEqualsADirectConvolutionWithMirroredBorders) {
  for (const Extent3 shape : {Extent3{7, 9, 12}, Extent3{1, 3, 2}, Extent3{4, 1, 20}}) {
    const std::vector<float> before = random_image(shape, 8);
    const std::array<double, 3> sigma{0.5, 0.77, 2.0};
    kernels::BlurTaps taps[3];
    for (std::size_t a = 0; a < 3; ++a) taps[a] = kernels::make_blur_taps(sigma[a]);
    EXPECT_EQ(taps[0].radius, 1);
    std::vector<float> found = before, scratch(before.size());
    kernels::cpu::blur(found.data(), scratch.data(), {shape[0], shape[1], shape[2]}, taps);

    const auto mirror = [](std::int64_t i, std::int64_t n) {
      while (n > 1 && (i < 0 || i >= n)) i = i < 0 ? -i : 2 * (n - 1) - i;
      return n == 1 ? std::int64_t{0} : i;
    };
    std::vector<double> expected(before.size());
    for_voxels(shape, [&](std::int64_t z, std::int64_t y, std::int64_t x) {
      double sum = 0, weights = 0;
      for (int a = -taps[0].radius; a <= taps[0].radius; ++a) {
        for (int b = -taps[1].radius; b <= taps[1].radius; ++b) {
          for (int c = -taps[2].radius; c <= taps[2].radius; ++c) {
            const double w =
                std::exp(-0.5 * (a * a / (sigma[0] * sigma[0]) + b * b / (sigma[1] * sigma[1]) +
                                 c * c / (sigma[2] * sigma[2])));
            weights += w;
            sum += w * static_cast<double>(at(before,
                                              shape,
                                              mirror(z + a, shape[0]),
                                              mirror(y + b, shape[1]),
                                              mirror(x + c, shape[2])));
          }
        }
      }
      expected[static_cast<std::size_t>(flat(shape, z, y, x))] = sum / weights;
    });
    expect_close(found, expected, 3e-6);
  }
  EXPECT_EQ(kernels::make_blur_taps(1.0).radius, 3);
  EXPECT_EQ(kernels::make_blur_taps(0).radius, 0);
}

TEST(Intensity, LowResolutionEqualsNearestDownAndLinearUp) {
  const Extent3 shape{9, 10, 13}, low{5, 6, 13};
  const std::vector<float> before = random_image(shape, 9);
  std::vector<float> found = before, scratch(before.size());
  kernels::cpu::low_resolution(
      found.data(), scratch.data(), {shape[0], shape[1], shape[2]}, {low[0], low[1], low[2]});
  std::vector<double> small(static_cast<std::size_t>(volume(low)));
  for_voxels(low, [&](std::int64_t z, std::int64_t y, std::int64_t x) {
    const std::array<std::int64_t, 3> j{z, y, x};
    std::array<std::int64_t, 3> from{};
    for (std::size_t a = 0; a < 3; ++a) {
      from[a] = static_cast<std::int64_t>(
          std::floor((static_cast<double>(j[a]) + 0.5) * static_cast<double>(shape[a]) /
                     static_cast<double>(low[a])));
    }
    small[static_cast<std::size_t>(flat(low, z, y, x))] =
        static_cast<double>(at(before, shape, from[0], from[1], from[2]));
  });
  std::vector<double> expected(before.size());
  for_voxels(shape, [&](std::int64_t z, std::int64_t y, std::int64_t x) {
    const std::array<std::int64_t, 3> i{z, y, x};
    std::array<std::int64_t, 3> first{}, second{};
    std::array<double, 3> weight{};
    for (std::size_t a = 0; a < 3; ++a) {
      const double place =
          std::max(0.0,
                   (static_cast<double>(i[a]) + 0.5) * static_cast<double>(low[a]) /
                           static_cast<double>(shape[a]) -
                       0.5);
      first[a] = static_cast<std::int64_t>(place);
      second[a] = std::min(first[a] + 1, low[a] - 1);
      weight[a] = place - static_cast<double>(first[a]);
    }
    double sum = 0;
    for (int k = 0; k < 8; ++k) {
      double w = 1;
      std::array<std::int64_t, 3> j{};
      for (std::size_t a = 0; a < 3; ++a) {
        const bool up = (k >> a & 1) != 0;
        w *= up ? weight[a] : 1 - weight[a];
        j[a] = up ? second[a] : first[a];
      }
      sum += w * at(small, low, j[0], j[1], j[2]);
    }
    expected[static_cast<std::size_t>(flat(shape, z, y, x))] = sum;
  });
  expect_close(found, expected, 3e-6);
}

struct Moments {
  double low = INFINITY, high = -INFINITY, mean = 0, deviation = 0;
  explicit Moments(const std::vector<double>& x) {
    for (const double v : x) {
      low = std::min(low, v);
      high = std::max(high, v);
      mean += v / static_cast<double>(x.size());
    }
    for (const double v : x) deviation += (v - mean) * (v - mean) / static_cast<double>(x.size());
    deviation = std::sqrt(deviation);
  }
};

TEST(Intensity, StatisticsContrastAndGammaEqualTheirFormulas) {
  const Extent3 shape{5, 7, 11};  // 385 voxels: not a multiple of sixteen
  std::vector<float> image = random_image(shape, 10);
  for (float& x : image) x = 3 * x + 100;
  const std::vector<double> before(image.begin(), image.end());
  const Moments m(before);
  kernels::Stats stats{};
  const std::int64_t n = volume(shape);
  kernels::cpu::stats(image.data(), n, nullptr, &stats);
  EXPECT_EQ(static_cast<double>(stats.minimum), m.low);
  EXPECT_EQ(static_cast<double>(stats.maximum), m.high);
  EXPECT_NEAR(stats.mean, m.mean, 1e-5);
  EXPECT_NEAR(stats.deviation, m.deviation, 1e-6);

  std::vector<float> found = image;
  std::vector<double> expected = before;
  kernels::cpu::contrast(found.data(), n, 1.25f, &stats);
  for (double& x : expected) x = std::clamp((x - m.mean) * 1.25 + m.mean, m.low, m.high);
  expect_close(found, expected, 5e-5);

  for (const bool invert : {false, true}) {
    found = image;
    expected = before;
    kernels::Stats after{};
    kernels::cpu::gamma(found.data(), n, 0.7f, invert, &stats);
    kernels::cpu::stats(found.data(), n, nullptr, &after);
    kernels::cpu::restore(found.data(), n, &stats, &after);
    const double sign = invert ? -1 : 1;
    for (double& x : expected) x *= sign;
    const Moments source(expected);
    for (double& x : expected) {
      x = std::pow((x - source.low) / (source.high - source.low), 0.7) *
              (source.high - source.low) +
          source.low;
    }
    const Moments bent(expected);
    for (double& x : expected) {
      x = sign * ((x - bent.mean) * source.deviation / bent.deviation + source.mean);
    }
    expect_close(found, expected, 2e-4);
    const std::vector<double> values(found.begin(), found.end());
    EXPECT_NEAR(Moments(values).mean, m.mean, 1e-4);
    EXPECT_NEAR(Moments(values).deviation, m.deviation, 1e-4);
  }
}

// ---- what is drawn ----

constexpr int kPlans = 20000;

/// Counts how often `chosen` holds among many plans.
double share(const AugmentOptions& options,
             bool anisotropic,
             const std::function<bool(const AugmentPlan&)>& chosen) {
  int count = 0;
  for (int i = 0; i < kPlans; ++i) {
    const AugmentPlan plan =
        draw_augmentation(options, {32, 32, 32}, 2, Rng(11).split("augment", i), anisotropic);
    count += chosen(plan) ? 1 : 0;
  }
  return static_cast<double>(count) / kPlans;
}

bool rotated(const AugmentPlan& p) { return p.angle != Vec3{0, 0, 0}; }
bool scaled(const AugmentPlan& p) { return p.scale != Vec3{1, 1, 1}; }
bool any_blur(const AugmentPlan& p) {
  return p.channels[0].blur_sigma[0] > 0 || p.channels[1].blur_sigma[0] > 0;
}
bool any_low(const AugmentPlan& p) {
  return p.channels[0].zoom[2] != 1 || p.channels[1].zoom[2] != 1;
}

TEST(DrawAugmentation, HasNnunetsProbabilities) {
  const std::vector<std::pair<const char*, std::pair<double, bool (*)(const AugmentPlan&)>>> list{
      {"rotation", {0.2, rotated}},
      {"scaling", {0.2, scaled}},
      {"affine", {1 - 0.8 * 0.8, [](const AugmentPlan& p) { return p.affine; }}},
      {"noise", {0.1, [](const AugmentPlan& p) { return p.noise_deviation > 0; }}},
      {"blur", {0.2 * 0.75, any_blur}},  // of two channels at p 0.5 each
      {"blur of one channel",
       {0.2 * 0.5, [](const AugmentPlan& p) { return p.channels[1].blur_sigma[1] > 0; }}},
      {"brightness", {0.15, [](const AugmentPlan& p) { return p.channels[0].brightness != 1; }}},
      {"brightness up", {0.075, [](const AugmentPlan& p) { return p.channels[0].brightness > 1; }}},
      {"contrast", {0.15, [](const AugmentPlan& p) { return p.channels[1].contrast != 1; }}},
      {"low resolution", {0.25 * 0.75, any_low}},
      {"gamma inverted",
       {0.1, [](const AugmentPlan& p) { return p.channels[0].gamma_inverted != 1; }}},
      {"gamma", {0.3, [](const AugmentPlan& p) { return p.channels[0].gamma != 1; }}},
      {"gamma up", {0.15, [](const AugmentPlan& p) { return p.channels[0].gamma > 1; }}},
      {"flip D", {0.5, [](const AugmentPlan& p) { return p.flip[0]; }}},
      {"flip H and W", {0.25, [](const AugmentPlan& p) { return p.flip[1] && p.flip[2]; }}},
  };
  for (const double strength : {0.5, 1.0}) {
    for (const auto& [name, rule] : list) {
      const auto& [p, chosen] = rule;
      const bool mirror = std::string(name).starts_with("flip");
      double expected = p * (mirror ? 1 : strength);
      if (std::string(name) == "affine") expected = 1 - std::pow(1 - 0.2 * strength, 2);
      const double sigma = std::sqrt(expected * (1 - expected) / kPlans);
      EXPECT_NEAR(share({.strength = strength}, false, chosen), expected, 4 * sigma)
          << name << " at strength " << strength;
    }
  }
  // Independent of each other: both at once as often as the product says.
  EXPECT_NEAR(
      share({}, false, [](const AugmentPlan& p) { return rotated(p) && p.channels[0].gamma != 1; }),
      0.06,
      4 * std::sqrt(0.06 * 0.94 / kPlans));
}

/// Smallest and largest value over many plans, where it is drawn at all.
std::pair<double, double> range_of(const AugmentOptions& options,
                                   bool anisotropic,
                                   const std::function<double(const AugmentPlan&)>& value,
                                   double neutral) {
  double low = INFINITY, high = -INFINITY;
  share(options, anisotropic, [&](const AugmentPlan& p) {
    const double x = value(p);
    if (x != neutral) {
      low = std::min(low, x);
      high = std::max(high, x);
    }
    return true;
  });
  return {low, high};
}

TEST(DrawAugmentation, HasNnunetsRangesAndWidensThemAboveStrengthOne) {
  struct Range {
    const char* name;
    double low, high, low_at_2, high_at_2, neutral;
    double (*value)(const AugmentPlan&);
  };
  const double degree = std::numbers::pi / 180;
  const Range list[] = {
      {"angle",
       -30 * degree,
       30 * degree,
       -60 * degree,
       60 * degree,
       0,
       [](const AugmentPlan& p) { return p.angle[2]; }},
      {"scale", 0.7, 1.4, 0.49, 1.96, 1, [](const AugmentPlan& p) { return p.scale[0]; }},
      {"noise", 0, 0.1, 0, 0.2, 0, [](const AugmentPlan& p) { return p.noise_deviation; }},
      {"blur", 0.5, 1, 0.5, 2, 0, [](const AugmentPlan& p) { return p.channels[0].blur_sigma[1]; }},
      {"brightness",
       0.75,
       1.25,
       0.5625,
       1.5625,
       1,
       [](const AugmentPlan& p) { return p.channels[0].brightness; }},
      {"contrast",
       0.75,
       1.25,
       0.5625,
       1.5625,
       1,
       [](const AugmentPlan& p) { return p.channels[1].contrast; }},
      {"zoom", 0.5, 1, 0.25, 1, 1, [](const AugmentPlan& p) { return p.channels[0].zoom[1]; }},
      {"gamma inverted",
       0.7,
       1.5,
       0.49,
       2.25,
       1,
       [](const AugmentPlan& p) { return p.channels[0].gamma_inverted; }},
      {"gamma", 0.7, 1.5, 0.49, 2.25, 1, [](const AugmentPlan& p) { return p.channels[0].gamma; }},
  };
  for (const Range& r : list) {
    for (const double strength : {1.0, 2.0}) {
      const double low = strength > 1 ? r.low_at_2 : r.low;
      const double high = strength > 1 ? r.high_at_2 : r.high;
      const auto [found_low, found_high] =
          range_of({.strength = strength}, false, r.value, r.neutral);
      const double slack = 0.02 * (high - low);  // over a thousand draws come this near
      EXPECT_GE(found_low, low - 1e-12) << r.name << " at strength " << strength;
      EXPECT_LE(found_low, low + slack) << r.name << " at strength " << strength;
      EXPECT_LE(found_high, high + 1e-12) << r.name << " at strength " << strength;
      EXPECT_GE(found_high, high - slack) << r.name << " at strength " << strength;
    }
  }
}

TEST(DrawAugmentation, KeepsTheSlicesOfAnisotropicPatches) {
  EXPECT_TRUE(is_anisotropic_patch({16, 64, 64}));
  EXPECT_FALSE(is_anisotropic_patch({40, 56, 40}));
  EXPECT_EQ(share({},
                  true,
                  [](const AugmentPlan& p) {
                    return p.angle[1] != 0 || p.angle[2] != 0 || p.scale[0] != 1 ||
                           p.channels[0].zoom[0] != 1;
                  }),
            0);
  const auto [low, high] = range_of(
      {}, true, [](const AugmentPlan& p) { return p.angle[0]; }, 0);
  EXPECT_LT(low, -3.0);
  EXPECT_GT(high, 3.0);
}

TEST(DrawAugmentation, StrengthZeroIsThePlainCropAndMirroringCanBeOff) {
  EXPECT_EQ(
      share(
          {.strength = 0}, false, [](const AugmentPlan& p) { return !(p == test::plain_plan(2)); }),
      0);
  EXPECT_EQ(share({.mirror = false},
                  false,
                  [](const AugmentPlan& p) { return p.flip[0] || p.flip[1] || p.flip[2]; }),
            0);
  EXPECT_THROW(draw_augmentation({.strength = -1}, {8, 8, 8}, 1, Rng(1)), Error);
  EXPECT_THROW(draw_augmentation({.strength = 2.5}, {8, 8, 8}, 1, Rng(1)), Error);
}

// ---- the CUDA stub ----

TEST(CudaStub, SaysThatThisBuildHasNoCuda) {
  if (kernels::cuda::compiled()) GTEST_SKIP() << "this build has CUDA kernels";
  EXPECT_EQ(kernels::cuda::device_count(), 0);
  try {
    kernels::cuda::allocate(16);
    FAIL() << "expected an Error";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("no CUDA"), std::string::npos) << e.what();
  }
}

// ---- instance norm and leaky ReLU, channels last ----

using kernels::Bf16;
using kernels::NormActShape;

float from_bits(Bf16 x) { return std::bit_cast<float>(static_cast<std::uint32_t>(x) << 16); }
float widen(float x) { return x; }
float widen(Bf16 x) { return from_bits(x); }
template <class T>
T narrow(float x) {
  if constexpr (std::is_same_v<T, float>) {
    return x;
  } else {
    return static_cast<Bf16>(std::bit_cast<std::uint32_t>(x) >> 16);
  }
}

/// Runs the ranges in reverse order and in uneven pieces: results may not depend on it.
const kernels::ParallelFor kPieces = [](std::int64_t count, const auto& body) {
  for (std::int64_t end = count; end > 0; end -= std::min<std::int64_t>(3, end)) {
    body(std::max<std::int64_t>(0, end - 3), end);
  }
};
const kernels::ParallelFor kWhole = [](std::int64_t count, const auto& body) { body(0, count); };

template <class T>
struct NormActRun {
  std::vector<T> x, dy, y, dx;
  std::vector<float> gamma, beta, mean, rstd, dgamma, dbeta;
};

template <class T>
NormActRun<T> run_norm_act(const NormActShape& s,
                           float slope,
                           bool affine,
                           float offset,
                           const kernels::ParallelFor& parallel) {
  NormActRun<T> r;
  Rng rng(12);
  const auto n = static_cast<std::size_t>(s.samples * s.voxels * s.channels);
  const auto c = static_cast<std::size_t>(s.channels);
  const auto nc = static_cast<std::size_t>(s.samples) * c;
  for (std::size_t i = 0; i < n; ++i) {
    r.x.push_back(
        narrow<T>(offset + static_cast<float>(rng.normal()) * (1.0f + static_cast<float>(i % c))));
    r.dy.push_back(narrow<T>(static_cast<float>(rng.normal())));
  }
  for (std::size_t i = 0; i < c; ++i) {
    r.gamma.push_back(static_cast<float>(rng.uniform(-1.5, 1.5)));
    r.beta.push_back(static_cast<float>(rng.normal()));
  }
  r.y.resize(n);
  r.dx.resize(n);
  r.mean.resize(nc);
  r.rstd.resize(nc);
  r.dgamma.resize(c);
  r.dbeta.resize(c);
  const float* gamma = affine ? r.gamma.data() : nullptr;
  const float* beta = affine ? r.beta.data() : nullptr;
  kernels::norm_act_forward<T>(
      r.x.data(), s, gamma, beta, 1e-5f, slope, r.y.data(), r.mean.data(), r.rstd.data(), parallel);
  kernels::norm_act_backward<T>(r.dy.data(),
                                r.x.data(),
                                s,
                                gamma,
                                beta,
                                slope,
                                r.mean.data(),
                                r.rstd.data(),
                                r.dx.data(),
                                affine ? r.dgamma.data() : nullptr,
                                affine ? r.dbeta.data() : nullptr,
                                parallel);
  return r;
}

template <class T>
void check_norm_act(const NormActShape& s, float slope, bool affine, float offset) {
  const NormActRun<T> r = run_norm_act<T>(s, slope, affine, offset, kPieces);
  // bfloat16 keeps 8 bits: half a unit in the last place of the result. float: rounding of about
  // `voxels` terms.
  const double relative = std::is_same_v<T, float> ? 2e-5 : 1.0 / 256;
  std::vector<double> dgamma(r.gamma.size()), dbeta(r.gamma.size());
  for (std::int64_t n = 0; n < s.samples; ++n) {
    for (std::int64_t c = 0; c < s.channels; ++c) {
      const auto place = [&](std::int64_t v) {
        return static_cast<std::size_t>((n * s.voxels + v) * s.channels + c);
      };
      const auto count = static_cast<double>(s.voxels);
      const double g = affine ? static_cast<double>(r.gamma[static_cast<std::size_t>(c)]) : 1.0;
      const double b = affine ? static_cast<double>(r.beta[static_cast<std::size_t>(c)]) : 0.0;
      double mean = 0, variance = 0;
      for (std::int64_t v = 0; v < s.voxels; ++v)
        mean += static_cast<double>(widen(r.x[place(v)])) / count;
      for (std::int64_t v = 0; v < s.voxels; ++v) {
        variance += std::pow(static_cast<double>(widen(r.x[place(v)])) - mean, 2) / count;
      }
      const double rstd = 1 / std::sqrt(variance + 1e-5);
      const auto nc = static_cast<std::size_t>(n * s.channels + c);
      EXPECT_NEAR(r.mean[nc], mean, 1e-5 * (std::abs(mean) + 1 / rstd));
      EXPECT_NEAR(r.rstd[nc], rstd, 1e-4 * rstd);
      std::vector<double> gradient(static_cast<std::size_t>(s.voxels)), normal(gradient.size());
      std::vector<bool> kink(gradient.size());
      double sum = 0, product = 0;
      for (std::int64_t v = 0; v < s.voxels; ++v) {
        const auto k = static_cast<std::size_t>(v);
        normal[k] = (static_cast<double>(widen(r.x[place(v)])) - mean) * rstd;
        const double z = g * normal[k] + b;
        const double y = z > 0 ? z : static_cast<double>(slope) * z;
        ASSERT_NEAR(widen(r.y[place(v)]), y, relative * std::abs(y) + 2e-4)
            << "sample " << n << " channel " << c << " voxel " << v;
        kink[k] = std::abs(z) < 1e-4;  // either side is right
        const bool positive = kink[k] ? static_cast<double>(widen(r.y[place(v)])) > 0 : z > 0;
        gradient[k] = static_cast<double>(widen(r.dy[place(v)])) *
                      (positive ? 1 : static_cast<double>(slope));
        sum += gradient[k];
        product += gradient[k] * normal[k];
      }
      dgamma[static_cast<std::size_t>(c)] += product;
      dbeta[static_cast<std::size_t>(c)] += sum;
      for (std::int64_t v = 0; v < s.voxels; ++v) {
        const auto k = static_cast<std::size_t>(v);
        const double dx = g * rstd * (gradient[k] - sum / count - normal[k] * product / count);
        ASSERT_NEAR(widen(r.dx[place(v)]), dx, relative * std::abs(dx) + 3e-4 * rstd)
            << "sample " << n << " channel " << c << " voxel " << v;
      }
    }
  }
  if (!affine) return;
  for (std::size_t c = 0; c < r.gamma.size(); ++c) {
    const double tolerance = 1e-4 * std::sqrt(static_cast<double>(s.samples * s.voxels)) + 1e-3;
    EXPECT_NEAR(r.dgamma[c], dgamma[c], tolerance);
    EXPECT_NEAR(r.dbeta[c], dbeta[c], tolerance);
  }
}

TEST(NormAct, EqualsTheFormulasInDoubleForAnyNumberOfChannels) {
  for (const std::int64_t channels : {1, 3, 8, 16, 20, 32, 50, 96}) {
    SCOPED_TRACE(channels);
    check_norm_act<float>({2, 77, channels}, 0.01f, true, 0.0f);
    check_norm_act<Bf16>({2, 77, channels}, 0.01f, true, 0.0f);
  }
  check_norm_act<float>({1, 5000, 32}, 0.01f, true, 0.0f);  // several slabs
  check_norm_act<Bf16>({3, 5000, 17}, 0.2f, true, 0.0f);
  check_norm_act<float>({2, 64, 24}, 1.0f, false, 0.0f);  // norm alone
  check_norm_act<float>({2, 64, 24}, 0.0f, true, 0.0f);   // ReLU
  check_norm_act<float>({1, 1, 5}, 0.01f, true, 0.0f);    // a single voxel: variance 0
}

TEST(NormAct, KeepsItsAccuracyFarFromZero) {
  // Mean 1000 at deviation 1: E[x^2] - mean^2 in float would lose all digits.
  check_norm_act<float>({2, 3000, 1}, 0.01f, true, 1000.0f);
}

TEST(NormAct, GivesTheSameBitsForAnyVectorWidthAndSplit) {
  const NormActShape shape{2, 3000, 53};
  const auto reference = run_norm_act<Bf16>(shape, 0.01f, true, 1.0f, kWhole);
  const auto reference_float = run_norm_act<float>(shape, 0.01f, true, 1.0f, kWhole);
  const std::vector<std::string> variants = kernels::norm_act_variants();
  ASSERT_EQ(variants.front(), "base");
  for (const std::string& variant : variants) {
    SCOPED_TRACE(variant);
    const kernels::NormActVariant use(variant);
    const auto half = run_norm_act<Bf16>(shape, 0.01f, true, 1.0f, kPieces);
    const auto full = run_norm_act<float>(shape, 0.01f, true, 1.0f, kPieces);
    EXPECT_TRUE(half.y == reference.y && half.dx == reference.dx);
    EXPECT_TRUE(half.dgamma == reference.dgamma && half.dbeta == reference.dbeta);
    EXPECT_TRUE(full.y == reference_float.y && full.dx == reference_float.dx);
    EXPECT_TRUE(full.dgamma == reference_float.dgamma && full.dbeta == reference_float.dbeta);
  }
  EXPECT_THROW(kernels::NormActVariant("mmx"), Error);
}

TEST(NormAct, RoundsToTheNearestEvenAndKeepsNotANumber) {
  // slope 1, mean 0, variance 1 - eps: the output is the input rounded to bfloat16 and back, so x =
  // bf16 exactly.
  for (const std::string& variant : kernels::norm_act_variants()) {
    const kernels::NormActVariant use(variant);
    std::vector<Bf16> x(40, narrow<Bf16>(1.0f)), y(40);
    for (std::size_t i = 0; i < 20; ++i) x[i] = narrow<Bf16>(-1.0f);
    std::vector<float> gamma{1.00390625f}, mean(1), rstd(1);  // 1 + 2^-8: a tie, to even is 1
    kernels::norm_act_forward<Bf16>(x.data(),
                                    {1, 40, 1},
                                    gamma.data(),
                                    nullptr,
                                    0.0f,
                                    1.0f,
                                    y.data(),
                                    mean.data(),
                                    rstd.data(),
                                    kWhole);
    EXPECT_EQ(from_bits(y[39]), 1.0f);
    gamma[0] = 1.01171875f;  // 1 + 3 * 2^-8: the tie above, to even is 1 + 2^-6
    kernels::norm_act_forward<Bf16>(x.data(),
                                    {1, 40, 1},
                                    gamma.data(),
                                    nullptr,
                                    0.0f,
                                    1.0f,
                                    y.data(),
                                    mean.data(),
                                    rstd.data(),
                                    kWhole);
    EXPECT_EQ(from_bits(y[39]), 1.015625f);

    std::vector<Bf16> wide(64 * 3, narrow<Bf16>(1.0f)), out(wide.size());
    wide[64 + 5] = 0x7fff;  // NaN in channel 5 of 64: it and only it spreads
    std::vector<float> means(64), rstds(64);
    kernels::norm_act_forward<Bf16>(wide.data(),
                                    {1, 3, 64},
                                    nullptr,
                                    nullptr,
                                    1e-5f,
                                    0.01f,
                                    out.data(),
                                    means.data(),
                                    rstds.data(),
                                    kWhole);
    for (std::size_t i = 0; i < out.size(); ++i) {
      EXPECT_EQ(std::isnan(from_bits(out[i])), i % 64 == 5) << variant << " " << i;
    }
  }
  EXPECT_THROW(check_norm_act<float>({0, 3, 4}, 1, false, 0), Error);
}

}  // namespace
}  // namespace nas
