// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <vector>

#include <torch/torch.h>

#include "nas/imaging/label_scheme.h"
#include "training/fit/loss_sums.h"
#include "training/settings/options.h"

namespace nas {

/// What TrainOptions say of the loss. \throws Error(Usage) on an unknown loss.
DiceCeOptions loss_options(const TrainOptions& options);

/// Soft Dice plus cross-entropy as nnU-Net's default loss.
///
///   dice_k = (2 sum p_k t_k + smooth) / (sum p_k + sum t_k + smooth),  k = 1..K-1 (no background
///            unless include_background)
///   loss   = mean(-(1 - p_target)^gamma log p_target) - mean_k dice_k   (mean over samples too
///            unless batch_dice)
///
/// Softmax is taken here in float32. On the CPU forward and backward are one pass each over the
/// voxels, with sums over fixed slabs, so that the value does not depend on the number of threads.
/// Source: Isensee et al., "nnU-Net", Nature Methods 2021; checked against nnU-Net's loss and
/// gradient. gamma > 0: Lin et al., "Focal loss", ICCV 2017. \param logits [N, K, D, H, W] float,
/// half or bfloat16; any memory format. \param target [N, D, H, W] int16 or int64 class ids in [0,
/// K); -1 counts nowhere. \returns scalar float32 (float64 for float64 logits) on the device of
/// `logits`. \throws Error(Shape) if sizes disagree.
at::Tensor dice_ce_loss(const at::Tensor& logits,
                        const at::Tensor& target,
                        const DiceCeOptions& options = {});

/// Soft Dice plus binary cross-entropy of overlapping regions as nnU-Net's region-based loss.
///
///   dice_k = (2 sum p_k t_k + smooth) / (sum p_k + sum t_k + smooth),  p = sigmoid(logit), all k
///   loss   = mean bce(p_k, t_k) - mean_k dice_k   (mean over samples too unless batch_dice)
///
/// With ignored voxels all sums leave them out, and the cross-entropy is its sum over regions and
/// voxels by the number of voxels, not of voxels and regions: nnU-Net's own weighting.
/// \param logits [N, K, D, H, W] float, half or bfloat16; any memory format. \param target [N, K,
/// D, H, W] uint8, 1 in the region; or [N, K + 1, D, H, W], whose last channel is 1 in ignored
/// voxels. \returns scalar float32 (float64 for float64 logits). \throws Error(Shape) if sizes
/// disagree.
at::Tensor dice_bce_loss(const at::Tensor& logits,
                         const at::Tensor& target,
                         const DiceCeOptions& options = {});

/// What the losses take for label maps of a data set: [N, D, H, W] int16, -1 where ignored; with
/// regions the multi-hot form of dice_bce_loss.
/// \param labels [N, D, H, W] int16, values of `scheme`.
at::Tensor training_target(const at::Tensor& labels, const LabelScheme& scheme);

/// Voxels of each foreground class or region in a batch, ignored ones left out; double, on the CPU.
struct HardCounts {
  at::Tensor common, both;  // [K']: predicted and there; predicted plus there
};
/// \param logits [N, K, D, H, W]. \param target as training_target gives it, cropped to the middle
/// where the logits are smaller.
HardCounts hard_counts(const at::Tensor& logits, const at::Tensor& target);

/// Weights of deep supervision as nnU-Net: 1, 1/2, 1/4, ... with the last 0 (if there are several),
/// normalised to sum 1.
std::vector<double> deep_supervision_weights(std::size_t outputs);

/// `target` at another size: nearest voxel centre ("nearest-exact"). [..., D, H, W] -> [..., d, h,
/// w], same type.
at::Tensor resize_target(const at::Tensor& target, at::IntArrayRef size);

/// The middle of `target`, [..., D, H, W] -> [..., d, h, w]: what a first output of this size
/// describes (OutputRegion).
at::Tensor crop_target(const at::Tensor& target, at::IntArrayRef size);

/// Sum of term(output, target at its size) over the outputs (finest first) with
/// deep_supervision_weights; `deep_supervision` false: the first only. The first output has the
/// target's resolution; where it is smaller it describes the middle, and so do the others.
at::Tensor sum_over_outputs(
    const std::vector<at::Tensor>& outputs,
    const at::Tensor& target,
    bool deep_supervision,
    const std::function<at::Tensor(const at::Tensor& logits, const at::Tensor& target)>& term);

/// dice_ce_loss (dice_bce_loss for the target of regions), summed over the outputs.
at::Tensor segmentation_loss(const std::vector<at::Tensor>& outputs,
                             const at::Tensor& target,
                             bool deep_supervision = true,
                             const DiceCeOptions& options = {});

}  // namespace nas
