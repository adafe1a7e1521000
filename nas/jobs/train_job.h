// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "nas/core/json.h"
#include "nas/imaging/metrics.h"
#include "training/settings/options.h"

namespace nas {

/// What `voxnas train` was asked for.
struct TrainJob {
  std::filesystem::path data;        // data set folder
  std::filesystem::path run_folder;  // new; with `resume` one that holds a run
  int fold = 0;                      // whose validation cases are held out; -1: all cases train
  double budget_seconds = 0;         // for everything, preparation and scoring included; or
  std::int64_t steps = 0;            // optimiser steps
  std::string network;               // graph file; "": the planned network
  bool weights = false;  // start from the weights of the model folder `network` where shapes agree
  std::string configuration = "3d_fullres";
  std::string planner = "default";
  std::string options;                   // JSON text of training options that overrule the rule
  std::string options_name = "options";  // where they come from, for errors
  bool resume = false;  // take everything from the run folder and go on; `data` may be empty
  TrainOptions base;    // seed, device, precision, threads
};

struct TrainOutcome {
  bool stopped = false;               // by the user; go on with `resume`
  std::vector<CaseMetrics> held_out;  // scored cases, by the model that did not see them
  std::string report;                 // JSON text: what --json prints
};

/// Data set -> fingerprint -> plan -> cache -> fit -> RUN/model, RUN/metrics.json, RUN/predictions.
/// Neither fingerprint nor plan see the held-out cases. \throws Error(Usage|Input|Io).
TrainOutcome train_network(const TrainJob& job);

/// `train_network` once per fold of the data set, in RUN/fold_0, RUN/fold_1, ...: each with an
/// equal share of the budget, or with `steps`. RUN/metrics.json then holds every case once, scored
/// by the fold that held it out. `job.fold` is not looked at. RUN/folds.json is the record from
/// which `resume` goes on: finished folds are kept.
TrainOutcome train_all_folds(const TrainJob& job);

/// The training over folds of what a finished search delivered: its network, and the options and
/// steps of its final training. For `train_all_folds`; RUN/folds is the run folder, gone on with if
/// it holds a record. \throws Error(Input) if the search has delivered nothing.
TrainJob winner_job(const std::filesystem::path& search_run);

/// Whether the folder holds the record of a training over folds.
bool is_folds_run(const std::filesystem::path& run_folder);

}  // namespace nas
