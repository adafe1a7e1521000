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
  /// \param start what the stage starts from.
  virtual void stage_started(const StageSpec&,
                             const StageBudget&,
                             const Genotype& /*start*/,
                             std::int64_t /*planned_trials*/) {}
  virtual void trial_started(const Trial&) {}
  virtual void trial_ended(const Trial&) {}
  virtual void best_improved(const Trial&) {}
  virtual void stage_ended(const StageSpec&, const Winner&) {}
};

/// Everything run_search works with; all borrowed.
struct SearchSetup {
  ResultsDb* database = nullptr;
  const SearchSpace* space = nullptr;
  Evaluator* evaluator = nullptr;
  Recipe recipe;
  Budget budget;
  std::uint64_t seed = 1;
  std::function<double()>
      clock;  // seconds on the run's clock; must return 0 when the budget is in steps
  std::function<bool()> should_stop;  // polled between trials; empty: never
  std::filesystem::path folder;       // trial folders are made in folder/trials
  std::vector<SearchListener*> listeners;
};

enum class SearchEnd { Finished, Stopped };

/// Whether the space has what the recipe's stages ask for: their groups, a super-network. \throws
/// Error(Usage) naming the stage.
void check_space(const Recipe& recipe, const SearchSpace& space);

/// The only search loop. For each stage: fix its budget, then ask the strategy, queue the trials,
/// claim, evaluate, tell, until the strategy has finished. All state is in the database: a run that
/// was killed goes on by calling this again. \throws Error if the budget cannot buy a stage, or if
/// no final training succeeds.
SearchEnd run_search(const SearchSetup& setup);

}  // namespace nas
