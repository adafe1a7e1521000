// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include <torch/torch.h>

// From the sums over the voxels to the loss and what its gradient needs: the same for the passes of
// the CPU and of CUDA, in tensors, so that a GPU is not waited for.

namespace nas {

struct DiceCeOptions {
  bool batch_dice = false;  // sums over the batch before the quotient
  double smooth = 1e-5;
  double dice_weight = 1;
  double ce_weight = 1;
  double focal_gamma = 0;  // focal instead of cross-entropy: each voxel weighs (1 - p_target)^gamma
  bool include_background = false;  // class 0 in the Dice part (regions have no background)
  bool squared = false;             // sum p_k^2 + sum t_k^2 below the quotient
  /// One quotient (2 sum_k w_k sum p_k t_k + smooth) / (sum_k w_k (sum p_k + sum t_k) + smooth)
  /// instead of the mean over k; w_k = 1 / (sum t_k)^2, of a class that is not there the largest of
  /// the others, as MONAI's GeneralizedDiceLoss.
  bool generalized = false;
};

/// Per sample and class: sum p t, sum p, sum t; per sample: sum of -log p_target, number of voxels.
struct LossSums {
  at::Tensor overlap, predicted, reference, nll, count;  // double; [N, K] and [N]
};

/// LossSums from their numbers in rows: [N, 3 K + 2 parts], K sums each of p t, p and t, then `parts`
/// sums of the cross-entropy and as many of the number of voxels.
LossSums sums_of_columns(const at::Tensor& rows, std::int64_t classes, std::int64_t parts);

/// What is above and below the quotients of soft Dice, of sums [N, K] over the classes from `first`
/// on: [N, K'], or one row over the whole batch; where generalized one column.
struct DiceQuotient {
  at::Tensor top, bottom;
  at::Tensor weight;  // of the classes, where generalized
};
DiceQuotient dice_quotient(at::Tensor overlap,
                           at::Tensor predicted,
                           at::Tensor reference,
                           const DiceCeOptions& options,
                           std::int64_t first);

/// The class that the Dice part begins with.
inline std::int64_t first_of_dice(bool regions, const DiceCeOptions& options) {
  return regions || options.include_background ? 0 : 1;
}

/// loss = ce_weight * sum nll / (terms * count) - dice_weight * mean dice.
struct LossOfSums {
  at::Tensor loss;      // scalar
  at::Tensor a, b;      // [N, K]: derivatives by sum p t and sum p
  at::Tensor ce_scale;  // scalar: ce_weight / (terms * count), 0 where nothing counts
};
/// \param first class of the Dice term. \param ce_terms of a voxel. \returns doubles where the sums
/// lie.
LossOfSums loss_of_sums(const LossSums& sums,
                        const DiceCeOptions& options,
                        std::int64_t first,
                        std::int64_t ce_terms);

}  // namespace nas
