// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "nas/search/budget.h"
#include "nas/search/evaluator.h"
#include "nas/search/recipe.h"
#include "nas/search/strategy.h"
#include "nas/search/trial_store.h"

namespace nas {

enum class SearchEnd { Finished, Stopped };

/// Told what happens during a search: progress lines, TensorBoard, stop criteria and tests are
/// listeners.
class SearchListener {
 public:
  virtual ~SearchListener() = default;
  /// By run_search, before anything is told; both borrowed.
  void attach(TrialStore& store, const SearchSpace& space) {
    store_ = &store;
    space_ = &space;
  }
  virtual std::string name() const { return "listener"; }  // for messages
  virtual void search_started(const SearchSpace&, const Recipe&) {}
  virtual void search_ended(SearchEnd) {}
  /// \param start what the stage starts from.
  virtual void stage_started(const StageSpec&,
                             const StageBudget&,
                             const Genotype& /*start*/,
                             std::int64_t /*planned_trials*/) {}
  virtual void proposed(const StageSpec&, const std::vector<std::int64_t>& /*trials*/) {}
  /// With workers in other processes: when the leader sees it.
  virtual void trial_started(const Trial&) {}
  virtual void trial_ended(const Trial&) {}
  virtual void best_improved(const Trial&) {}
  virtual void stage_ended(const StageSpec&, const Winner&) {}
  /// A reason ends the stage with what it has; "": go on. Asked in every turn of the search; final
  /// trainings go on all the same.
  virtual std::string wants_to_stop() { return ""; }

 protected:
  // While something is told, and in wants_to_stop.

  /// The genotype becomes the next trial of this stage, or of the next one that takes any.
  /// \throws Error(Input|Usage) if it is none of the space.
  void enqueue(const Genotype& genotype);
  /// A note about a trial, for the database, `voxnas ctl RUN trial` and the report. \throws
  /// Error(Usage) if there is no such trial, or the key is empty.
  void annotate(std::int64_t trial, const std::string& key, const std::string& value);
  /// Of the run; for what a listener keeps there itself. \throws Error(Internal) before attach().
  TrialStore& store() const;

 private:
  TrialStore* store_ = nullptr;
  const SearchSpace* space_ = nullptr;
};

/// Everything run_search works with; all borrowed.
struct SearchSetup {
  TrialStore* database = nullptr;
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
  std::vector<Starter> portfolio = {};  // contestants of races that come first; empty: the space's
  /// Empty: this process carries the trials out itself. Else other processes do (nas/search/worker.h),
  /// and this tells how many may work at once; it is called often, and may start what has died.
  std::function<std::int64_t()> workers;
};

/// Whether the space has what the recipe's stages ask for: their groups, a super-network. \throws
/// Error(Usage) naming the stage.
void check_space(const Recipe& recipe, const SearchSpace& space);

/// The only search loop, which leads: for each stage it fixes the budget, then lets a StageController
/// decide and a Worker carry out, until the strategy has finished. All state is in the store: a run that
/// was killed goes on by calling this again. \throws Error if the budget cannot buy a stage, or if
/// no final training succeeds.
SearchEnd run_search(const SearchSetup& setup);

}  // namespace nas
