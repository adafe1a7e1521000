// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nas/core/stopwatch.h"
#include "nas/search/budget.h"
#include "nas/search/recipe.h"
#include "nas/search/search_space.h"
#include "nas/search/strategy.h"
#include "nas/search/strategy_journal.h"
#include "nas/search/trial_store.h"

namespace nas {

/// What a controller works with; all borrowed. No evaluator: it trains nothing.
struct ControllerSetup {
  TrialStore* store = nullptr;
  const SearchSpace* space = nullptr;
  const Recipe* recipe = nullptr;
  Budget budget;
  std::uint64_t seed = 1;
  std::function<double()> clock;   // seconds on the run's clock; 0 without one
  std::filesystem::path folder;    // RUN: checkpoints that nobody wants any more are removed
  std::vector<Starter> portfolio;  // StrategyContext::portfolio
  /// Size of a genotype's network. \throws Error(Input|Shape) if it cannot be built.
  std::function<TrialCost(const Genotype&)> describe;
  /// The same with its step time, where a limit or an objective asks for it.
  std::function<TrialCost(const Genotype&)> describe_timed;
};

/// The winner of the last stage before `index` that is no control; nullopt if there is none, and
/// for a control, which starts from the space's start.
std::optional<Winner> start_of(const ControllerSetup& setup, std::size_t index);

/// What somebody enqueued is not tried; the events say why.
void refuse_enqueued(TrialStore& store,
                     const EnqueuedRecord& wanted,
                     const std::string& why,
                     double at);

/// Compute of so many steps of a trial, in steps of the plan at batch 2.
double effort_of(const ControllerSetup& setup, const Trial& trial, std::int64_t steps);

/// Whether a stage with a clock has no time left to begin another trial.
bool time_is_over(const Budget& budget,
                  const StageSpec& stage,
                  const StageRecord& record,
                  double now);

/// The part of a stage that decides: asks the strategy, queues what it proposes, tells it what came
/// of it, until it has finished. Everything is in the store, so that a new controller goes on where
/// another was killed.
///
/// Order "batch": the next proposals are asked for once nothing of the stage is open, and outcomes
/// are told in the order of trial ids, so any number of workers gives the same search. Order
/// "async": as soon as a worker is idle; outcomes are told as trials end, in an order that is
/// recorded (Trial::told_order).
///
/// What somebody enqueued (TrialStore::enqueue) is taken in by strategies that adopt: it becomes the
/// next trial of the stage, of the same share as the others and on top of their number, and its
/// outcome is told like theirs. A strategy that does not adopt leaves it to the stages after.
class StageController {
 public:
  StageController(const ControllerSetup& setup, std::size_t index, const StageRecord& record);

  /// Tells what has ended and queues what is proposed. \param workers that may work at once.
  /// \returns whether it did anything.
  bool turn(std::int64_t workers);
  bool finished() const { return finished_; }
  /// Ends the stage with what has been told so far; queued and running trials are aborted.
  void stop(const std::string& reason);
  /// The run stops and may be resumed, perhaps by another version: all of the strategy is written.
  void rest();
  /// Once finished: checks, records the winner and what is told of the stage.
  Winner end();

  std::int64_t planned_trials() const { return strategy_->planned_trials(); }
  const std::vector<std::int64_t>& proposed() const { return proposed_; }  // by the last turn

 private:
  bool ask(std::int64_t count);
  std::int64_t adopt();  // how many
  bool must_stop();      // a stop rule of the stage holds
  bool tell_these(const std::vector<Trial>& ended);
  Outcome outcome_of(const Trial& trial) const;
  std::vector<Trial> make_trials(const std::vector<Proposal>& proposals) const;
  void count_trial(const Proposal& proposal,
                   const TrialCost& cost,
                   const std::vector<Trial>& rows,
                   Trial& trial) const;
  std::optional<Trial> training_to_continue(const Genotype& genotype) const;
  void drop_checkpoints(const std::function<bool(const Trial&)>& keep) const;

  const ControllerSetup setup_;
  const StageSpec& stage_;
  const StageRecord record_;
  std::unique_ptr<Strategy> strategy_;
  StrategyJournal journal_;
  std::vector<std::int64_t> proposed_;
  bool finished_ = false;
  Stopwatch looked_;               // for what was enqueued
  std::int64_t open_before_ = -1;  // in the last turn: another number says that a trial has ended
};

}  // namespace nas
