// SPDX-License-Identifier: Apache-2.0
// Our figures against nnU-Net's own evaluation of the same files.
#include <sys/wait.h>

#include <cstdlib>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "nas/core/files.h"
#include "nas/core/json.h"
#include "nas/core/rng.h"
#include "nas/imaging/metrics.h"
#include "nas/imaging/nifti.h"
#include "tests/support/support.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kCases = 5;

/// Label maps with `classes` classes, of which class 3 is in no case and class 2 in two of them;
/// the last case is empty in both.
std::pair<LabelMap, LabelMap> random_pair(std::size_t i, Rng rng) {
  LabelMap prediction, reference;
  prediction.geometry.shape = {7, 8, 9};
  reference.geometry = prediction.geometry;
  const auto largest = [&](bool predicted) -> std::int64_t {
    if (i == kCases - 1) return 0;
    return i < 2 || (predicted && i == 3) ? 2 : 1;  // case 3: class 2 is only predicted
  };
  for (int v = 0; v < 7 * 8 * 9; ++v) {
    reference.voxels.push_back(static_cast<std::int16_t>(rng.integer(0, largest(false) + 1)));
    prediction.voxels.push_back(rng.uniform() < 0.6
                                    ? reference.voxels.back()
                                    : static_cast<std::int16_t>(rng.integer(0, largest(true) + 1)));
  }
  return {prediction, reference};
}

void expect_same(const std::optional<double>& ours, const Json& theirs, const std::string& what) {
  ASSERT_EQ(ours.has_value(), theirs.is_number()) << what << ": " << theirs.dump();
  if (ours) {
    EXPECT_NEAR(*ours, theirs.get<double>(), 1e-14) << what;
  }
}

TEST(NnunetMetrics, EqualItsComputeMetricsOnFolder) {
  NAS_PYTHON_OR_SKIP(python);
  const test::TempFolder temp;
  fs::create_directory(temp / "reference");
  fs::create_directory(temp / "prediction");
  std::vector<CaseMetrics> cases;
  for (std::size_t i = 0; i < kCases; ++i) {
    const auto [prediction, reference] = random_pair(i, Rng("pairs").split("case", i));
    const std::string id = "c" + std::to_string(i);
    write_nifti(temp / ("prediction/" + id + ".nii.gz"), prediction);
    write_nifti(temp / ("reference/" + id + ".nii.gz"), reference);
    cases.push_back(compute_metrics(prediction, reference, 3, {.distances = false}));
    cases.back().id = id;
  }
  Json jobs = Json::array();
  // With all classes nnU-Net's foreground mean is NaN, since class 3 never occurs.
  for (const Json& labels : {Json{1, 2, 3}, Json{1, 2}}) {
    jobs.push_back({{"reference", (temp / "reference").string()},
                    {"prediction", (temp / "prediction").string()},
                    {"labels", labels},
                    {"ignore", nullptr},
                    {"out", (temp / (std::to_string(labels.size()) + ".json")).string()}});
  }
  // Overlapping regions, and voxels (of class 1) that the references leave out.
  const LabelScheme regions{.names = {"background", "both", "second"},
                            .regions = {{1, 2}, {2}},
                            .region_labels = {1, 2},
                            .has_ignore = true};
  fs::create_directory(temp / "ignoring");
  std::vector<CaseMetrics> region_cases;
  for (std::size_t i = 0; i < kCases; ++i) {
    auto [prediction, reference] = random_pair(i, Rng("pairs").split("case", i));
    for (std::size_t v = 0; v < reference.voxels.size(); v += 5) reference.voxels[v] = 3;
    write_nifti(temp / ("ignoring/c" + std::to_string(i) + ".nii.gz"), reference);
    region_cases.push_back(compute_metrics(prediction, reference, regions, {.distances = false}));
  }
  jobs.push_back({{"reference", (temp / "ignoring").string()},
                  {"prediction", (temp / "prediction").string()},
                  {"labels", {{1, 2}, 2}},
                  {"ignore", 3},
                  {"out", (temp / "regions.json").string()}});
  write_json(temp / "jobs.json", jobs);
  const int status =
      std::system((python.string() + " " + NAS_INTEROP_DIR + "/nnunet_metrics.py " +
                   (temp / "jobs.json").string() + " >" + (temp / "log").string() + " 2>&1")
                      .c_str());
  if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "needs nnU-Net in the Python environment";
  ASSERT_EQ(status, 0) << read_file(temp / "log", 1 << 20);

  // Python writes NaN, which is no JSON: null for our reader.
  const auto summary = [&](const std::string& name) {
    std::string text = read_file(temp / name, 1 << 24);
    for (std::size_t at = 0; (at = text.find("NaN", at)) != std::string::npos;)
      text.replace(at, 3, "null");
    return parse_json(text, name);
  };
  const Json all = summary("3.json"), two = summary("2.json");
  const MetricMeans means = mean_metrics(cases);
  for (std::size_t k = 0; k < 3; ++k) {
    const std::string label = std::to_string(k + 1);
    expect_same(means.classes[k].dice, all.at("mean").at(label).at("Dice"), "class " + label);
    for (std::size_t i = 0; i < kCases; ++i) {
      const Json& theirs = all.at("metric_per_case").at(i).at("metrics").at(label);
      expect_same(cases[i].classes[k].dice, theirs.at("Dice"), cases[i].id + " " + label);
      EXPECT_EQ(cases[i].classes[k].reference_voxels, theirs.at("n_ref"));
    }
  }
  const Json theirs = summary("regions.json");
  const MetricMeans region_means = mean_metrics(region_cases);
  expect_same(region_means.classes[0].dice, theirs.at("mean").at("(1, 2)").at("Dice"), "both");
  expect_same(region_means.classes[1].dice, theirs.at("mean").at("2").at("Dice"), "second");
  expect_same(region_means.foreground.dice, theirs.at("foreground_mean").at("Dice"), "regions");
  for (std::size_t i = 0; i < kCases; ++i) {
    const Json& own = theirs.at("metric_per_case").at(i).at("metrics").at("(1, 2)");
    EXPECT_EQ(region_cases[i].classes[0].predicted_voxels, own.at("n_pred"));
    EXPECT_EQ(region_cases[i].classes[0].reference_voxels, own.at("n_ref"));
    EXPECT_EQ(region_cases[i].classes[0].common_voxels, own.at("TP"));
  }
  EXPECT_FALSE(all.at("foreground_mean").at("Dice").is_number());
  expect_same(means.foreground.dice, two.at("foreground_mean").at("Dice"), "foreground");
}

}  // namespace
}  // namespace nas
