// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "nas/search/strategy.h"

namespace nas {

/// Kind "random": random search with successive halving. Rung 0 holds the baseline (individual 0)
/// and trials - 1 different random genotypes; each rung promotes its best share `keep` to the next,
/// where they train anew with a longer schedule. Option `design`: "sobol" spreads the
/// genotypes evenly over the space instead of drawing each on its own. Every rung may spend the same part of the stage's
/// budget, divided equally among its trials. Failed trials are not promoted. Source: Jamieson and
/// Talwalkar, AISTATS 2016, arXiv:1502.07943; that individual 0 always takes part is ours, and so
/// is the cost limit: where the baseline's final training gets fewer than 300 steps, the other
/// networks are those that get 300 in the same time, or a quarter of its cost.
const StrategyKind& random_kind();

/// Trials per rung of successive halving: {9, 3, 1} for trials 9, rungs 3, keep 1/3. At least one
/// each.
std::vector<std::int64_t> halving_sizes(std::int64_t trials, std::int64_t rungs, double keep);

}  // namespace nas
