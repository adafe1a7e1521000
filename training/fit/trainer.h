// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "nas/core/json.h"
#include "training/fit/step_log.h"
#include "training/fit/training_step.h"
#include "training/settings/schedule.h"

namespace nas {

/// The differences between trainings: choose a path before the step, take an alpha step on another
/// batch, log.
struct FitHooks {
  /// \param step 0-based: steps done before. \param learning_rate of the step.
  std::function<void(std::int64_t step, double learning_rate)> before_step;
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

/// A training that can be paused, scored, continued and finished at any step. Over k pauses, saved
/// and loaded or not, it equals the straight one bit for bit on the CPU, as long as its schedule
/// can be continued (can_continue).
class Trainer {
 public:
  /// \param network borrowed, as is what `source` refers to.
  /// \param source of batches; sample s of step i must be a function of (i, s) alone.
  /// \param cases names the data; a checkpoint must agree in it.
  Trainer(GraphModule& network,
          MakeSource source,
          const TrainOptions& options,
          std::string cases = {});
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  /// Trains until `step` steps are done, or hooks or user stop it, or the loss is not finite
  /// (FitReport::status of report()). The network then holds the weights that are trained.
  /// \param files only what is shown and logged; checkpoints are written where
  /// files.checkpoint_seconds have passed and files.folder is given.
  const FitReport& run_until(std::int64_t step,
                             const FitFiles& files = {},
                             const FitHooks& hooks = {});

  /// How the training ends; only "wsd" leaves it open, and only what is not yet done may change.
  void end_as(const TrainOptions& options);
  const TrainOptions& options() const { return options_; }
  const FitReport& report() const { return report_; }
  std::int64_t steps() const { return report_.steps; }
  at::Device device() const { return device_; }

  void save(const std::filesystem::path& checkpoint, const FitHooks& hooks = {}) const;
  /// \param same_data whether `cases` must agree too; not where a training goes on with other
  /// cases. \throws Error(Input) naming the file.
  void load(const std::filesystem::path& checkpoint,
            bool same_data = true,
            const FitHooks& hooks = {});

  /// While this lives the network holds what would be delivered now, and is in evaluation mode: the
  /// averaged weights where there are any.
  class Scored {
   public:
    explicit Scored(Trainer& trainer);
    ~Scored();
    Scored(const Scored&) = delete;
    Scored& operator=(const Scored&) = delete;

   private:
    Trainer& trainer_;
  };
  /// The network keeps what would be delivered now; the training is over.
  void deliver();

 private:
  bool step(const FitHooks& hooks, const FitFiles& files, StepLog& log);
  Json identity(bool with_data) const;

  GraphModule& network_;
  const MakeSource make_source_;
  TrainOptions options_;
  const std::string cases_;
  const at::Device device_;
  TrainingStep step_;
  std::unique_ptr<BatchSource> source_;
  Pace pace_;
  FitReport report_;
};

}  // namespace nas
