// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "training/data/preprocessing.h"
#include "training/fit/step_log.h"
#include "training/model/graph_module.h"
#include "training/settings/options.h"

namespace nas {

/// The differences between trainings: choose a path before the step, take an alpha step on another
/// batch, log.
struct FitHooks {
  std::function<void(std::int64_t step)> before_step;  // 0-based: steps done before
  std::function<void(const StepInfo&)> after_step;
  /// Polled before each step; true saves a checkpoint and stops with status "stopped".
  /// stop_requested() is polled too.
  std::function<bool()> should_stop;
  /// With it the clock decides how long the training is (Pace; "wsd" only): seconds that it has
  /// left. options.steps is then what is expected.
  std::function<double()> seconds_left;
  /// Extra state for the checkpoint (both set or none).
  std::function<std::string()> save_state;
  std::function<void(const std::string&)> load_state;
};

struct FitReport {
  std::string status;              // "done", "stopped", "nan"
  std::int64_t steps = 0;          // done in total, resumed ones included
  std::int64_t planned_steps = 0;  // where it ends; as fixed by the clock where that decides
  double learning_rate = 0;        // of the next step: 0 once a decay is complete
  std::int64_t skipped = 0;        // steps whose gradients were not finite
  double seconds = 0;              // of this call
  double wait_seconds = 0;
  std::vector<double> losses;  // one per step of the whole training, resumed ones included
};

/// Files and times of a fit.
struct FitFiles {
  std::filesystem::path folder;     // checkpoint.pt lies here; empty: no checkpoint
  double checkpoint_seconds = 300;  // between checkpoints
  std::filesystem::path
      continues;            // checkpoint of a training that this one goes on from, if it has
                            // none of its own; the cases may be others
  bool resume = true;       // continue from an existing checkpoint with equal options (else Error)
  bool tensorboard = true;  // event file in folder
  bool show_progress = true;
  std::string label = "training";  // of the progress line
};

class Trainer;

/// The trainer (training/fit/trainer.h) of `network` on the cases named by `train_ids`. \throws as fit().
std::unique_ptr<Trainer> make_trainer(GraphModule& network,
                                      const CaseCache& data,
                                      const std::vector<std::string>& train_ids,
                                      const TrainOptions& options);

/// One whole training: resumes where a checkpoint lies, trains `network` in place, saves, and
/// leaves what is delivered in it. Deterministic on the CPU for given options and threads: a resumed
/// run equals the straight one bit for bit.
///
/// Sample s of step i is a function of (seed, i, s) alone, so threads and resumption change
/// nothing. With `average_decay` the network holds the averaged weights when fit returns (the
/// checkpoint holds both). "nan" (a loss that is not finite) leaves the weights as they were before
/// that step. \throws Error(Input|Usage) on unknown ids, a patch that the network cannot take, or a
/// checkpoint of another training.
FitReport fit(GraphModule& network,
              const CaseCache& data,
              const std::vector<std::string>& train_ids,
              const TrainOptions& options,
              const FitFiles& files = {},
              const FitHooks& hooks = {});

}  // namespace nas
