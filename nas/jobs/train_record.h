// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include <nlohmann/json.hpp>

#include "nas/core/json.h"
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

/// Everything that a run needs to go on: RUN/training.json.
struct TrainRun {
  std::string data;
  int fold = 0;  // -1: all cases train
  std::string configuration;
  DataOptions how;
  double budget_seconds = 0;
  TrainOptions options;
  Json transfer;     // weights to start from, and how many fitted; null without
  Json mirroring;    // how it was decided (MirrorCheck); null where there was nothing to decide
  Json data_record;  // what the data set was (data_record()); null in runs of before
};

Json to_json(const TrainRun& run);
/// \throws Error(Input|Io) naming file and key.
TrainRun read_train_run(const std::filesystem::path& file);

}  // namespace nas
