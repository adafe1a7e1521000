// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nas/search/evaluator.h"
#include "nas/search/recipe.h"

namespace nas {

/// What a search may cost: wall-clock seconds of the whole command, or optimiser steps of each
/// final training. Exactly one is positive. With steps there is no clock anywhere, and a run is a
/// function of its seed, unless the recipe limits the step time or takes it as an objective.
struct Budget {
  double seconds = 0;
  std::int64_t steps = 0;
  bool has_clock() const { return seconds > 0; }
  bool operator==(const Budget&) const = default;
};
std::string to_text(const Budget& budget);  // "20 min 0 s", "500 steps"

/// Trials per rung of successive halving: {9, 3, 1} for trials 9, rungs 3, keep 1/3. At least one
/// each.
std::vector<std::int64_t> halving_sizes(std::int64_t trials, std::int64_t rungs, double keep);

/// What a stage may spend, fixed when it starts and recorded.
struct StageBudget {
  double seconds = 0;       // with a clock
  std::int64_t steps = 0;   // without
  std::int64_t trials = 0;  // in the first rung
  std::int64_t rungs = 1;
  double ends_at = 0;     // seconds on the run's clock; 0 without a clock
  double cost_limit = 0;  // MACs of a trial's network, relative to the baseline's; 0: no limit
  std::int64_t candidates = 0;  // single_path: scorings with inherited weights
  bool operator==(const StageBudget&) const = default;
};

/// Smallest training that says anything about a network: fewer steps are refused when there is a
/// clock.
inline constexpr std::int64_t kSmallestTraining = 20;  // steps
inline constexpr double kFewSteps = 1000;
/// Kept back for writing models and the report.
double report_reserve_seconds(const Budget& budget);

/// The budget of stage `index`: of what is left on the clock (less the reserve), its share among
/// the stages that remain. Trials and rungs that the recipe leaves open are chosen so that the
/// baseline gets at least kSmallestTraining steps in the first rung. In steps: the retrain stage
/// has trainings of budget.steps each, the others in proportion to their share; of that, a trial
/// gets ten steps where the stage can pay for two of them or more, at most six trials.
///
/// A super-network stage divides its share: `supernet_share` trains it, `rank_share` buys
/// `rank_trials` own trainings (StageBudget::trials: as many as can be paid), the rest
/// `candidates`.
///
/// The cost limit is ours: where the final training of the baseline gets fewer than kFewSteps
/// steps, a costlier network would get fewer still, so none is tried; below 4 kFewSteps at most
/// twice the cost. Below 300 steps a random stage tries, besides the baseline, only networks that
/// get 300 in the same time, or a quarter of the baseline's cost. Without a clock there is none:
/// all trainings have equally many steps.
///
/// \param elapsed seconds on the run's clock.
/// \param baseline measured speed for this stage's purpose (clock only).
/// \param candidate_seconds of one scoring with inherited weights (clock only).
/// \param start speed of the network that the stage starts from: trials are counted with it, except
/// in random stages, which begin with the baseline.
/// \throws Error(Usage) that says what the budget would have to be if it cannot buy the stage.
StageBudget stage_budget(const Recipe& recipe,
                         std::size_t index,
                         const Budget& budget,
                         double elapsed,
                         const Probe& baseline,
                         double candidate_seconds = 0,
                         const std::optional<Probe>& start = std::nullopt);

/// Final trainings of a recipe: best and baseline, and control where there is a control stage.
std::int64_t final_trainings(const Recipe& recipe);

/// Seconds of a trial and the steps that fit in, with the safety margin for what was measured only
/// briefly.
inline constexpr double kStepMargin = 0.96;
std::int64_t steps_in(double seconds, const Probe& probe);

/// The smallest budget in seconds with which the whole recipe runs, given what is spent already.
double smallest_budget_seconds(const Recipe& recipe,
                               double elapsed,
                               const Probe& search_probe,
                               const Probe& retrain_probe);

}  // namespace nas
