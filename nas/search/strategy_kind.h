// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "nas/search/budget.h"
#include "nas/search/stage.h"

namespace nas {

class Strategy;
struct StrategyContext;

/// Trials of a stage that are alike: so many, each of about so many steps.
struct TrialForecast {
  std::string what;  // "trials", "super-network", "candidates scored with inherited weights", ...
  std::int64_t count = 0;
  std::int64_t steps = 0;  // each, of the planned network's speed; 0: no training
  bool named = false;      // `what` names each of them, a number would say it twice
};

/// Steps of a training that may spend this share of its stage.
using StepsOfShare = std::function<std::int64_t(double share)>;

/// All that the engine knows of one kind of stage; recipes, budgets, forecasts, the search loop and
/// the report ask these rows and know no kind by its name. The table of all: nas/jobs/strategies/strategies.h.
struct StrategyKind {
  std::string name;                       // in recipes
  std::string words;                      // for people
  std::vector<StageOption> options = {};  // beside those that all stages have
  /// What options must keep together. \param where for messages. \throws Error(Usage).
  std::function<void(const StageSpec&, const std::string& where)> check = {};

  /// Final trainings on all training cases, scored on the held-out ones: the last stage of every
  /// recipe, and no other.
  bool final = false;
  bool continues = false;  // its trainings are continued (Proposal::continues), and its trials are
                           // counted in effort whatever the budget is in
  bool async = false;      // a stage of this kind is asynchronous unless its recipe says otherwise
  /// Takes in genotypes of others (Strategy::adopt). Sound where every genotype is trained once, for
  /// the same share, and the strategy learns from scores, not from its own draws.
  bool adopts = false;
  bool starts_programs = false;          // of the user; a resumed run asks for them again
  bool needs_super_network = false;      // of the space
  bool may_end_early = false;            // what it does not spend goes to the final trainings
  bool may_be_control = true;            // trains networks on their own
  bool counts_with_baseline = false;     // begins with the baseline, so its speed decides how many
                                         // trials go; else that of the stage's start
  bool counts_candidates = false;        // the budget rule wants the time of one inherited scoring
  const char* trials_option = "trials";  // what --trials sets
  /// Whether the stage compares networks by the time of a step; empty: never.
  std::function<bool(const StageSpec&)> measures_step_time = {};
  /// Whether it compares trials case by case (Outcome::cases, their Dice); empty: never.
  std::function<bool(const StageSpec&)> compares_cases = {};

  /// Divides what the stage has. \throws Error(Usage) through BudgetQuestion::refuse.
  std::function<StageBudget(const BudgetQuestion&)> budget = {};
  /// How many trainings of kSmallestTraining steps its time has to buy at least.
  std::function<double(const StageSpec&, std::int64_t finals)> least_trainings = {};
  std::function<std::vector<TrialForecast>(
      const StageSpec&, const StageBudget&, const StepsOfShare&)>
      forecast = {};
  std::function<std::unique_ptr<Strategy>(const StrategyContext&)> make = {};
};

/// Of its kind: StrategyKind::compares_cases.
bool compares_cases(const StageSpec& stage);
std::vector<std::string> kind_names(const StrategyKinds& kinds);
/// nullptr if there is none.
const StrategyKind* find_kind(const StrategyKinds& kinds, const std::string& name);

// What kinds have in common whose trials are each trained once, on their own: option "trials", and
// these rules.
StageOption trials_option();
/// Of kinds with the option "objectives" (costs that are kept small beside the score).
bool has_step_time_objective(const StageSpec& stage);
StageBudget trained_once_budget(const BudgetQuestion& question);
double least_trained_once(const StageSpec& stage, std::int64_t finals);
std::vector<TrialForecast> trained_once_forecast(const StageSpec& stage,
                                                 const StageBudget& budget,
                                                 const StepsOfShare& steps);

}  // namespace nas
