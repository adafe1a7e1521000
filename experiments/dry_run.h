// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "experiments/forecast.h"
#include "nas/core/json.h"
#include "nas/network/graph.h"
#include "nas/search/forecast.h"

namespace nas {

struct DryRunOptions {
  std::string device = "h100";          // device_names()
  double budget_seconds = 24 * 3600.0;  // of the search, or of the training
  std::string planner = "default";
  std::string recipe = {};  // built-in name or file instead of the experiment's own
  /// Networks to forecast beside the planned one, already adapted to the task.
  std::vector<std::pair<std::string, Graph>> networks = {};
};

/// All that an experiment would do, told without its images.
struct DryRun {
  Experiment experiment;
  Plan plan;
  Device device;
  double budget_seconds = 0;
  std::string recipe_name, space;
  std::vector<NetworkForecast> networks;  // the planned one first
  std::vector<StageForecast> stages;  // of the search, by the forecast speed of the planned network
  std::vector<Calibration> calibration;  // of the H100, the one machine with times for all tasks
};

/// \throws Error(Usage|Input|Shape).
DryRun dry_run(const Experiment& experiment, const DryRunOptions& options);
std::string to_text(const DryRun& run);
Json to_json(const DryRun& run);

/// The README.md of an experiment's folder: claim, command, hardware, expected figures with their
/// tolerance and source. `make experiments-readmes` writes them.
std::string experiment_readme(const Experiment& experiment);

}  // namespace nas
