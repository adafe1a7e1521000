// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "nas/network/output_region.h"
#include "training/data/preprocessing.h"
#include "training/model/graph_module.h"
#include "training/settings/options.h"

namespace nas {

/// One batch on the training device.
struct Batch {
  at::Tensor image;   // [N, C, D, H, W] float32
  at::Tensor target;  // [N, D, H, W] int16; -1 ignored
};

/// The batch of step `step`, on the CPU: a function of the cases, `options` and the step alone.
/// \param region of the patch that the network describes (output_region); empty: all of it.
Batch make_batch(const std::vector<const CachedCase*>& cases,
                 const TrainOptions& options,
                 std::int64_t step,
                 const OutputRegion& region = {});

/// The batches of the steps in order, prepared ahead of their use.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  virtual Batch next() = 0;
};
/// From step `first_step` to options.steps. On a GPU that has room for the data set samples are
/// made there. The cases must outlive the source.
std::unique_ptr<BatchSource> make_source(const std::vector<const CachedCase*>& cases,
                                         const TrainOptions& options,
                                         std::int64_t first_step,
                                         const at::Device& device,
                                         const OutputRegion& region = {});

/// The loss that `fit` trains with by default: segmentation_loss with what `options` say.
at::Tensor training_loss(const std::vector<at::Tensor>& outputs,
                         const at::Tensor& target,
                         const TrainOptions& options);

/// Where a fit stands after a step; what hooks and listeners see.
struct StepInfo {
  std::int64_t step = 0;  // 1-based: steps done
  double loss = 0;
  double learning_rate = 0;
  double step_seconds = 0;
  double wait_seconds = 0;  // of step_seconds, waiting for data
  bool skipped = false;     // non-finite gradients: the update was left out
};

/// The differences between trainings: choose a path before the step, take an alpha step on another
/// batch, log.
struct FitHooks {
  std::function<void(std::int64_t step)> before_step;  // 0-based: steps done before
  std::function<void(const StepInfo&)> after_step;
  /// Replaces the default loss of a batch (super-networks). Default: fit's own Dice +
  /// cross-entropy, deep supervision.
  std::function<at::Tensor(const Batch&)> loss;
  /// Polled before each step; true saves a checkpoint and stops with status "stopped".
  /// stop_requested() is polled too.
  std::function<bool()> should_stop;
  /// Extra state for the checkpoint (both set or none).
  std::function<std::string()> save_state;
  std::function<void(const std::string&)> load_state;
};

struct FitReport {
  std::string status;        // "done", "stopped", "nan"
  std::int64_t steps = 0;    // done in total, resumed ones included
  std::int64_t skipped = 0;  // steps whose gradients were not finite
  double seconds = 0;        // of this call
  double wait_seconds = 0;
  std::vector<double> losses;  // one per step of the whole training, resumed ones included
};

/// Files and times of a fit.
struct FitFiles {
  std::filesystem::path folder;     // checkpoint.pt lies here; empty: no checkpoint
  double checkpoint_seconds = 300;  // between checkpoints
  bool resume = true;       // continue from an existing checkpoint with equal options (else Error)
  bool tensorboard = true;  // event file in folder
  bool show_progress = true;
  std::string label = "training";  // of the progress line
};

/// The one training loop. Trains `network` in place on the cases named by `train_ids`. Reads top to
/// bottom; the step is fenced. Deterministic on the CPU for given options and threads: a resumed
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

/// What a training step costs on this machine.
struct ProbeResult {
  double seconds_per_step = 0;     // median of the measured steps
  double seconds_per_forward = 0;  // of one sample, without gradients
  std::int64_t peak_bytes = 0;     // of the process (CPU) or of the device allocator
};

/// Runs one warm-up and `steps` measured training steps of a fresh module of `graph` on random
/// data.
ProbeResult probe(const Graph& graph, const TrainOptions& options, int steps = 2);

}  // namespace nas
