// SPDX-License-Identifier: Apache-2.0
#include "nas/search/budget.h"

#include <algorithm>
#include <cmath>

#include "nas/core/error.h"
#include "nas/core/progress.h"

namespace nas {
namespace {

// Without a clock the counts follow from the steps alone, so that they depend on nothing measured:
// a trial gets kStepsOfTrial where the stage can pay (batches are twice those of a short budget
// with a clock), and a candidate is scored for each step, though a batch below 4 makes that dearer.
constexpr std::int64_t kStepsOfTrial = 10;
constexpr std::int64_t kMostTrialsInSteps = 6;
constexpr std::int64_t kFewestCandidates = 4;
constexpr std::int64_t kMostTrials = 48;
// See stage_budget: where the baseline's final training has so few steps, only cheaper networks.
constexpr double kHardlyAnySteps = 300;
constexpr double kSmallestCost = 0.25;
constexpr std::int64_t kMostCandidates = 2000;

std::int64_t rungs_for(std::int64_t trials) { return trials >= 12 ? 3 : trials >= 4 ? 2 : 1; }

double smallest_trial_seconds(const Probe& probe) {
  return (static_cast<double>(kSmallestTraining) * probe.step_seconds + probe.evaluation_seconds +
          probe.probe_seconds) /
         kStepMargin;
}

/// As asked for, or as many as go with the trials and `affordable(rungs)` trials allow.
template <typename Affordable>
std::int64_t rungs_within(const StageSpec& stage,
                          std::int64_t trials,
                          const Affordable& affordable) {
  if (stage.rungs > 0) return stage.rungs;
  std::int64_t rungs = rungs_for(trials);
  while (rungs > 1 && affordable(rungs) < trials) --rungs;
  return rungs;
}

/// Candidates of a super-network stage: as asked for, or `affordable(share)` of what neither the
/// super-network nor own trainings take.
template <typename Affordable>
std::int64_t candidates_within(const StageSpec& stage,
                               std::int64_t fewest,
                               const Affordable& affordable) {
  if (stage.candidates > 0) return stage.candidates;
  const double share = 1 - stage.supernet_share - stage.rank_share;
  return std::clamp(static_cast<std::int64_t>(affordable(share)), fewest, kMostCandidates);
}

double remaining_shares(const Recipe& recipe, std::size_t index) {
  double sum = 0;
  for (std::size_t i = index; i < recipe.stages.size(); ++i) sum += recipe.stages[i].share;
  return sum;
}

}  // namespace

std::string to_text(const Budget& budget) {
  return budget.has_clock() ? format_duration(budget.seconds)
                            : std::to_string(budget.steps) + " steps";
}

std::vector<std::int64_t> halving_sizes(std::int64_t trials, std::int64_t rungs, double keep) {
  std::vector<std::int64_t> sizes;
  for (std::int64_t r = 0; r < std::max<std::int64_t>(1, rungs); ++r) {
    sizes.push_back(std::max<std::int64_t>(1, trials));
    trials = std::llround(static_cast<double>(trials) * keep);
  }
  return sizes;
}

double report_reserve_seconds(const Budget& budget) {
  return budget.has_clock() ? std::max(3.0, 0.015 * budget.seconds) : 0;
}

std::int64_t steps_in(double seconds, const Probe& probe) {
  NAS_CHECK_KIND(Internal, probe.step_seconds > 0, "steps_in: step time must be > 0");
  const double training = seconds * kStepMargin - probe.evaluation_seconds;
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(training / probe.step_seconds));
}

std::int64_t final_trainings(const Recipe& recipe) {
  const bool control = std::any_of(recipe.stages.begin(),
                                   recipe.stages.end(),
                                   [](const StageSpec& stage) { return stage.control; });
  return control ? 3 : 2;
}

