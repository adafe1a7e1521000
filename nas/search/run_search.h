// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "nas/search/budget.h"
#include "nas/search/evaluator.h"
#include "nas/search/recipe.h"
#include "nas/search/results_db.h"
#include "nas/search/strategy.h"

namespace nas {

/// Told what happens during a search: progress lines, TensorBoard, stop criteria and tests are
/// listeners.
class SearchListener {
 public:
  virtual ~SearchListener() = default;
  virtual void stage_started(const StageSpec&,
                             const StageBudget&,
                             std::int64_t /*planned_trials*/) {}
  virtual void trial_started(const Trial&) {}
  virtual void trial_ended(const Trial&) {}
  virtual void best_improved(const Trial&) {}
  /// \param genotype the winner's text, "" if there is none.
  virtual void stage_ended(const StageSpec&,
                           const Winner& /*winner*/,
                           const std::string& /*genotype*/) {}
};

/// Everything run_search works with; all borrowed.
struct SearchSetup {
  ResultsDb* database = nullptr;
  const SearchSpace* space = nullptr;
  Evaluator* evaluator = nullptr;
  Recipe recipe;
  Budget budget;
  std::uint64_t seed = 1;
  StrategyFactory strategies;
  std::function<double()>
      clock;  // seconds on the run's clock; must return 0 when the budget is in steps
  std::function<bool()> should_stop;  // polled between trials; empty: never
  std::filesystem::path folder;       // trial folders are made in folder/trials
  std::vector<SearchListener*> listeners;
};

enum class SearchEnd { Finished, Stopped };

/// The only search loop. For each stage: fix its budget, then ask the strategy, queue the trials,
/// claim, evaluate, tell, until the strategy has finished. All state is in the database: a run that
/// was killed goes on by calling this again. \throws Error if the budget cannot buy a stage, or if
/// no final training succeeds.
SearchEnd run_search(const SearchSetup& setup);

/// The strategy of kind "retrain": the winner of the stages before, the baseline, and the control's
/// winner where there is one, with equal shares; equal networks are trained once (with the time of
/// all if there is a clock).
std::unique_ptr<Strategy> make_retrain_strategy(const StrategyContext& context);

}  // namespace nas
