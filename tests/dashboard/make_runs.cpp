// SPDX-License-Identifier: Apache-2.0
// Runs for pages_test.mjs: make_runs FOLDER makes FOLDER/data and FOLDER/run, a finished search whose
// prediction of the first case misses a cube; make_runs FOLDER many TRIALS: FOLDER/run alone, with so
// many trials; make_runs FOLDER live: one trial of FOLDER/run after the other ends, a line for each.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "nas/core/error.h"
#include "nas/core/json.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/metrics.h"
#include "nas/imaging/nifti.h"
#include "nas/imaging/phantom.h"
#include "nas/results/results_db.h"
#include "tests/support/toy_search.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

constexpr const char* kEvil = "<img src=x onerror=alert(1)>";

Trial trial_of(const std::string& stage, std::int64_t proposal) {
  Trial t;
  t.stage = stage;
  t.proposal = proposal;
  t.genotype = {{static_cast<int>(proposal % 5), static_cast<int>(proposal / 5 % 5), 0}};
  t.genotype_text = concat_text("width=", proposal % 5, " depth=", proposal / 5 % 5, " kind=a");
  t.parameters = 100000 + proposal * 137 % 90000;
  t.macs = 1000000 + proposal * 7919 % 5000000;
  t.share = 1;
  return t;
}

Evaluation evaluation_of(std::int64_t proposal) {
  Evaluation e;
  e.status = proposal % 17 == 16 ? TrialStatus::Failed : TrialStatus::Done;
  e.score = 0.5 + 0.4 * (1 - std::exp(-static_cast<double>(proposal) / 30)) +
            0.05 * std::sin(static_cast<double>(proposal));
  e.steps = 100;
  e.seconds = 10;
  e.metrics = {{"inner_dice", e.score}, {"loss", -e.score}};
  e.message = e.status == TrialStatus::Failed ? kEvil : "";
  return e;
}

StageRecord stage_of(const std::string& name) {
  StageRecord stage;
  stage.name = name;
  stage.status = "running";
  stage.budget.trials = 40;
  return stage;
}

ResultsDb make_database(const fs::path& run, const fs::path& data) {
  fs::create_directories(run);
  RunRecord record = test::small_record({.steps = 1000});
  record.folder = run.string();
  record.command = "voxnas search data -o run";
  record.data_folder = data.string();
  record.recipe_json = R"({"name": "random", "stages": []})";
  record.setup_json =
      Json{{"data", {{"name", kEvil}, {"labels", {"background", "one", "two"}}}}}.dump();
  return ResultsDb::create(run / "results.sqlite", record);
}

void end_next(ResultsDb& db, const std::string& stage, std::int64_t proposal, double at) {
  const auto claimed = db.claim(stage, at);
  for (std::int64_t step = 10; step <= 100 && proposal < 100; step += 10) {
    db.add_report(*claimed, step, "inner_dice", 0.8 - 5.0 / static_cast<double>(step + 5), at);
  }
  db.finish(*claimed, evaluation_of(proposal), at + 10);
}

void make_many(const fs::path& folder, std::int64_t count) {
  ResultsDb db = make_database(folder / "run", folder / "data");
  db.start_stage(stage_of("search"));
  std::vector<Trial> trials;
  for (std::int64_t i = 0; i < count; ++i) trials.push_back(trial_of("search", i));
  db.add_trials("search", trials, {});
  for (std::int64_t i = 0; i + 100 < count; ++i) {
    db.finish(
        *db.claim("search", static_cast<double>(i)), evaluation_of(i), static_cast<double>(i) + 1);
  }
}

/// Takes the first class away from a cube in the middle of its voxels.
LabelMap with_missed_cube(LabelMap map) {
  const auto [depth, height, width] = map.geometry.shape;
  std::vector<std::int64_t> own;
  for (std::int64_t i = 0; i < std::ssize(map.voxels); ++i) {
    if (map.voxels[static_cast<std::size_t>(i)] == 1) own.push_back(i);
  }
  const std::int64_t middle = own.at(own.size() / 2);
  const std::int64_t x = middle % width, y = middle / width % height, z = middle / width / height;
  for (const std::int64_t i : own) {
    const bool near = std::abs(i % width - x) <= 3 && std::abs(i / width % height - y) <= 3 &&
                      std::abs(i / width / height - z) <= 3;
    if (near) map.voxels[static_cast<std::size_t>(i)] = 0;
  }
  return map;
}

void make_finished(const fs::path& folder) {
  PhantomOptions options;
  options.cases = 5;
  options.size = {32, 40, 36};
  options.channels = 2;
  write_phantom(folder / "data", options);
  const DataSet data = open_data_set(folder / "data");
  ResultsDb db = make_database(folder / "run", folder / "data");
  db.start_stage(stage_of("search"));
  std::vector<Trial> trials;
  for (std::int64_t i = 0; i < 40; ++i) trials.push_back(trial_of("search", i));
  trials[0].label = "baseline";
  db.add_trials("search", trials, {});
  for (std::int64_t i = 0; i < 40; ++i) end_next(db, "search", i, static_cast<double>(10 * i));
  db.end_stage("search", 400, {}, R"({"best_after": [0.5, 0.6, 0.7]})");
  db.start_stage(stage_of("final"));
  for (const char* label : {"best", "baseline"}) {
    Trial t = trial_of("final", label == std::string("best") ? 0 : 1);
    t.purpose = TrialPurpose::Retrain;
    t.label = label;
    db.add_trials("final", {t}, {});
    std::vector<CaseMetrics> cases;
    for (const CaseFiles& files : data.training) {
      const LabelMap reference = read_nifti_label(files.label);
      const bool wrong = files.id == data.training.front().id && t.label == "best";
      const LabelMap prediction = wrong ? with_missed_cube(reference) : reference;
      write_nifti(folder / "run" / "predictions" / label / (files.id + ".nii.gz"), prediction);
      cases.push_back(compute_metrics(prediction, reference, data.labels));
      cases.back().id = files.id;
    }
    cases.push_back(cases.back());
    cases.back().id = kEvil;
    Evaluation e = evaluation_of(30);
    e.details = metrics_json(cases, data.labels.names).dump();
    db.finish(*db.claim("final", 400), e, 420);
  }
  db.end_stage("final", 440, {}, "{}");
  db.add_event(440, 0, "stage ended", kEvil);
  db.set_state("done");
}

void live(const fs::path& folder) {
  ResultsDb db = ResultsDb::open(folder / "run" / "results.sqlite");
  for (std::int64_t i = 0;; ++i) {
    const auto claimed = db.claim("search", 1000);
    if (!claimed) return;
    db.finish(*claimed, evaluation_of(i), 1010);
    std::cout << claimed->id << std::endl;
    std::this_thread::sleep_for(std::chrono::milliseconds(400));
  }
}

}  // namespace
}  // namespace nas

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.size() == 1) {
    nas::make_finished(words[0]);
  } else if (words.size() == 3 && words[1] == "many") {
    nas::make_many(words[0], std::atoll(words[2].c_str()));
  } else if (words.size() == 2 && words[1] == "live") {
    nas::live(words[0]);
  } else {
    std::cerr << "make_runs FOLDER [many TRIALS | live]\n";
    return 2;
  }
  return 0;
}
