// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nas/search/evaluator.h"
#include "nas/search/recipe.h"

namespace nas {

/// What a search may cost: wall-clock seconds of the whole command, optimiser steps of each final
/// training, or compute. Exactly one is positive. Without seconds there is no clock anywhere, and a
/// run is a function of its seed, unless the recipe limits the step time or takes it as an
/// objective.
struct Budget {
  double seconds = 0;
  std::int64_t steps = 0;
  double effort = 0;  // of the whole command, in training steps of the plan at batch 2; every
                      // network pays its relative cost (relative_cost in nas/search/evaluator.h)
  std::int64_t workers = 1;  // that spend the seconds at once
  bool has_clock() const { return seconds > 0; }
  bool is_one() const { return (seconds > 0) + (steps > 0) + (effort > 0) == 1; }
  bool operator==(const Budget&) const = default;
};
std::string to_text(const Budget& budget);  // "20 min 0 s", "500 steps", "an effort of 250"

/// What a stage may spend, fixed when it starts and recorded.
struct StageBudget {
  double seconds = 0;       // with a clock
  std::int64_t steps = 0;   // with a budget in steps
  double effort = 0;        // in steps of the plan at batch 2; with a clock what its seconds bought
                            // when the stage began (kinds whose trainings continue)
  double horizon = 0;       // effort of the winner's training in all, the final one included
  std::int64_t trials = 0;  // in the first rung
  std::int64_t rungs = 1;
  double ends_at = 0;     // seconds on the run's clock; 0 without a clock
  double cost_limit = 0;  // MACs of a trial's network, relative to the baseline's; 0: no limit
  std::int64_t candidates = 0;  // scorings with inherited weights
  bool operator==(const StageBudget&) const = default;
};

/// Smallest training that says anything about a network: fewer steps are refused when there is a
/// clock.
inline constexpr std::int64_t kSmallestTraining = 20;  // steps
/// A stage that compares networks tries two at least, and no budget makes it try more than this.
inline constexpr std::int64_t kFewestTrials = 2;
inline constexpr std::int64_t kMostTrials = 48;
/// Of a trial's time, what is planned for: a speed that was measured over two steps is that exact.
inline constexpr double kStepMargin = 0.96;

/// Kept back for writing models and the report.
double report_reserve_seconds(const Budget& budget);

/// What a kind's budget rule is asked: how to divide what the stage has.
struct BudgetQuestion {
  const StageSpec& stage;
  StageBudget means;  // seconds and ends_at, or steps; the rest is to be filled in
  bool has_clock = false;
  std::int64_t finals = 0;  // final trainings of the recipe
  // With a clock only:
  double final_steps = 0;        // of the baseline's final training, roughly
  double smallest_seconds = 0;   // a trial of kSmallestTraining steps with its scoring
  double candidate_seconds = 0;  // one scoring with inherited weights
  Budget budget = {};
  Probe baseline = {};
  double elapsed = 0, part = 1;  // seconds before the stage; its part of what is left

  /// \throws Error(Usage) that says what the budget would have to be for so many smallest trials.
  [[noreturn]] void refuse(std::int64_t trials, std::int64_t rungs = 1) const;
};

/// MACs of a trial's network relative to the baseline's, 0 for no limit. Ours: where the final
/// training of the baseline gets fewer than 1000 steps, a costlier network would get fewer still,
/// so none is tried; below 4000 at most twice the cost.
double usual_cost_limit(double final_steps);

/// Without a clock the counts follow from the steps alone, so that they depend on nothing measured:
/// a trial gets ten steps where the stage can pay for two of them or more.
std::int64_t trials_in_steps(double steps, std::int64_t most = 6);
inline constexpr std::int64_t kStepsOfTrial = 10;

/// The budget of stage `index`: of what is left on the clock (less the reserve), its share among
/// the stages that remain; in steps, final trainings of budget.steps each, and the other stages in
/// proportion to their share. The kind's rule divides it (StrategyKind::budget).
///
/// \param elapsed seconds on the run's clock; with a budget of effort what is spent of it.
/// \param baseline measured speed for this stage's purpose (clock only).
/// \param candidate_seconds of one scoring with inherited weights (clock only).
/// \param start speed of the network that the stage starts from: trials are counted with it, except
/// in stages that begin with the baseline.
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

/// Steps that fit in the seconds of a trial, scoring included, less kStepMargin.
std::int64_t steps_in(double seconds, const Probe& probe);

/// The smallest budget in seconds with which the whole recipe runs, given what is spent already.
double smallest_budget_seconds(const Recipe& recipe,
                               double elapsed,
                               const Probe& search_probe,
                               const Probe& retrain_probe);

}  // namespace nas
