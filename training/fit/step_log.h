// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "training/data/tensorboard.h"
#include "training/fit/batches.h"

namespace nas {

/// Where a fit stands after a step; what hooks and listeners see.
struct StepInfo {
  std::int64_t step = 0;  // 1-based: steps done
  double loss = 0;
  double learning_rate = 0;
  double step_seconds = 0;
  double wait_seconds = 0;  // of step_seconds, waiting for data
  bool skipped = false;     // non-finite gradients: the update was left out
};

/// TensorBoard scalars of the steps, and every kDiceInterval steps the Dice of the training batch.
class StepLog {
 public:
  /// \param folder of the event file; empty: nothing is written.
  explicit StepLog(const std::filesystem::path& folder);
  /// \param output [N, K, D, H, W] of the step's batch.
  void add(const StepInfo& info, const Batch& batch, const at::Tensor& output);
  void finish();

  static constexpr std::int64_t kDiceInterval = 10;  // steps

 private:
  std::optional<EventWriter> writer_;
};

/// "loss 0.412, waiting for data 3 %" for a progress line.
std::string progress_note(double smooth_loss, double wait_share, std::int64_t skipped);

}  // namespace nas
