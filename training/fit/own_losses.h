// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>

#include <ATen/core/Tensor.h>

#include "training/settings/options.h"

namespace nas {

/// A loss of a program of the user's own, which TrainOptions::loss names as it does ours.
struct OwnLoss {
  std::string name;
  /// Of one output. \param logits [N, K, D, H, W]. \param target as training_target
  /// (training/fit/losses.h) gives it, at the logits' size: [N, D, H, W] int16, -1 where ignored.
  /// \returns a scalar.
  std::function<at::Tensor(
      const at::Tensor& logits, const at::Tensor& target, const TrainOptions& options)>
      loss;
};

/// \throws Error(Usage) after the first training, or if there is a loss of this name.
void add_loss(OwnLoss loss);
/// nullptr: not one of these.
const OwnLoss* own_loss(const std::string& name);

}  // namespace nas
