// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "nas/search/strategy.h"

namespace nas {

/// Random search with successive halving. Rung 0 holds the baseline (individual 0) and trials - 1
/// different random genotypes; each rung promotes its best share `keep` to the next, where they
/// train anew with a longer schedule. Every rung may spend the same part of the stage's budget,
/// divided equally among its trials. Failed trials are not promoted. Source: Jamieson and
/// Talwalkar, AISTATS 2016, arXiv:1502.07943; that individual 0 always takes part is ours.
std::unique_ptr<Strategy> make_random_search(const StrategyContext& context);

}  // namespace nas
