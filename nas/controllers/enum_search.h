// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nas/search/strategy.h"

namespace nas {

/// Kind "enum": the full product of the stage's genes, once each, in the order of their values or
/// (option `shuffled`) in an order drawn from the seed; individual 0 comes first where the product
/// holds it. Real genes are tried at `points` levels from end to end, and at their planned value.
/// Combinations that are equal once inactive genes are as planned are tried once and counted. A
/// product above `limit` is refused with its size. Every trial has the same share of the budget.
const StrategyKind& enum_kind();

}  // namespace nas
