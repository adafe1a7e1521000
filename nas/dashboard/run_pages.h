// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nas/core/json.h"
#include "nas/dashboard/live_run.h"
#include "nas/results/results_db.h"

/// What the pages about one run show, as JSON. Numbers that the report has are the report's
/// (report_data). Members throw Error(Usage) where the client asks for what is not there, other
/// kinds where it cannot be read.
namespace nas {

/// The run itself: record, stages with what they counted, genes, workers, clock.
Json run_head(LiveRun& run);
/// Everything about one trial, with what differs from individual 0.
Json trial_page(LiveRun& run, std::int64_t id);
/// {"curves": [{"name", "steps", "values"}]}: what was reported on the way, each at most `points`
/// long: of each bin the smallest and the largest value stay.
Json trial_curves(LiveRun& run, std::int64_t id, std::size_t points);
/// The end of what the trial's worker said, at most `bytes`; "" where nothing is kept.
std::string trial_log(LiveRun& run, std::int64_t id, std::size_t bytes);
/// The network as SVG, drawn by Graphviz.
std::string trial_drawing(LiveRun& run, std::int64_t id);
/// Fronts of the trained networks by two numbers of trial_columns ("score", "params", a metric, ...):
/// {"x", "y", "points": [{"id", "x", "y", "front"}]}. \param of purpose of the trials: "search" and "retrain" train
/// differently long and are not compared.
Json pareto_page(LiveRun& run, const std::string& x, const std::string& y, const std::string& of);

/// A trial of a run, for comparisons.
struct TrialOfRun {
  std::int64_t number = 0;  // of the run
  LiveRun* run = nullptr;
  std::int64_t trial = 0;
};
/// Settings, curves and scores per case of two to five trials; each against the first, paired by
/// cases.
Json compare_page(const std::vector<TrialOfRun>& trials);

/// All trials as CSV.
std::string trials_csv(LiveRun& run);

}  // namespace nas
