// SPDX-License-Identifier: Apache-2.0
#include "training/fit/loss_sums.h"

#include <algorithm>

namespace nas {
namespace {

/// Weights of the classes in generalized Dice: 1 / (sum t)^2, where nothing is there the largest of
/// the others. \param reference [N, K], sums of t.
at::Tensor generalized_weights(const at::Tensor& reference) {
  const at::Tensor missing = reference.eq(0);
  const at::Tensor weight = reference.masked_fill(missing, 1).pow(-2).masked_fill(missing, 0);
  return at::where(missing, weight.amax(1, true).expand_as(weight), weight);
}

}  // namespace

LossSums sums_of_columns(const at::Tensor& rows, std::int64_t classes, std::int64_t parts) {
  const auto columns = [&](std::int64_t from, std::int64_t count) {
    return rows.narrow(1, from, count);
  };
  return {columns(0, classes),
          columns(classes, classes),
          columns(2 * classes, classes),
          columns(3 * classes, parts).sum(1),
          columns(3 * classes + parts, parts).sum(1)};
}

DiceQuotient dice_quotient(at::Tensor overlap,
                           at::Tensor predicted,
                           at::Tensor reference,
                           const DiceCeOptions& options,
                           std::int64_t first) {
  for (at::Tensor* sum : {&overlap, &predicted, &reference}) {
    *sum = sum->slice(1, first);
    if (options.batch_dice) *sum = sum->sum(0, true);
  }
  at::Tensor both = predicted + reference, weight;
  if (options.generalized) {
    weight = generalized_weights(reference);
    overlap = (weight * overlap).sum(1, true);
    both = (weight * both).sum(1, true);
  }
  return {2 * overlap + options.smooth, (both + options.smooth).clamp_min(1e-8), weight};
}

LossOfSums loss_of_sums(const LossSums& sums,
                        const DiceCeOptions& options,
                        std::int64_t first,
                        std::int64_t ce_terms) {
  const auto [top, bottom, weight] =
      dice_quotient(sums.overlap, sums.predicted, sums.reference, options, first);
  const at::Tensor dice = top / bottom;
  const double terms = static_cast<double>(std::max<std::int64_t>(dice.numel(), 1));
  at::Tensor by_overlap = (2 / bottom).mul(-options.dice_weight / terms);
  at::Tensor by_sum = (-top / (bottom * bottom)).mul(-options.dice_weight / terms);
  if (weight.defined()) {
    by_overlap = weight * by_overlap;
    by_sum = weight * by_sum;
  }
  const at::Tensor a = at::zeros_like(sums.overlap), b = at::zeros_like(sums.overlap);
  a.slice(1, first).copy_(by_overlap.expand_as(a.slice(1, first)));
  b.slice(1, first).copy_(by_sum.expand_as(b.slice(1, first)));
  const at::Tensor count = sums.count.sum().mul(static_cast<double>(ce_terms));
  const at::Tensor ce_scale = at::where(count.gt(0), options.ce_weight / count, 0.0);
  const at::Tensor loss =
      ce_scale * sums.nll.sum() - dice.sum().mul(options.dice_weight).div(terms);
  return {loss, a, b, ce_scale};
}

}  // namespace nas