StageBudget stage_budget(const Recipe& recipe,
                         std::size_t index,
                         const Budget& budget,
                         double elapsed,
                         const Probe& baseline,
                         double candidate_seconds,
                         const std::optional<Probe>& start) {
  const StageSpec& stage = recipe.stages.at(index);
  const bool retrain = stage.is_retrain();
  const bool halving = stage.kind == "random";
  const std::int64_t finals = final_trainings(recipe);
  StageBudget result;
  if (!budget.has_clock()) {
    const double all = static_cast<double>(finals * budget.steps);
    result.steps = retrain ? finals * budget.steps
                           : std::max<std::int64_t>(
                                 1, std::llround(all * stage.share / recipe.stages.back().share));
    const auto steps = static_cast<double>(result.steps);
    const auto paid = [&](double share, std::int64_t most) {
      return std::clamp<std::int64_t>(static_cast<std::int64_t>(steps * share) / kStepsOfTrial,
                                      std::min<std::int64_t>(2, most),
                                      most);
    };
    if (retrain) {
      result.trials = finals;
    } else if (stage.is_supernet()) {
      result.trials = paid(stage.rank_share, stage.rank_trials);
      result.candidates =
          candidates_within(stage, kFewestCandidates, [&](double share) { return steps * share; });
    } else {
      result.trials = stage.trials > 0 ? stage.trials : paid(1, kMostTrialsInSteps);
      if (halving) {
        result.rungs = rungs_within(stage, result.trials, [&](std::int64_t rungs) {
          return result.steps / (rungs * kStepsOfTrial);
        });
      }
    }
    return result;
  }
  const double left = budget.seconds - report_reserve_seconds(budget) - elapsed;
  result.seconds = std::max(0.0, left * stage.share / remaining_shares(recipe, index));
  result.ends_at = elapsed + result.seconds;
  const double smallest = smallest_trial_seconds(start && !halving ? *start : baseline);
  if (!retrain) {
    // Of one of the final trainings, roughly: the search decides how much it leaves to them.
    const double final_seconds = left * recipe.stages.back().share /
                                 remaining_shares(recipe, index) / static_cast<double>(finals);
    const double final_steps = final_seconds / std::max(baseline.step_seconds, 1e-9);
    result.cost_limit = final_steps < kFewSteps ? 1 : final_steps < 4 * kFewSteps ? 2 : 0;
    if (final_steps < kHardlyAnySteps && stage.kind == "random") {
      result.cost_limit = std::max(kSmallestCost, final_steps / kHardlyAnySteps);
    }
  }
  auto refuse = [&](std::int64_t trials, std::int64_t rungs) {
    const double needed = static_cast<double>(trials * rungs) * smallest *
                              remaining_shares(recipe, index) / stage.share +
                          elapsed;
    fail(ErrorKind::Usage,
         "budget ",
         to_text(budget),
         " is too small for stage \"",
         stage.name,
         "\": ",
         trials,
         retrain ? " trainings of " : " trials of at least ",
         kSmallestTraining,
         " steps (",
         format_duration(baseline.step_seconds),
         " a step, scoring ",
         format_duration(baseline.evaluation_seconds),
         ") need a --budget of about ",
         std::ceil(std::max(needed / (1 - 0.015), needed + 3) / 10) * 10,
         "s");
  };
  if (retrain) {
    result.trials = finals;
    if (result.seconds < static_cast<double>(finals) * smallest) refuse(finals, 1);
    return result;
  }
  if (stage.is_supernet()) {
    // A super-network step costs about as much as one of the largest closed network.
    if (result.seconds * stage.supernet_share < smallest) refuse(1, 1);
    const double rank_seconds = result.seconds * stage.rank_share;
    result.trials = std::min(stage.rank_trials, static_cast<std::int64_t>(rank_seconds / smallest));
    result.candidates = candidates_within(stage, 1, [&](double share) {
      return result.seconds * share * kStepMargin / std::max(candidate_seconds, 1e-3);
    });
    return result;
  }
  if (!halving) {
    const auto most = static_cast<std::int64_t>(result.seconds / smallest);
    if (most < std::max<std::int64_t>(2, stage.trials)) {
      refuse(std::max<std::int64_t>(2, stage.trials), 1);
    }
    // Without rungs every trial is trained once: fewer, longer ones.
    result.trials =
        stage.trials > 0 ? stage.trials : std::clamp<std::int64_t>(most / 2, 2, kMostTrials);
    return result;
  }
  auto affordable = [&](std::int64_t rungs) {
    return static_cast<std::int64_t>(result.seconds / static_cast<double>(rungs) / smallest);
  };
  if (stage.trials > 0) {
    result.trials = stage.trials;
    result.rungs = rungs_within(stage, stage.trials, affordable);
    if (affordable(result.rungs) < stage.trials) refuse(stage.trials, result.rungs);
    return result;
  }
  for (std::int64_t rungs = stage.rungs > 0 ? stage.rungs : 3; rungs >= 1; --rungs) {
    const std::int64_t trials = std::min(kMostTrials, affordable(rungs));
    if (trials >= 2 && (stage.rungs > 0 || rungs == 1 || rungs_for(trials) >= rungs)) {
      result.trials = trials;
      result.rungs = rungs;
      return result;
    }
    if (stage.rungs > 0) break;
  }
  refuse(2, std::max<std::int64_t>(1, stage.rungs));
  return result;
}

double smallest_budget_seconds(const Recipe& recipe,
                               double elapsed,
                               const Probe& search_probe,
                               const Probe& retrain_probe) {
  double left = 0;
  const double sum = remaining_shares(recipe, 0);
  for (const StageSpec& stage : recipe.stages) {
    const bool retrain = stage.is_retrain();
    double trials = retrain             ? static_cast<double>(final_trainings(recipe))
                    : stage.trials == 0 ? 2
                                        : static_cast<double>(stage.trials);
    if (stage.is_supernet()) trials = 1 / stage.supernet_share;
    const double needed = trials * static_cast<double>(std::max<std::int64_t>(1, stage.rungs)) *
                          smallest_trial_seconds(retrain ? retrain_probe : search_probe);
    left = std::max(left, needed * sum / stage.share);
  }
  return std::max((elapsed + left) / (1 - 0.015), elapsed + left + 3);
}

}  // namespace nas
