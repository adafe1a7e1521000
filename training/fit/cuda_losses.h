// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include "training/fit/loss_sums.h"

namespace nas {

/// Whether the losses of `logits` go through the kernels of training/kernels/dice_loss.h: on CUDA in
/// a build that has them, float or lower, but not squared Dice.
bool has_cuda_loss(const at::Tensor& logits, const DiceCeOptions& options);

/// dice_ce_loss and dice_bce_loss (not focal) there: one pass over the logits each way, without
/// waiting for the device.
at::Tensor cuda_dice_ce_loss(const at::Tensor& logits,
                             const at::Tensor& target,
                             const DiceCeOptions& options);
at::Tensor cuda_dice_bce_loss(const at::Tensor& logits,
                              const at::Tensor& target,
                              const DiceCeOptions& options);

}  // namespace nas
