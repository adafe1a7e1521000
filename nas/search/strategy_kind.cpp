// SPDX-License-Identifier: Apache-2.0
#include "nas/search/strategy_kind.h"

#include <algorithm>

namespace nas {

std::vector<std::string> kind_names(const StrategyKinds& kinds) {
  std::vector<std::string> names;
  for (const StrategyKind* kind : kinds) names.push_back(kind->name);
  return names;
}

const StrategyKind* find_kind(const StrategyKinds& kinds, const std::string& name) {
  const auto found =
      std::ranges::find_if(kinds, [&](const StrategyKind* kind) { return kind->name == name; });
  return found == kinds.end() ? nullptr : *found;
}

bool compares_cases(const StageSpec& stage) {
  return stage.kind->compares_cases && stage.kind->compares_cases(stage);
}

bool has_step_time_objective(const StageSpec& stage) {
  return std::ranges::count(stage.words("objectives"), "step_time") > 0;
}

StageOption trials_option() { return count_option("trials", 0, 0, 100000); }

StageBudget trained_once_budget(const BudgetQuestion& question) {
  const std::int64_t asked = question.stage.count("trials");
  StageBudget result = question.means;
  if (!question.has_clock) {
    result.trials = asked > 0 ? asked : trials_in_steps(static_cast<double>(result.steps));
    return result;
  }
  result.cost_limit = usual_cost_limit(question.final_steps);
  const auto most = static_cast<std::int64_t>(result.seconds / question.smallest_seconds);
  const std::int64_t least = std::max(kFewestTrials, asked);
  if (most < least) question.refuse(least);
  // Without rungs every trial is trained once: fewer, longer ones.
  result.trials = asked > 0 ? asked : std::clamp(most / 2, kFewestTrials, kMostTrials);
  return result;
}

double least_trained_once(const StageSpec& stage, std::int64_t /*finals*/) {
  const std::int64_t asked = stage.count("trials");
  return static_cast<double>(asked == 0 ? kFewestTrials : asked);
}

std::vector<TrialForecast> trained_once_forecast(const StageSpec& /*stage*/,
                                                 const StageBudget& budget,
                                                 const StepsOfShare& steps) {
  const std::int64_t trials = std::max<std::int64_t>(1, budget.trials);
  return {{"trials", trials, steps(1.0 / static_cast<double>(trials))}};
}

}  // namespace nas
