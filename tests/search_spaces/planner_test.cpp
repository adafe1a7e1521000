// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/planned_unet/planner.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "search_spaces/planned_unet/nnunet_plans.h"
#include "tests/support/support.h"

namespace nas {
namespace {

PlannerOptions options_of_row(const std::string& label) {
  if (label == "default_24gb") return {.planner = "default", .gpu_memory_gb = 24};
  if (label == "resenc_m") return {.planner = "resenc-m"};
  if (label == "resenc_l") return {.planner = "resenc-l"};
  return {};
}

/// Every plan of an oracle file, configuration by configuration, numbers exactly.
void expect_plans_of(const std::filesystem::path& file, int expected_plans) {
  const Json rows = read_json(file);
  int plans = 0;
  for (const Json& row : rows) {
    const std::string name = row.at("name");
    const Fingerprint fingerprint = fingerprint_from_json(row.at("fingerprint"), name);
    const PlannerFacts facts = planner_facts_from_json(row.at("dataset"), name, name);
    for (const auto& [label, expected] : row.at("plans").items()) {
      SCOPED_TRACE(name + ", " + label);
      ++plans;
      if (expected.contains("error")) {
        EXPECT_THROW(make_plan(fingerprint, facts, options_of_row(label)), Error);
        continue;
      }
      const Plan plan = make_plan(fingerprint, facts, options_of_row(label));
      const Json got = nnunet_plans_json(plan);
      for (const char* key : {"transpose_forward",
                              "original_median_spacing_after_transp",
                              "original_median_shape_after_transp"}) {
        EXPECT_EQ(got.at(key), expected.at(key)) << key;
      }
      for (const char* configuration : {"3d_fullres", "3d_lowres", "3d_cascade_fullres"}) {
        SCOPED_TRACE(configuration);
        const Json& theirs = expected.at("configurations");
        const Json& ours = got.at("configurations");
        // nnU-Net writes a plans file by merging with one that is there: where the 24 GB run plans
        // no low resolution, its row still shows the one of the 8 GB run. Batch Dice tells: full
        // resolution has it exactly when the same run planned a low resolution.
        if (label == "default_24gb" && theirs.contains(configuration) &&
            !theirs.at("3d_fullres").at("batch_dice") &&
            configuration != std::string("3d_fullres")) {
          EXPECT_EQ(theirs.at(configuration),
                    row.at("plans").at("default").at("configurations").at(configuration));
          EXPECT_FALSE(ours.contains(configuration));
          continue;
        }
        ASSERT_EQ(ours.contains(configuration), theirs.contains(configuration));
        if (!theirs.contains(configuration)) continue;
        for (const auto& [key, value] : theirs.at(configuration).items()) {
          ASSERT_TRUE(ours.at(configuration).contains(key)) << key;
          EXPECT_EQ(ours.at(configuration).at(key), value) << key;
        }
        EXPECT_EQ(ours.at(configuration).size(), theirs.at(configuration).size());
      }
    }
  }
  EXPECT_EQ(plans, expected_plans);
}

TEST(Planner, EqualsNnunetOnTwentyFourCohorts) {
  NAS_SHARED_OR_SKIP(file, "oracles/nnunet_plans.json");
  expect_plans_of(file, 24 + 3 * 8);
}

TEST(Planner, EqualsNnunetOnTheTenMsdTasks) {
  NAS_SHARED_OR_SKIP(file, "oracles/msd_plans.json");
  expect_plans_of(file, 30);
}

Fingerprint cohort(const Vec3& spacing, const Extent3& shape, std::size_t cases = 20) {
  Fingerprint fingerprint;
  fingerprint.spacings.assign(cases, spacing);
  fingerprint.shapes_after_crop.assign(cases, shape);
  fingerprint.intensity.assign(1, {});
  return fingerprint;
}

PlannerFacts ct_facts() {
  return {.dataset_name = "Dataset900_Test",
          .channel_names = {"CT"},
          .classes = 2,
          .training_cases = 20};
}

TEST(Planner, FeatureMapElementsOfKnownNetworks) {
  // The two figures that nnU-Net's planners print for 128^3 (residual) and were calibrated on.
  UnetArchitecture unet;
  unet.residual = true;
  unet.classes = 3;
  unet.features = {32, 64, 128, 256, 320, 320};
  unet.strides = {{1, 1, 1}, {2, 2, 2}, {2, 2, 2}, {2, 2, 2}, {2, 2, 2}, {2, 2, 2}};
  unet.kernels.assign(6, {3, 3, 3});
  unet.blocks = {1, 3, 4, 6, 6, 6};
  unet.decoder_convs.assign(5, 1);
  // The printed figure has five segmentation outputs; planning counts the finest only.
  double coarse_outputs = 0;
  for (int s = 1; s < 5; ++s) coarse_outputs += 3 * std::pow(128 >> s, 3);
  EXPECT_EQ(feature_map_elements(unet, {128, 128, 128}) + coarse_outputs, 558319104);
}

TEST(Planner, RefusesWithAReason) {
  const auto reason =
      [](const Fingerprint& fingerprint, const PlannerFacts& facts, const PlannerOptions& options) {
        try {
          make_plan(fingerprint, facts, options);
        } catch (const Error& error) {
          return std::string(error.what());
        }
        return std::string("no refusal");
      };
  EXPECT_NE(reason(cohort({1, 1, 1}, {1, 200, 200}), ct_facts(), {}).find("2D data set"),
            std::string::npos);
  EXPECT_NE(reason(cohort({0, 1, 1}, {50, 60, 70}), ct_facts(), {}).find("spacing must be > 0"),
            std::string::npos);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_NE(reason(cohort({nan, 1, 1}, {50, 60, 70}), ct_facts(), {}).find("spacing must be > 0"),
            std::string::npos);
  EXPECT_NE(reason(cohort({1, 1, 1}, {5, 6, 7}), ct_facts(), {}).find("too small"),
            std::string::npos);
  EXPECT_NE(
      reason(cohort({1, 1, 1}, {50, 60, 70}), ct_facts(), {.gpu_memory_gb = 1e-6}).find("memory"),
      std::string::npos);
  EXPECT_NE(reason(cohort({1, 1, 1}, {50, 60, 70}), ct_facts(), {.planner = "resenc_m"})
                .find("did you mean resenc-m"),
            std::string::npos);
  EXPECT_NE(
      reason(cohort({1e7, 1e-3, 1e-3}, {50, 600, 700}), ct_facts(), {}).find("differ too much"),
      std::string::npos);
  Fingerprint two_channels = cohort({1, 1, 1}, {50, 60, 70});
  two_channels.intensity.resize(2);
  EXPECT_NE(reason(two_channels, ct_facts(), {}).find("1 channels, found 2"), std::string::npos);
  EXPECT_NE(reason({}, ct_facts(), {}).find("per case"), std::string::npos);
}

TEST(Planner, MoreMemoryNeverGivesASmallerPatchOrBatch) {
  const Fingerprint fingerprint = cohort({2.5, 0.8, 0.8}, {90, 512, 512});
  double before = 0;
  for (const double memory : {4.0, 8.0, 16.0, 32.0, 64.0}) {
    const Plan plan = make_plan(fingerprint, ct_facts(), {.gpu_memory_gb = memory});
    const Configuration& full = plan.configuration("3d_fullres");
    const double voxels = static_cast<double>(volume(full.patch) * full.batch);
    EXPECT_GE(voxels, before) << memory << " GB";
    before = voxels;
  }
}

TEST(Planner, AxesGoCoarsestFirstAndBack) {
  const Plan plan = make_plan(cohort({0.7, 0.8, 5}, {400, 380, 40}), ct_facts());
  EXPECT_EQ(plan.transpose_forward, (std::array<int, 3>{2, 0, 1}));
  EXPECT_EQ(plan.transpose_backward, (std::array<int, 3>{1, 2, 0}));
  EXPECT_EQ(plan.configuration("3d_fullres").spacing, (Vec3{5, 0.7, 0.8}));
  EXPECT_EQ(plan.configuration("3d_fullres").normalization,
            (std::vector<std::string>{"CTNormalization"}));
}

}  // namespace
}  // namespace nas
