// SPDX-License-Identifier: Apache-2.0
// Resampling, intensity, fingerprint and metrics.
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <queue>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/rng.h"
#include "nas/imaging/data_features.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/fingerprint.h"
#include "nas/imaging/intensity.h"
#include "nas/imaging/metrics.h"
#include "nas/imaging/phantom.h"
#include "nas/imaging/resample.h"
#include "nas/network/safetensors.h"
#include "tests/support/support.h"

namespace nas {
namespace {

std::vector<std::int16_t> to_labels(const TensorView& tensor) {
  std::vector<std::int16_t> labels;
  for (const float v : to_floats(tensor)) labels.push_back(static_cast<std::int16_t>(v));
  return labels;
}

Extent3 last_three(const std::vector<std::int64_t>& shape) {
  const std::size_t n = shape.size();
  return {shape[n - 3], shape[n - 2], shape[n - 1]};
}

std::vector<float> random_volume(const Extent3& shape, Rng& rng) {
  std::vector<float> values(static_cast<std::size_t>(volume(shape)));
  for (float& v : values) v = static_cast<float>(rng.normal());
  return values;
}

// ---------------------------------------------------------------- resampling

TEST(Resample, EqualsNnunet) {
  NAS_SHARED_OR_SKIP(path, "oracles/resample.safetensors");
  const SafetensorsFile file(path);
  const std::vector<float> image = to_floats(file.at("image"));
  const std::vector<std::int16_t> label = to_labels(file.at("label"));
  const Extent3 old_shape = last_three(file.at("image").shape);
  struct Case {
    std::string name;
    Vec3 from, to;
    int axis;
  };
  for (const Case& c : {Case{"isotropic", {1, 1, 1}, {.8, .8, .8}, -1},
                        Case{"anisotropic", {5, 1, 1}, {3, .9, .9}, 0}}) {
    SCOPED_TRACE(c.name);
    const Extent3 new_shape = last_three(file.at(c.name + ".image").shape);
    const int axis = separate_axis(c.from, c.to);
    EXPECT_EQ(axis, c.axis);
    const std::vector<float> expected = to_floats(file.at(c.name + ".image"));
    const std::vector<float> got = resample_image(image, old_shape, new_shape, axis);
    ASSERT_EQ(got.size(), expected.size());
    float worst = 0;
    for (std::size_t i = 0; i < got.size(); ++i)
      worst = std::max(worst, std::abs(got[i] - expected[i]));
    EXPECT_LT(worst, 1e-4f);  // asked for: 1e-3
    EXPECT_EQ(resample_labels(label, old_shape, new_shape, axis),
              to_labels(file.at(c.name + ".label")));
  }
}

TEST(Resample, ShapeRoundsHalvesToEven) {
  EXPECT_EQ(resampled_shape({5, 7, 10}, {1, 1, 1}, {2, 2, 2}), (Extent3{2, 4, 5}));
  EXPECT_THROW(resampled_shape({5, 7, 10}, {1, 1, 1}, {0, 2, 2}), Error);
}

TEST(Resample, SeparateAxisIsTheOneCoarsestAxis) {
  EXPECT_EQ(separate_axis({1, 1, 1}, {1, 1, 1}), -1);
  EXPECT_EQ(separate_axis({1, 1, 5}, {1, 1, 1}), 2);
  EXPECT_EQ(separate_axis({1, 1, 1}, {1, 4, 1}), 1);
  EXPECT_EQ(separate_axis({3, 1, 1}, {3, 1, 1}), -1);  // more than 3 is asked for
  EXPECT_EQ(separate_axis({0.24, 1.25, 1.25}, {1, 1, 1}), -1);
}

TEST(Resample, PassesThroughConstantsSamplesAndSingleVoxels) {
  Rng rng("resample");
  const std::vector<float> constant(6 * 7 * 8, 3.25f);
  for (const float v : resample_image(constant, {6, 7, 8}, {9, 4, 20}))
    EXPECT_NEAR(v, 3.25f, 1e-5f);
  const std::vector<float> noise = random_volume({6, 7, 8}, rng);
  EXPECT_EQ(resample_image(noise, {6, 7, 8}, {6, 7, 8}), noise);
  // Three times as many voxels: every third sits on a sample, which a spline goes through.
  const std::vector<float> finer = resample_image(noise, {6, 7, 8}, {6, 7, 24});
  for (std::size_t i = 0; i < noise.size(); ++i) EXPECT_NEAR(finer[3 * i + 1], noise[i], 1e-5f);
  EXPECT_EQ(resample_image(std::vector<float>{2.0f}, {1, 1, 1}, {2, 3, 1}),
            std::vector<float>(6, 2.0f));
  const auto [low, high] = std::ranges::minmax(finer);
  EXPECT_EQ(std::max(high, std::ranges::max(noise)), std::ranges::max(noise));  // no overshoot
  EXPECT_EQ(std::min(low, std::ranges::min(noise)), std::ranges::min(noise));
  EXPECT_THROW(resample_image(noise, {6, 7, 9}, {6, 7, 8}), Error);
  EXPECT_THROW(resample_image(noise, {6, 7, 8}, {6, 0, 8}), Error);
}

TEST(Resample, AxisOrderAndThreadsDoNotMatter) {
  Rng rng("resample-threads");
  const Extent3 from{19, 33, 21}, to{40, 20, 37};
  const std::vector<float> noise = random_volume(from, rng);
  EXPECT_EQ(resample_image(noise, from, to, -1, 1), resample_image(noise, from, to, -1, 4));
  // The same volume with D and W swapped gives the same values.
  const auto swapped = [](const std::vector<float>& v, const Extent3& s) {
    std::vector<float> result(v.size());
    for (std::int64_t z = 0; z < s[0]; ++z) {
      for (std::int64_t y = 0; y < s[1]; ++y) {
        for (std::int64_t x = 0; x < s[2]; ++x) {
          result[static_cast<std::size_t>((x * s[1] + y) * s[0] + z)] =
              v[static_cast<std::size_t>((z * s[1] + y) * s[2] + x)];
        }
      }
    }
    return result;
  };
  for (const auto& [axis, other] : {std::pair{-1, -1}, std::pair{0, 2}, std::pair{1, 1}}) {
    const std::vector<float> a = swapped(resample_image(noise, from, to, axis), to);
    const std::vector<float> b = resample_image(
        swapped(noise, from), {from[2], from[1], from[0]}, {to[2], to[1], to[0]}, other);
    for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 1e-4f) << axis;
  }
}

/// Order-1 value at one output voxel, written out.
double naive_linear(const std::vector<float>& v,
                    const Extent3& from,
                    const Extent3& to,
                    const Extent3& at,
                    int axis) {
  double total = 0;
  std::array<std::array<double, 2>, 3> share{};
  Extent3 first{};
  for (std::size_t a = 0; a < 3; ++a) {
    double p = (static_cast<double>(at[a]) + 0.5) * static_cast<double>(from[a]) /
                   static_cast<double>(to[a]) -
               0.5;
    p = std::clamp(p, 0.0, static_cast<double>(from[a] - 1));
    if (static_cast<int>(a) == axis) p = std::floor(p + 0.5);
    first[a] = static_cast<std::int64_t>(std::floor(p));
    share[a] = {1 - (p - std::floor(p)), p - std::floor(p)};
  }
  for (std::size_t c = 0; c < 8; ++c) {
    const std::array<std::size_t, 3> bit{c >> 2, (c >> 1) & 1, c & 1};
    double weight = 1;
    Extent3 q{};
    for (std::size_t a = 0; a < 3; ++a) {
      weight *= share[a][bit[a]];
      q[a] = std::min(first[a] + static_cast<std::int64_t>(bit[a]), from[a] - 1);
    }
    total += weight * v[static_cast<std::size_t>((q[0] * from[1] + q[1]) * from[2] + q[2])];
  }
  return total;
}

TEST(Resample, SlabsEqualTheNaiveLinearVolume) {
  Rng rng("slabs");
  const Extent3 from{7, 9, 11};
  const std::vector<float> noise = random_volume(from, rng);
  for (const Extent3& to : {Extent3{14, 5, 17}, Extent3{7, 9, 11}, Extent3{3, 30, 1}}) {
    for (const int axis : {-1, 0, 1, 2}) {
      const SlabResampler resampler(from, to, axis);
      std::vector<float> plane(static_cast<std::size_t>(to[1] * to[2]));
      for (std::int64_t z = 0; z < to[0]; ++z) {
        resampler.slab(noise.data(), z, plane);
        for (std::int64_t y = 0; y < to[1]; ++y) {
          for (std::int64_t x = 0; x < to[2]; ++x) {
            ASSERT_NEAR(plane[static_cast<std::size_t>(y * to[2] + x)],
                        naive_linear(noise, from, to, {z, y, x}, axis),
                        1e-5)
                << to_text(to) << " axis " << axis;
          }
        }
      }
    }
  }
}

TEST(Resample, LabelsAreThoseWithTheLargestShare) {
  Rng rng("labels");
  const Extent3 from{5, 6, 7},
      to{9, 5, 13};  // no position halfway between voxels in all axes: ties are rounding
  std::vector<std::int16_t> labels(static_cast<std::size_t>(volume(from)));
  for (auto& l : labels) l = static_cast<std::int16_t>(rng.integer(-1, 3));
  const std::vector<std::int16_t> got = resample_labels(labels, from, to, -1, 2);
  EXPECT_EQ(got, resample_labels(labels, from, to, -1, 1));
  std::size_t i = 0;
  for (std::int64_t z = 0; z < to[0]; ++z) {
    for (std::int64_t y = 0; y < to[1]; ++y) {
      for (std::int64_t x = 0; x < to[2]; ++x, ++i) {
        std::map<std::int16_t, double> share;
        double most = 0;
        for (std::int16_t l = -1; l < 3; ++l) {
          std::vector<float> indicator;
          for (const std::int16_t v : labels) indicator.push_back(v == l ? 1.0f : 0.0f);
          share[l] = naive_linear(indicator, from, to, {z, y, x}, -1);
          most = std::max(most, share[l]);
        }
        ASSERT_NEAR(share[got[i]], most, 1e-12);
      }
    }
  }
}

TEST(Resample, TiesBetweenLabelsGoToTheNearestVoxelThenToTheSmallest) {
  // Twice as coarse: every new voxel lies halfway, and halves go up.
  EXPECT_EQ(resample_labels(std::vector<std::int16_t>{1, 2, 2, 1}, {1, 1, 4}, {1, 1, 2}),
            (std::vector<std::int16_t>{2, 1}));
  // 1 and 2 have 3/8 each; the nearest voxel is a 3 with 2/8 (the example of batchgenerators).
  EXPECT_EQ(
      resample_labels(std::vector<std::int16_t>{3, 1, 1, 1, 2, 2, 2, 3}, {2, 2, 2}, {1, 1, 1}),
      (std::vector<std::int16_t>{1}));
}

// ---------------------------------------------------------------- intensity

Image make_image(const Extent3& shape, std::int64_t channels = 1) {
  Image image;
  image.geometry.shape = shape;
  image.channels = channels;
  image.voxels.assign(static_cast<std::size_t>(channels * volume(shape)), 0.0f);
  return image;
}

TEST(Intensity, HolesAreWhatABreadthFirstFloodDoesNotReach) {
  Rng rng("holes");
  const Extent3 shape{9, 10, 11};
  for (int round = 0; round < 20; ++round) {
    Image image = make_image(shape, 2);
    for (float& v : image.voxels) v = rng.chance(0.1 + 0.02 * round) ? 1.0f : 0.0f;
    const auto index = [&](const Extent3& p) {
      return static_cast<std::size_t>((p[0] * shape[1] + p[1]) * shape[2] + p[2]);
    };
    std::vector<std::uint8_t> expected(static_cast<std::size_t>(volume(shape)), 1);
    std::queue<Extent3> open;
    const auto visit = [&](const Extent3& p) {
      const std::size_t i = index(p);
      if (expected[i] == 0 || image.voxels[i] != 0 || image.channel(1)[i] != 0) return;
      expected[i] = 0;
      open.push(p);
    };
    for (std::int64_t z = 0; z < shape[0]; ++z) {
      for (std::int64_t y = 0; y < shape[1]; ++y) {
        for (std::int64_t x = 0; x < shape[2]; ++x) {
          if (z == 0 || y == 0 || x == 0 || z == shape[0] - 1 || y == shape[1] - 1 ||
              x == shape[2] - 1)
            visit({z, y, x});
        }
      }
    }
    while (!open.empty()) {
      const Extent3 p = open.front();
      open.pop();
      for (std::size_t a = 0; a < 3; ++a) {
        for (const std::int64_t step : {-1, 1}) {
          Extent3 q = p;
          q[a] += step;
          if (q[a] >= 0 && q[a] < shape[a]) visit(q);
        }
      }
    }
    ASSERT_EQ(nonzero_mask(image), expected) << round;
  }
}

TEST(Intensity, CropsToTheBoxAndMarksTheOutside) {
  Image image = make_image({6, 6, 6});
  LabelMap label;
  label.geometry = image.geometry;
  label.voxels.assign(216, 0);
  const auto at = [](std::int64_t z, std::int64_t y, std::int64_t x) {
    return static_cast<std::size_t>((z * 6 + y) * 6 + x);
  };
  image.voxels[at(1, 2, 3)] = 5;
  image.voxels[at(2, 4, 4)] = -5;
  label.voxels[at(1, 2, 3)] = 0;
  label.voxels[at(1, 3, 3)] = 2;  // labelled although outside the mask: kept
  const CroppedCase cropped = crop_to_nonzero(image, &label);
  EXPECT_EQ(cropped.begin, (Extent3{1, 2, 3}));
  EXPECT_EQ(cropped.image.geometry.shape, (Extent3{2, 3, 2}));
  EXPECT_EQ(cropped.label.voxels,
            (std::vector<std::int16_t>{0, -1, 2, -1, -1, -1, -1, -1, -1, -1, -1, 0}));
  EXPECT_EQ(cropped.image.voxels.front(), 5);
  EXPECT_EQ(cropped.image.voxels.back(), -5);
  const CroppedCase unlabelled = crop_to_nonzero(image);
  EXPECT_EQ(unlabelled.label.voxels,
            (std::vector<std::int16_t>{0, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0}));
  const CroppedCase empty = crop_to_nonzero(make_image({2, 3, 4}));
  EXPECT_EQ(empty.image.geometry.shape, (Extent3{2, 3, 4}));
  label.geometry.shape = {6, 6, 5};
  EXPECT_THROW(crop_to_nonzero(image, &label), Error);
}

TEST(Intensity, NormalisationsHaveTheirKnownResults) {
  const IntensityProperties properties{.mean = 10,
                                       .median = 9,
                                       .std = 4,
                                       .min = -50,
                                       .max = 90,
                                       .percentile_00_5 = -2,
                                       .percentile_99_5 = 30};
  std::vector<float> ct{-1000, 10, 14, 3000};
  normalize_channel(ct, normalization_scheme("ct"), false, {}, properties);
  EXPECT_EQ(ct, (std::vector<float>{-3, 0, 1, 5}));

  std::vector<float> image{1, 2, 3, 4, 100};
  const std::vector<std::int16_t> label{0, 1, 0, 2, -1};
  normalize_channel(image, normalization_scheme("T1w"), true, label, properties);
  const float deviation = std::sqrt(1.25f);
  const std::vector<float> expected{
      -1.5f / deviation, -0.5f / deviation, 0.5f / deviation, 1.5f / deviation, 100};
  for (std::size_t i = 0; i < 5; ++i) EXPECT_NEAR(image[i], expected[i], 1e-6f);
  std::vector<float> flat(4, 7.0f);
  normalize_channel(flat, "ZScoreNormalization", false, {}, properties);
  EXPECT_EQ(flat, std::vector<float>(4, 0.0f));

  std::vector<float> range{-1, 0, 3};
  normalize_channel(range, normalization_scheme("Rescale_to_0_1"), false, {}, properties);
  EXPECT_EQ(range, (std::vector<float>{0, 0.25f, 1}));
  std::vector<float> colour{0, 51, 255};
  normalize_channel(colour, normalization_scheme("rgb_to_0_1"), false, {}, properties);
  EXPECT_EQ(colour, (std::vector<float>{0, 0.2f, 1}));
  std::vector<float> too_bright{0, 256};
  EXPECT_THROW(normalize_channel(too_bright, "RGBTo01Normalization", false, {}, properties), Error);
  std::vector<float> as_is{1, -2};
  normalize_channel(as_is, normalization_scheme("noNorm"), false, {}, properties);
  EXPECT_EQ(as_is, (std::vector<float>{1, -2}));
  EXPECT_THROW(normalize_channel(as_is, "zscore", false, {}, properties), Error);
}

// ---------------------------------------------------------------- fingerprint

TEST(Fingerprint, OfAPhantomIsStableAndGoesThroughJson) {
  test::TempFolder folder;
  PhantomOptions options;
  options.cases = 5;
  options.size = {20, 24, 22};
  options.spacing_mm = {2, 1, 1.5};
  options.channels = 2;
  write_phantom(folder / "phantom", options);
  const DataSet data = open_data_set(folder / "phantom");
  const Fingerprint fingerprint = compute_fingerprint(data, 1, false);
  EXPECT_EQ(fingerprint, compute_fingerprint(data, 3, false));
  ASSERT_EQ(fingerprint.spacings.size(), 5u);
  ASSERT_EQ(fingerprint.intensity.size(), 2u);
  for (const Vec3& s : fingerprint.spacings) {
    for (std::size_t a = 0; a < 3; ++a) EXPECT_NEAR(s[a], options.spacing_mm[a], 1e-5);
  }
  for (const IntensityProperties& p : fingerprint.intensity) {
    EXPECT_LE(p.min, p.percentile_00_5);
    EXPECT_LE(p.percentile_00_5, p.median);
    EXPECT_LE(p.median, p.percentile_99_5);
    EXPECT_LE(p.percentile_99_5, p.max);
    EXPECT_GT(p.std, 0);
  }
  EXPECT_EQ(fingerprint_from_json(parse_json(to_json(fingerprint).dump(), "text"), "text"),
            fingerprint);
  const std::vector<double> features = data_features(fingerprint, 2, 3, 5);
  ASSERT_EQ(features.size(), 6u);
  EXPECT_NEAR(features[1], std::log(3.0), 1e-4);
  EXPECT_NEAR(features[2], std::log(2.0), 1e-4);
  EXPECT_NEAR(features[4], std::log(3.0), 1e-12);
  EXPECT_NEAR(data_features(fingerprint, 4, 3, 5)[3] - features[3], std::log(2.0), 1e-12);
  EXPECT_THROW(data_features({}, 1, 2, 3), Error);
  Json damaged = to_json(fingerprint);
  damaged["spacings"].erase(0);
  EXPECT_THROW(fingerprint_from_json(damaged, "damaged"), Error);
}

TEST(Fingerprint, AgreesWithNnunetsOnHippocampi) {
  NAS_SHARED_OR_SKIP(folder, "data/Task04_Hippocampus");
  NAS_SHARED_OR_SKIP(plans, "oracles/msd_plans.json");
  Fingerprint theirs;  // of all 260 cases; 208 are here
  for (const Json& row : read_json(plans)) {
    if (row.at("name") == "Dataset004_Hippocampus")
      theirs = fingerprint_from_json(row.at("fingerprint"), "oracle");
  }
  const Fingerprint ours = compute_fingerprint(open_data_set(folder), 0, false);
  ASSERT_EQ(ours.spacings.size(), 208u);
  std::map<Extent3, int> left;
  for (const Extent3& shape : theirs.shapes_after_crop) ++left[shape];
  for (const Extent3& shape : ours.shapes_after_crop) EXPECT_GE(--left[shape], 0) << to_text(shape);
  EXPECT_NEAR(
      ours.median_relative_size_after_cropping, theirs.median_relative_size_after_cropping, 1e-6);
  ASSERT_EQ(ours.intensity.size(), 1u);
  // A fifth of the cases is missing and scanners differ a hundredfold: orders of magnitude are what
  // can agree.
  EXPECT_NEAR(ours.intensity[0].median / theirs.intensity[0].median, 1, 0.25);
  EXPECT_NEAR(ours.intensity[0].percentile_99_5 / theirs.intensity[0].percentile_99_5, 1, 0.25);
}

// ---------------------------------------------------------------- metrics

LabelMap make_label(const Extent3& shape, const Vec3& spacing) {
  LabelMap label;
  label.geometry.shape = shape;
  label.geometry.spacing_mm = spacing;
  label.voxels.assign(static_cast<std::size_t>(volume(shape)), 0);
  return label;
}

LabelMap sphere(const Extent3& shape,
                const Vec3& spacing,
                const Vec3& centre_mm,
                double radius_mm) {
  LabelMap label = make_label(shape, spacing);
  std::size_t i = 0;
  for (std::int64_t z = 0; z < shape[0]; ++z) {
    for (std::int64_t y = 0; y < shape[1]; ++y) {
      for (std::int64_t x = 0; x < shape[2]; ++x, ++i) {
        const double dz = static_cast<double>(z) * spacing[0] - centre_mm[0];
        const double dy = static_cast<double>(y) * spacing[1] - centre_mm[1];
        const double dx = static_cast<double>(x) * spacing[2] - centre_mm[2];
        if (dz * dz + dy * dy + dx * dx <= radius_mm * radius_mm) label.voxels[i] = 1;
      }
    }
  }
  return label;
}

TEST(Metrics, EqualMonaiOnRealHippocampi) {
  NAS_SHARED_OR_SKIP(table, "oracles/metrics.json");
  NAS_SHARED_OR_SKIP(pairs, "oracles/metrics_pairs.safetensors");
  const SafetensorsFile file(pairs);
  int compared = 0;
  for (const Json& row : read_json(table)) {
    const std::string pair = std::to_string(row.at("pair").get<int>());
    const TensorView& tensor = file.at("prediction." + pair);
    LabelMap prediction = make_label(last_three(tensor.shape), row.at("spacing").get<Vec3>());
    LabelMap reference = prediction;
    prediction.voxels = to_labels(tensor);
    reference.voxels = to_labels(file.at("reference." + pair));
    const CaseMetrics got = compute_metrics(prediction, reference, 2, {.nsd_tolerance_mm = 1});
    for (const int k : {1, 2}) {
      SCOPED_TRACE("pair " + pair + ", class " + std::to_string(k));
      const Json& expected = row.at("classes").at(std::to_string(k));
      const ClassMetrics& m = got.classes[static_cast<std::size_t>(k - 1)];
      const auto compare = [&](const char* key, const std::optional<double>& value) {
        if (expected.at(key).is_null()) return;
        ASSERT_TRUE(value.has_value()) << key;
        EXPECT_NEAR(*value, expected.at(key).get<double>(), 1e-4) << key;
        ++compared;
      };
      compare("dice", m.dice);
      compare("hd95_mm", m.hd95_mm);
      compare("hd_mm", m.hd_mm);
      compare("nsd_1mm", m.nsd);
      if (expected.at("hd_mm").is_null()) {
        EXPECT_FALSE(m.hd_mm.has_value());
      }
    }
  }
  EXPECT_GE(compared, 60);
}

TEST(Metrics, DistanceTransformEqualsTheNaiveOne) {
  Rng rng("edt");
  for (int round = 0; round < 30; ++round) {
    const Extent3 shape{rng.integer(1, 9), rng.integer(1, 12), rng.integer(1, 21)};
    const Vec3 spacing{rng.uniform(0.3, 4), rng.uniform(0.3, 4), rng.uniform(0.3, 4)};
    std::vector<std::uint8_t> mask(static_cast<std::size_t>(volume(shape)));
    for (auto& m : mask) m = rng.chance(0.05);
    const std::vector<float> got = squared_distance_transform(mask, shape, spacing);
    const auto place = [&](std::size_t i) {
      const auto n = static_cast<std::int64_t>(i);
      return Vec3{static_cast<double>(n / (shape[1] * shape[2])) * spacing[0],
                  static_cast<double>(n / shape[2] % shape[1]) * spacing[1],
                  static_cast<double>(n % shape[2]) * spacing[2]};
    };
    for (std::size_t i = 0; i < mask.size(); ++i) {
      double best = INFINITY;
      const Vec3 p = place(i);
      for (std::size_t j = 0; j < mask.size(); ++j) {
        if (mask[j] == 0) continue;
        const Vec3 q = place(j);
        best = std::min(best,
                        (p[0] - q[0]) * (p[0] - q[0]) + (p[1] - q[1]) * (p[1] - q[1]) +
                            (p[2] - q[2]) * (p[2] - q[2]));
      }
      if (std::isinf(best)) {
        ASSERT_TRUE(std::isinf(got[i]));
      } else {
        ASSERT_NEAR(got[i], best, 1e-5 * std::max(1.0, best));
      }
    }
  }
}

TEST(Metrics, OfSpheresWithKnownAnswers) {
  const Extent3 shape{60, 60, 60};
  const Vec3 spacing{1, 1, 1};
  const LabelMap small = sphere(shape, spacing, {30, 30, 30}, 10),
                 large = sphere(shape, spacing, {30, 30, 30}, 15);
  const ClassMetrics nested = compute_metrics(small, large, 1).classes[0];
  EXPECT_NEAR(*nested.dice, 2 * 1000.0 / (1000 + 3375), 0.01);
  EXPECT_NEAR(*nested.hd_mm, 5, 0.5);
  EXPECT_NEAR(*nested.hd95_mm, 5, 0.5);
  EXPECT_EQ(*nested.nsd, 0);

  const ClassMetrics same = compute_metrics(large, large, 1).classes[0];
  EXPECT_EQ(*same.dice, 1);
  EXPECT_EQ(*same.hd_mm, 0);
  EXPECT_EQ(*same.hd95_mm, 0);
  EXPECT_EQ(*same.nsd, 1);

  // Shifted by 4 voxels of 2.5 mm: the farthest surface point is 10 mm away, seen from either side.
  const LabelMap here = sphere(shape, {2.5, 1, 1}, {60, 30, 30}, 12),
                 there = sphere(shape, {2.5, 1, 1}, {70, 30, 30}, 12);
  const ClassMetrics shifted = compute_metrics(here, there, 1, {.nsd_tolerance_mm = 10}).classes[0];
  EXPECT_NEAR(*shifted.hd_mm, 10, 1e-5);
  EXPECT_EQ(*shifted.nsd, 1);
}

TEST(Metrics, SurfaceDistancesEqualTheNaiveOnes) {
  Rng rng("surfaces");
  for (int round = 0; round < 10; ++round) {
    const Extent3 shape{rng.integer(2, 8), rng.integer(2, 8), rng.integer(2, 8)};
    const Vec3 spacing{rng.uniform(0.3, 4), rng.uniform(0.3, 4), rng.uniform(0.3, 4)};
    LabelMap a = make_label(shape, spacing), b = a;
    for (auto& v : a.voxels) v = rng.chance(0.7);
    for (auto& v : b.voxels) v = rng.chance(0.6);
    a.voxels[0] = b.voxels[0] = 1;
    const auto surface = [&](const LabelMap& label) {
      std::vector<Vec3> points;
      const auto set = [&](Extent3 p) {
        for (std::size_t i = 0; i < 3; ++i) {
          if (p[i] < 0 || p[i] >= shape[i]) return false;
        }
        return label.voxels[static_cast<std::size_t>((p[0] * shape[1] + p[1]) * shape[2] + p[2])] ==
               1;
      };
      for (std::int64_t z = 0; z < shape[0]; ++z) {
        for (std::int64_t y = 0; y < shape[1]; ++y) {
          for (std::int64_t x = 0; x < shape[2]; ++x) {
            const bool inner = set({z - 1, y, x}) && set({z + 1, y, x}) && set({z, y - 1, x}) &&
                               set({z, y + 1, x}) && set({z, y, x - 1}) && set({z, y, x + 1});
            if (!set({z, y, x}) || inner) continue;
            points.push_back({static_cast<double>(z) * spacing[0],
                              static_cast<double>(y) * spacing[1],
                              static_cast<double>(x) * spacing[2]});
          }
        }
      }
      return points;
    };
    const std::vector<Vec3> pa = surface(a), pb = surface(b);
    std::vector<double> all;
    for (const auto& [from, to] : {std::pair{&pa, &pb}, std::pair{&pb, &pa}}) {
      for (const Vec3& p : *from) {
        double best = INFINITY;
        for (const Vec3& q : *to)
          best = std::min(best, std::hypot(p[0] - q[0], p[1] - q[1], p[2] - q[2]));
        all.push_back(best);
      }
    }
    const ClassMetrics got = compute_metrics(a, b, 1, {.nsd_tolerance_mm = 1.1}).classes[0];
    const auto count = static_cast<double>(all.size());
    EXPECT_NEAR(*got.hd_mm, std::ranges::max(all), 1e-5);
    EXPECT_NEAR(*got.assd_mm, std::accumulate(all.begin(), all.end(), 0.0) / count, 1e-5);
    EXPECT_NEAR(
        *got.nsd,
        static_cast<double>(std::ranges::count_if(all, [](double d) { return d <= 1.1; })) / count,
        1e-9);
    EXPECT_LE(*got.hd95_mm, *got.hd_mm);
  }
}

TEST(Metrics, ByADistanceNothingIsGainedByFindingNothing) {
  LabelMap reference, nothing;
  for (LabelMap* map : {&reference, &nothing}) {
    map->geometry.shape = {3, 5, 4};
    map->geometry.spacing_mm = {2, 1, 1};
    map->voxels.assign(60, 0);
  }
  reference.voxels[0] = 1;
  const double diagonal = std::sqrt(4.0 * 4 + 4 * 4 + 3 * 3);
  const std::vector<CaseMetrics> missed{
      compute_metrics(nothing, reference, 1, {.missing_is_far = true})};
  EXPECT_EQ(compute_metrics(nothing, reference, 1).classes[0].hd95_mm, std::nullopt);
  const MetricMeans means = mean_metrics(missed);
  for (const char* name : {"hd_mm", "hd95_mm", "assd_mm"}) {
    EXPECT_DOUBLE_EQ(*score_by(metric_named(name, "test"), means), -diagonal) << name;
  }
  EXPECT_EQ(score_by(metric_named("nsd", "test"), means), 0);
  EXPECT_EQ(score_by(metric_named("dice", "test"), means), 0);
  const std::vector<CaseMetrics> none{
      compute_metrics(nothing, nothing, 1, {.missing_is_far = true})};
  EXPECT_EQ(score_by(metric_named("hd_mm", "test"), mean_metrics(none)), std::nullopt);
  EXPECT_THAT(test::error_of([] { metric_named("asd_mm", "here"); }),
              testing::AllOf(testing::HasSubstr("here: expected a metric"),
                             testing::HasSubstr("did you mean 'assd_mm'")));
}

TEST(Metrics, EmptyMasksAsDocumented) {
  const LabelMap empty = make_label({8, 8, 8}, {1, 1, 1});
  const LabelMap ball = sphere({8, 8, 8}, {1, 1, 1}, {4, 4, 4}, 2);
  const ClassMetrics both = compute_metrics(empty, empty, 1).classes[0];
  for (const MetricInfo& metric : metric_table()) EXPECT_FALSE(both.*metric.value) << metric.name;
  for (const auto& [p, r] : {std::pair{&empty, &ball}, std::pair{&ball, &empty}}) {
    const ClassMetrics one = compute_metrics(*p, *r, 1).classes[0];
    EXPECT_EQ(one.dice, 0.0);
    EXPECT_EQ(one.nsd, 0.0);
    EXPECT_FALSE(one.hd_mm || one.hd95_mm || one.assd_mm);
  }
  const auto figure = [](std::vector<CaseMetrics> cases) {
    return mean_metrics(cases).foreground.dice;
  };
  const CaseMetrics nothing = compute_metrics(empty, empty, 2),
                    false_alarm = compute_metrics(ball, empty, 2);
  EXPECT_EQ(figure({nothing}), std::nullopt) << "not scored";
  EXPECT_EQ(figure({false_alarm}), 0.0) << "class 1 was predicted, class 2 is left out";
  EXPECT_EQ(figure({false_alarm, compute_metrics(ball, ball, 2), nothing}), 0.5);
  EXPECT_EQ(dice_text(std::nullopt), "not scored");
  EXPECT_EQ(dice_text(0.95084), "0.9508");
  EXPECT_THROW(compute_metrics(make_label({8, 8, 7}, {1, 1, 1}), ball, 1), Error);
}

TEST(Metrics, RegionsAreScoredAsTheirUnionsAndIgnoredVoxelsCountNowhere) {
  const LabelScheme scheme{.names = {"background", "whole", "core"},
                           .regions = {{1, 2}, {2}},
                           .region_labels = {1, 2},
                           .has_ignore = true};
  Rng rng("regions");
  LabelMap prediction = make_label({9, 10, 11}, {2, 1, 0.5}), reference = prediction;
  for (std::int16_t& v : prediction.voxels) v = static_cast<std::int16_t>(rng.integer(0, 3));
  for (std::int16_t& v : reference.voxels) v = static_cast<std::int16_t>(rng.integer(0, 4));
  const CaseMetrics got = compute_metrics(prediction, reference, scheme);
  ASSERT_EQ(got.classes.size(), 2u);
  for (std::int16_t k = 0; k < 2; ++k) {
    // The naive way: each region as a map of its own, ignored voxels emptied in both.
    LabelMap p = prediction, r = reference;
    for (std::size_t i = 0; i < p.voxels.size(); ++i) {
      const bool counts = reference.voxels[i] != 3;
      p.voxels[i] = counts && prediction.voxels[i] > k ? 1 : 0;
      r.voxels[i] = counts && reference.voxels[i] > k ? 1 : 0;
    }
    const ClassMetrics expected = compute_metrics(p, r, 1).classes[0];
    const ClassMetrics& m = got.classes[static_cast<std::size_t>(k)];
    EXPECT_EQ(m.predicted_voxels, expected.predicted_voxels);
    EXPECT_EQ(m.reference_voxels, expected.reference_voxels);
    EXPECT_EQ(m.common_voxels, expected.common_voxels);
    for (const MetricInfo& metric : metric_table())
      EXPECT_EQ(m.*metric.value, expected.*metric.value) << metric.name;
  }
}

TEST(Metrics, DiceOnlySkipsDistances) {
  const LabelMap ball = sphere({8, 8, 8}, {1, 1, 1}, {4, 4, 4}, 2);
  const ClassMetrics m = compute_metrics(ball, ball, 1, {.distances = false}).classes[0];
  EXPECT_EQ(m.dice, 1.0);
  EXPECT_FALSE(m.hd_mm || m.hd95_mm || m.nsd);
}

TEST(Metrics, TheForegroundMeanIsOverClassesOfMeansOverCases) {
  // Class 1 in three cases, class 2 in one of them: a mean over cases would weigh them otherwise.
  std::vector<CaseMetrics> cases(3);
  const double dice[3] = {0.9, 0.8, 0.1};
  for (std::size_t i = 0; i < 3; ++i) {
    cases[i].classes.resize(3);
    cases[i].classes[0].dice = dice[i];
  }
  cases[1].classes[1].dice = 0.3;
  const MetricMeans means = mean_metrics(cases);
  EXPECT_NEAR(means.classes[0].dice.value(), 0.6, 1e-15);
  EXPECT_EQ(means.classes[1].dice, 0.3);
  EXPECT_EQ(means.classes[2].dice, std::nullopt);
  EXPECT_NEAR(means.foreground.dice.value(), 0.45, 1e-15);
  // The same bits in any order of the cases.
  std::vector<CaseMetrics> other{cases[2], cases[0], cases[1]};
  EXPECT_EQ(mean_metrics(other).foreground.dice, means.foreground.dice);
}

TEST(Metrics, JsonHoldsCasesAndMeans) {
  const LabelMap empty = make_label({8, 8, 8}, {1, 1, 1});
  const LabelMap ball = sphere({8, 8, 8}, {1, 1, 1}, {4, 4, 4}, 2);
  std::vector<CaseMetrics> cases{compute_metrics(ball, ball, 2), compute_metrics(ball, empty, 2)};
  cases[0].id = "a";
  cases[1].id = "b";
  const Json json = metrics_json(cases, {"background", "organ", "tumour"});
  EXPECT_EQ(json.at("cases").at(0).at("id"), "a");
  EXPECT_EQ(json.at("cases").at(1).at("classes").at(0).at("dice"), 0.0);
  EXPECT_TRUE(json.at("cases").at(0).at("classes").at(1).at("dice").is_null());
  EXPECT_EQ(json.at("mean").at(0).at("dice"), 0.5);
  EXPECT_EQ(json.at("mean").at(0).at("hd95_mm"), 0.0);  // over the one case that has it
  EXPECT_TRUE(json.at("mean").at(1).at("dice").is_null());
  EXPECT_EQ(json.at("foreground_mean").at("dice"), 0.5);
  for (const MetricInfo& metric : metric_table()) {
    EXPECT_TRUE(json.at("cases").at(0).at("classes").at(0).contains(metric.name));
    EXPECT_TRUE(json.at("foreground_mean").contains(metric.name));
  }
  EXPECT_EQ(metrics_json(case_metrics_from_json(json, "x"), {"background", "organ", "tumour"}),
            json);
  EXPECT_EQ(json.at("missing"), Json::array());
  const Json unscored = metrics_json(cases,
                                     {"background", "organ", "tumour"},
                                     {{"c", "no prediction", true}, {"d", "cut", false}});
  EXPECT_EQ(unscored.at("missing"), Json({{{"id", "c"}, {"reason", "no prediction"}}}));
  EXPECT_EQ(unscored.at("failed"), Json({{{"id", "d"}, {"reason", "cut"}}}));
  EXPECT_EQ(unscored.at("foreground_mean"), json.at("foreground_mean"));
}

}  // namespace
}  // namespace nas
