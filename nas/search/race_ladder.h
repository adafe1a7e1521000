// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "nas/search/strategy_kind.h"

namespace nas {

/// What a race may spend and where its contestants are compared.
struct RaceLadder {
  double effort = 0;           // of the stage
  double horizon = 0;          // of the winner's final training in all
  std::vector<double> levels;  // effort of a contestant's training at each comparison, increasing
  /// Part of the stage's budget that takes a contestant from the level before to this one.
  double share(std::size_t level) const;
};

/// The first level takes a fixed part of the stage for all contestants, every further one doubles
/// the training, up to the horizon.
RaceLadder race_ladder(const StageBudget& budget);

/// The rules of the kind "race" (StrategyKind).
StageBudget race_budget(const BudgetQuestion& question);
/// As if every comparison let half of the contestants go on.
std::vector<TrialForecast> race_forecast(const StageSpec& stage,
                                         const StageBudget& budget,
                                         const StepsOfShare& steps);
/// Trainings and continuations of that forecast.
std::vector<std::int64_t> expected_waves(const RaceLadder& ladder, std::int64_t contestants);

}  // namespace nas
