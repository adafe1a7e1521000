// SPDX-License-Identifier: Apache-2.0
#include "nas/search/race_ladder.h"

#include <algorithm>
#include <cmath>

namespace nas {
namespace {

constexpr double kFirstPart = 0.4;  // of the stage, for the first level of all contestants
constexpr double kGrowth = 2;       // from level to level
// Contestants that a stage of so much effort pays for. More of them find better networks and know
// each of them less; tuned by experiments/curves.
constexpr double kContestants = 1.2;  // times the root of the effort
constexpr std::int64_t kMostContestants = 24;
constexpr double kUnknownEffort = 20;  // of each contestant, where no budget says anything

std::int64_t contestants_for(double effort) {
  return std::clamp<std::int64_t>(
      std::llround(kContestants * std::sqrt(effort)), kFewestTrials, kMostContestants);
}

}  // namespace

double RaceLadder::share(std::size_t level) const {
  return (levels[level] - (level > 0 ? levels[level - 1] : 0)) / effort;
}

RaceLadder race_ladder(const StageBudget& budget) {
  const double contestants = static_cast<double>(std::max<std::int64_t>(1, budget.trials));
  RaceLadder ladder;
  ladder.effort = budget.effort > 0  ? budget.effort
                  : budget.steps > 0 ? static_cast<double>(budget.steps)
                                     : kUnknownEffort * contestants;
  ladder.horizon = budget.horizon > 0 ? budget.horizon : ladder.effort;
  double level = std::min(kFirstPart * ladder.effort / contestants, ladder.horizon);
  do {
    ladder.levels.push_back(level);
    level *= kGrowth;
  } while (level <= std::min(ladder.horizon, ladder.effort));
  return ladder;
}

StageBudget race_budget(const BudgetQuestion& question) {
  const std::int64_t asked = question.stage.count("trials");
  StageBudget result = question.means;
  double effort = result.effort > 0 ? result.effort : static_cast<double>(result.steps);
  if (question.has_clock) {
    // Contestants share it by their cost; less than one smallest training of the plan compares
    // nothing.
    if (result.seconds < question.smallest_seconds) question.refuse(1);
    if (effort <= 0) effort = result.seconds / question.baseline.step_seconds;
  }
  result.trials = asked > 0 ? asked : contestants_for(effort);
  result.rungs = std::ssize(race_ladder(result).levels);
  return result;
}

std::vector<std::int64_t> expected_waves(const RaceLadder& ladder, std::int64_t contestants) {
  std::vector<std::int64_t> waves;
  double left = 1;
  for (std::size_t level = 0; level < ladder.levels.size(); ++level) {
    const double share = ladder.share(level);
    const auto affordable = static_cast<std::int64_t>(left / share + 1e-9);
    const std::int64_t count = std::min(contestants, affordable);
    if (count < (level == 0 ? 1 : 2)) break;
    waves.push_back(count);
    left -= static_cast<double>(count) * share;
    contestants = std::max<std::int64_t>(2, count / 2);
  }
  return waves;
}

std::vector<TrialForecast> race_forecast(const StageSpec& /*stage*/,
                                         const StageBudget& budget,
                                         const StepsOfShare& steps) {
  const RaceLadder ladder = race_ladder(budget);
  const std::vector<std::int64_t> waves = expected_waves(ladder, budget.trials);
  std::vector<TrialForecast> trials{{"contestants", budget.trials, steps(ladder.share(0))}};
  for (std::size_t level = 1; level < waves.size(); ++level) {
    trials.push_back({"continuations", waves[level], steps(ladder.share(level))});
  }
  return trials;
}

}  // namespace nas
