// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "nas/core/json.h"
#include "nas/imaging/metrics.h"
#include "search_spaces/planned_unet/data_options.h"
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
  DataOptions how;
  std::string options;                   // JSON text of training options that overrule the rule
  std::string options_name = "options";  // where they come from, for errors
  bool resume = false;  // take everything from the run folder and go on; `data`: where the data set
                        // lies now, empty: where it lay
  TrainOptions base;    // seed, device, precision, threads
};

struct TrainOutcome {
  bool stopped = false;               // by the user; go on with `resume`
  std::vector<CaseMetrics> held_out;  // scored cases, by the model that did not see them
  std::string report;                 // JSON text: what --json prints
};

/// Data set -> fingerprint -> plan -> cache -> fit -> RUN/model, RUN/metrics.json, RUN/predictions.
/// Neither fingerprint nor plan see the held-out cases. \throws Error(Usage|Input|Io); Usage too
/// while another process works on the run, Input if the data set of a resumed run is no longer what
/// it began with.
TrainOutcome train_network(const TrainJob& job);

/// Whether the folder holds the record of a training.
bool is_training_run(const std::filesystem::path& run_folder);

/// What a new job and a resumed one must say and must not. \throws Error(Usage|Io).
void check_new_training(const TrainJob& job);
void check_resumed_training(const TrainJob& job);

}  // namespace nas
