// SPDX-License-Identifier: Apache-2.0
#include "nas/search/budget.h"

#include <algorithm>
#include <cmath>

#include "nas/core/error.h"
#include "nas/core/progress.h"
#include "nas/search/strategy_kind.h"

namespace nas {
namespace {

// Writing models and the report took less than this part of every run that was looked at, but some
// seconds however short the run.
constexpr double kReservePart = 0.015;
constexpr double kReserveSeconds = 3;
// See usual_cost_limit: steps of the baseline's final training.
constexpr double kFewSteps = 1000;
constexpr double kEnoughSteps = 4 * kFewSteps;
// A budget is asked for in round figures.
constexpr double kRoundSeconds = 10;
// Guards a division where nothing was measured.
constexpr double kShortestStep = 1e-9;

/// The whole budget that leaves `seconds` beside the reserve.
double with_reserve(double seconds) {
  return std::max(seconds / (1 - kReservePart), seconds + kReserveSeconds);
}

/// Seconds of trials that a second of a stage holds. Ours: of each further worker a part is lost,
/// because trials do not end together and workers share a machine.
double trials_at_once(const Budget& budget, const StageSpec& stage, double finals) {
  constexpr double kGain = 0.85;
  if (stage.kind->needs_super_network) return 1;  // one training, and the others wait for it
  const double workers = static_cast<double>(budget.workers);
  return stage.kind->final ? std::min(workers, finals) : 1 + kGain * (workers - 1);
}

/// What the winner's training has in all, if it is continued: the final share, and of the stage's
/// own a part, since most of that goes to others.
double horizon(double final_effort, double stage_effort) {
  constexpr double kWinnersPart = 0.25;
  return final_effort + kWinnersPart * stage_effort;
}

double smallest_trial_seconds(const Probe& probe) {
  return (static_cast<double>(kSmallestTraining) * probe.step_seconds + probe.evaluation_seconds +
          probe.probe_seconds) /
         kStepMargin;
}

double remaining_shares(const Recipe& recipe, std::size_t index) {
  double sum = 0;
  for (std::size_t i = index; i < recipe.stages.size(); ++i) sum += recipe.stages[i].share;
  return sum;
}

}  // namespace

std::string to_text(const Budget& budget) {
  if (budget.has_clock()) return format_duration(budget.seconds);
  if (budget.effort > 0) return concat_text("an effort of ", budget.effort);
  return std::to_string(budget.steps) + " steps";
}

double report_reserve_seconds(const Budget& budget) {
  return budget.has_clock() ? std::max(kReserveSeconds, kReservePart * budget.seconds) : 0;
}

std::int64_t steps_in(double seconds, const Probe& probe) {
  NAS_CHECK_KIND(Internal, probe.step_seconds > 0, "steps_in: step time must be > 0");
  const double training = seconds * kStepMargin - probe.evaluation_seconds;
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(training / probe.step_seconds));
}

std::int64_t trials_in_steps(double steps, std::int64_t most) {
  return std::clamp<std::int64_t>(
      static_cast<std::int64_t>(steps) / kStepsOfTrial, std::min(kFewestTrials, most), most);
}

double usual_cost_limit(double final_steps) {
  return final_steps < kFewSteps ? 1 : final_steps < kEnoughSteps ? 2 : 0;
}

std::int64_t final_trainings(const Recipe& recipe) {
  const bool control = std::any_of(recipe.stages.begin(),
                                   recipe.stages.end(),
                                   [](const StageSpec& stage) { return stage.control; });
  return control ? 3 : 2;
}

void BudgetQuestion::refuse(std::int64_t trials, std::int64_t rungs) const {
  const double needed = static_cast<double>(trials * rungs) * smallest_seconds / part + elapsed;
  fail(ErrorKind::Usage,
       "budget ",
       to_text(budget),
       " is too small for stage \"",
       stage.name,
       "\": ",
       trials,
       stage.kind->final ? " trainings of " : " trials of at least ",
       kSmallestTraining,
       " steps (",
       format_duration(baseline.step_seconds),
       " a step, scoring ",
       format_duration(baseline.evaluation_seconds),
       ") need a --budget of about ",
       std::ceil(with_reserve(needed) / kRoundSeconds) * kRoundSeconds,
       "s");
}

StageBudget stage_budget(const Recipe& recipe,
                         std::size_t index,
                         const Budget& budget,
                         double elapsed,
                         const Probe& baseline,
                         double candidate_seconds,
                         const std::optional<Probe>& start) {
  const StageSpec& stage = recipe.stages.at(index);
  BudgetQuestion question{.stage = stage, .means = {}, .has_clock = budget.has_clock()};
  question.finals = final_trainings(recipe);
  const double finals = static_cast<double>(question.finals);
  const double final_share = recipe.stages.back().share;
  const double rest = remaining_shares(recipe, index);
  if (budget.effort > 0) {
    const double left = std::max(1.0, budget.effort - elapsed);
    question.means.effort = left * stage.share / rest;
    question.means.steps = std::max<std::int64_t>(1, std::llround(question.means.effort));
    question.means.horizon = horizon(left * final_share / rest, question.means.effort);
    return stage.kind->budget(question);
  }
  if (!budget.has_clock()) {
    const double all = finals * static_cast<double>(budget.steps);
    question.means.steps = std::max<std::int64_t>(1, std::llround(all * stage.share / final_share));
    if (stage.kind->continues) {
      question.means.effort = static_cast<double>(question.means.steps);
      question.means.horizon = static_cast<double>(budget.steps);
    }
    return stage.kind->budget(question);
  }
  const double left = budget.seconds - report_reserve_seconds(budget) - elapsed;
  question.part = stage.share / rest;
  question.means.seconds = std::max(0.0, left * stage.share / rest);
  question.means.ends_at = elapsed + question.means.seconds;
  question.means.seconds *= trials_at_once(budget, stage, finals);
  if (stage.kind->continues || stage.kind->final) {
    const double step_rate = kStepMargin / std::max(baseline.step_seconds, kShortestStep);
    const double stage_effort = step_rate * question.means.seconds;
    question.means.horizon = horizon(step_rate * left * final_share / rest, stage_effort);
    if (stage.kind->continues) question.means.effort = stage_effort;  // else the clock counts
  }
  // Roughly: the search decides how much it leaves to the final trainings.
  question.final_steps =
      left * final_share / rest / finals / std::max(baseline.step_seconds, kShortestStep);
  question.smallest_seconds =
      smallest_trial_seconds(start && !stage.kind->counts_with_baseline ? *start : baseline);
  question.candidate_seconds = candidate_seconds;
  question.budget = budget;
  question.baseline = baseline;
  question.elapsed = elapsed;
  return stage.kind->budget(question);
}

double smallest_budget_seconds(const Recipe& recipe,
                               double elapsed,
                               const Probe& search_probe,
                               const Probe& retrain_probe) {
  double left = 0;
  const double sum = remaining_shares(recipe, 0);
  for (const StageSpec& stage : recipe.stages) {
    const double needed = stage.kind->least_trainings(stage, final_trainings(recipe)) *
                          smallest_trial_seconds(stage.kind->final ? retrain_probe : search_probe);
    left = std::max(left, needed * sum / stage.share);
  }
  return with_reserve(elapsed + left);
}

}  // namespace nas
