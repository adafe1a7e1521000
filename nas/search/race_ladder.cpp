// SPDX-License-Identifier: Apache-2.0
#include "nas/search/race_ladder.h"

#include <algorithm>
#include <cmath>

namespace nas {
namespace {

constexpr double kFirstPart = 0.3;  // of the stage, for the first level of all contestants
constexpr double kGrowth = 2;       // from level to level
// Contestants that a stage of so much effort pays for. More of them find better networks and know
// each of them less; tuned by experiments/curves.
constexpr double kContestants = 1.2;  // times the root of the effort, but no more than one for
constexpr double kEffortEach = 8;     // so much of it: less of a training says nothing
constexpr std::int64_t kMostContestants = 24;
// With a clock: what a trial takes besides training and scoring, the part of the stage that all of
// it may take, and trials for each contestant (continuations included).
constexpr double kTrialSeconds = 0.2;
constexpr double kScoringPart = 0.2;
constexpr double kTrialsPerContestant = 2;
constexpr double kLeastPart = 0.25;    // of the smallest training of the plan, with its scoring
constexpr double kUnknownEffort = 20;  // of each contestant, where no budget says anything

std::int64_t contestants_for(double effort) {
  return std::clamp<std::int64_t>(
      std::llround(std::min(effort / kEffortEach, kContestants * std::sqrt(effort))),
      kFewestTrials,
      kMostContestants);
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
    if (result.seconds < kLeastPart * question.smallest_seconds) question.refuse(1);
    if (effort <= 0) effort = result.seconds / question.baseline.step_seconds;
  }
  result.trials = asked > 0 ? asked : contestants_for(effort);
  if (question.has_clock) {
    // Beginning and scoring take their time too: a part of the stage, and no training has it.
    const double each = question.baseline.evaluation_seconds + kTrialSeconds;
    const double most = kScoringPart * result.seconds / (each * kTrialsPerContestant);
    if (asked == 0) {
      result.trials =
          std::clamp<std::int64_t>(static_cast<std::int64_t>(most), kFewestTrials, result.trials);
    }
    const double scoring = std::min(
        0.5 * result.seconds, static_cast<double>(result.trials) * kTrialsPerContestant * each);
    result.effort = effort * (1 - scoring / result.seconds);
  }
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
