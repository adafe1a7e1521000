// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "nas/search/draws.h"
#include "nas/search/strategy.h"

namespace nas {

/// Sizes of regularized evolution for a number of trials. Ours: Real et al. have a population of
/// 100 and samples of 25 for 20,000 trials; here a third of the trials, at most 50, and a quarter
/// of the population. Children come in batches, so that several workers have something to do.
struct AgingSizes {
  std::int64_t population = 2;  // the youngest that can become parents
  std::int64_t sample = 2;      // drawn from it, with replacement; the best is the parent
  std::int64_t batch = 1;       // children of one population
  bool operator==(const AgingSizes&) const = default;
};
AgingSizes aging_sizes(std::int64_t trials);

/// Proposes the next genotypes: random ones until a population has been proposed, then mutated
/// children of the youngest finished rows of `purpose`. The rows are the whole state.
/// \param objectives what a parent should keep small beside its score (cost_objectives()): parents
/// are then compared by non-dominated front and crowding distance (NSGA-II) instead of the score.
/// \returns at most `wanted` genotypes, none if the space is exhausted.
std::vector<Genotype> next_generation(const StrategyContext& context,
                                      const Ledger& ledger,
                                      TrialPurpose purpose,
                                      const AgingSizes& sizes,
                                      std::int64_t wanted,
                                      const std::vector<std::string>& objectives,
                                      Draws& draws);

/// Regularized (aging) evolution over own trainings: the oldest die, whatever their score.
/// Individual 0 (where the groups reach it) and the stage's start are the first of the population;
/// each of the stage's trials has the same share of its budget. With stage.objectives parents are
/// chosen by Pareto front; the winner is the best score all the same. Source: Real et al., AAAI
/// 2019, arXiv:1802.01548.
const StrategyKind& regularized_kind();

}  // namespace nas
