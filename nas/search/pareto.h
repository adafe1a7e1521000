// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "nas/search/ledger.h"

namespace nas {

/// Front of each point: 0 for those that no other point dominates, 1 for those that only points of
/// front 0 dominate, and so on. All values are to be small; a point dominates another if it is
/// nowhere larger and somewhere smaller. \param points equally long.
/// Source: Deb et al., "NSGA-II", IEEE Trans. Evol. Comp. 6 (2002), non-dominated sorting.
std::vector<int> pareto_fronts(const std::vector<std::vector<double>>& points);

/// Crowding distance of each point among those of its own front (NSGA-II): how far apart its
/// neighbours are, summed over the objectives; infinite at the ends.
std::vector<double> crowding_distances(const std::vector<std::vector<double>>& points,
                                       const std::vector<int>& fronts);

/// Own trainings that no other one beats in the score without costing more of something: a list of
/// {"number", "trial", "score", "parameters", "macs", "memory_bytes", "step_seconds"}, by score. An
/// empty list without context.cost.
Json pareto_story(const StrategyContext& context, const Ledger& ledger);

}  // namespace nas
