// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nas/core/json.h"
#include "nas/imaging/fingerprint.h"
#include "search_spaces/planned_unet/plan.h"
#include "search_spaces/planned_unet/planner.h"

namespace nas {

/// One experiment: a task of the Medical Segmentation Decathlon with what is known of it without
/// its images. The folder experiments/<name> holds the files; they are compiled in.
struct Experiment {
  std::string name;                      // "task07_pancreas"
  std::string dataset;                   // "Task07_Pancreas": the folder of the data set
  std::vector<std::string> class_names;  // foreground, in label order
  std::int64_t test_cases = 0;           // of the hidden test set
  PlannerFacts facts;
  Fingerprint fingerprint;  // of all training cases, as nnU-Net measured it
  std::string source;       // of fingerprint and facts
  std::string recipe_file;  // its own recipe.json, or the one that all others share
  std::string recipe;       // text of that
};

/// The ten tasks in order. \throws Error(Usage) with the nearest name on an unknown one.
const std::vector<std::string>& experiment_names();
Experiment load_experiment(const std::string& name);
Plan experiment_plan(const Experiment& experiment, const PlannerOptions& options = {});

/// A file of experiments/published, compiled in. \throws Error(Internal) if there is none.
Json published(const std::string& file);

/// nnU-Net on one task, five folds of 1000 epochs each; measured by others (published/
/// auto_nnunet.json).
struct CrossValidation {
  std::string network;                     // "ConvolutionalEncoder", "ResidualEncoderM", ...
  std::vector<std::vector<double>> folds;  // [fold][class] mean Dice
  std::vector<double> mean, deviation;     // per class over the folds; sample deviation
  double mean_dice = 0;                    // over classes
  double epoch_seconds = 0;                // median
  double fold_hours = 0;                   // 1000 epochs at the median
};
std::vector<CrossValidation> cross_validations(const std::string& experiment);

}  // namespace nas
