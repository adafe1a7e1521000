// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <torch/torch.h>

#include "training/fit/batches.h"
#include "training/fit/optimizer.h"
#include "training/model/graph_module.h"
#include "training/settings/options.h"

namespace nas {

/// The loss that `fit` trains with: segmentation_loss with what `options` say.
at::Tensor training_loss(const std::vector<at::Tensor>& outputs,
                         const at::Tensor& target,
                         const TrainOptions& options);

/// One training step, and everything that changes from step to step. Borrows network and options.
struct TrainingStep {
  TrainingStep(GraphModule& network, const TrainOptions& options, const at::Device& device);

  /// \param index of the step, 0-based. \param skipped whether gradients were not finite, so that
  /// the update was left out. \returns the loss; if it is not finite nothing was changed.
  double run(const Batch& batch, std::int64_t index, bool& skipped);

  /// Every tensor that a checkpoint holds.
  NamedTensors state() const;

  GraphModule& network;
  const TrainOptions& options;
  const at::Device device;
  const at::ScalarType type;
  Optimizer optimizer;
  std::optional<WeightAverage> average;
  std::optional<GradScaler> scaler;
  at::Tensor first_output;  // of the last step, detached
};

}  // namespace nas
