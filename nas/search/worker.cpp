// SPDX-License-Identifier: Apache-2.0
#include "nas/search/worker.h"

#include <algorithm>
#include <cmath>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/log.h"
#include "nas/core/stopwatch.h"
#include "nas/search/pruner.h"
#include "nas/search/stage_controller.h"
#include "nas/search/strategy_kind.h"

namespace nas {
namespace {

constexpr double kWishSeconds = 1;  // how often somebody's wish is looked for
constexpr const char* kStop = "stop";

}  // namespace

void store_measured(TrialStore& store, const Evaluator& evaluator) {
  const std::string now = evaluator.measured();
  if (!now.empty() && now != store.measured()) store.set_measured(now);
}

/// Steps and settings are fixed once, when the trial is first claimed; from then on it is a function
/// of its row.
void Worker::fix(const StageRecord& record, Trial& trial) {
  if (!trial.settings.empty()) return;
  if (setup_.budget.has_clock()) {
    const double fair = record.budget.seconds * trial.share;
    const double left = record.budget.ends_at - setup_.clock();
    trial.seconds_limit = std::max(0.5 * fair, std::min(fair, left));
    // Steps are fixed already: the clock only says when the stage must end.
    if (trial.steps > 0) trial.seconds_limit = std::max(1.0, left);
  }
  const TrialPlan plan = setup_.evaluator->plan(trial);
  store_measured(*setup_.store, *setup_.evaluator);
  NAS_CHECK_KIND(
      Internal,
      (plan.steps > 0 || trial.purpose == TrialPurpose::Inherited) && !plan.settings.empty(),
      "evaluator: the plan of trial ",
      trial.id,
      " needs steps > 0 and settings");
  setup_.store->fix_plan(trial, plan, trial.seconds_limit);
  trial.steps = plan.steps;
  trial.settings = plan.settings;
}

/// Evaluates trials that the evaluator wants together (mostly one).
std::vector<Evaluation> Worker::evaluate(const StageSpec& stage,
                                         const StageRecord& record,
                                         std::vector<Trial>& trials) {
  TrialStore& store = *setup_.store;
  const Trial& first = trials.front();
  TrialContext context;
  context.folder = setup_.folder / first.checkpoint;
  create_folder(context.folder);
  context.clock = setup_.clock;
  context.heartbeat = [this, &store] { store.set_clock(setup_.clock()); };
  Stopwatch looked;
  bool aborted = false;
  context.aborted = [&, this] {
    if (!aborted && looked.seconds() > kWishSeconds) {
      looked.restart();
      aborted = store.wish_of(first.id) == kStop;
    }
    return aborted;
  };
  std::string pruned;
  context.report = [&, this](std::int64_t step, double score) {
    store.add_report(first, step, "score", score, setup_.clock());
    if (stage.pruner.any()) {
      pruned = reason_to_prune(stage.pruner, store.reports(0, stage.name), first.id);
    }
    return pruned.empty();
  };
  std::vector<Evaluation> evaluations;
  try {
    double limit = 0;
    for (Trial& trial : trials) {
      fix(record, trial);
      limit += trial.seconds_limit;
    }
    if (stage.pruner.any() && first.purpose == TrialPurpose::Search) {
      context.report_steps = report_steps(first.steps);
    }
    if (setup_.budget.has_clock()) {
      // The stage's end, unless hardly anything were left: a trial of no steps tells nothing.
      context.deadline = std::max(record.budget.ends_at, setup_.clock() + 0.5 * limit);
    }
    if (trials.size() == 1) {
      evaluations.push_back(setup_.evaluator->evaluate(first, context));
    } else {
      evaluations = setup_.evaluator->evaluate_batch(trials, context);
    }
    NAS_CHECK_KIND(Internal,
                   evaluations.size() == trials.size(),
                   "evaluator: expected ",
                   trials.size(),
                   " evaluations, found ",
                   evaluations.size());
  } catch (const Error& error) {
    // A genotype that cannot be built is data, and so is a stop; a broken disk or a bug is not.
    const bool stopped = error.kind() == ErrorKind::Stopped;
    if (!stopped && error.kind() != ErrorKind::Shape && error.kind() != ErrorKind::Input) throw;
    Evaluation failed;
    failed.status = stopped ? TrialStatus::Stopped : TrialStatus::Failed;
    failed.message = error.what();
    evaluations.assign(trials.size(), failed);
  }
  const bool ranks = first.purpose != TrialPurpose::Retrain;  // a final one may be unscored
  for (Evaluation& evaluation : evaluations) {
    const bool scored =
        evaluation.status == TrialStatus::Done || evaluation.status == TrialStatus::Pruned;
    if (ranks && scored && !std::isfinite(evaluation.score)) {
      evaluation.status = TrialStatus::Nan;
      evaluation.message = concat_text("its score is no number but ", evaluation.score);
    }
    if (evaluation.status == TrialStatus::Pruned) evaluation.message = pruned;
    if (evaluation.status == TrialStatus::OutOfMemory && first.alone) {
      evaluation.message = "alone: " + evaluation.message;
    }
    if (aborted && evaluation.status == TrialStatus::Stopped) {
      evaluation.status = TrialStatus::Aborted;
      evaluation.message = "aborted by the user";
    }
  }
  return evaluations;
}

/// Workers that share a device share its memory: what did not fit beside another trial may fit alone.
bool Worker::goes_again_alone(const Trial& trial, const Evaluation& evaluation) {
  if (evaluation.status != TrialStatus::OutOfMemory || !setup_.store->retry_alone(trial)) {
    return false;
  }
  const std::string text = concat_text("out of memory beside others (",
                                       evaluation.message,
                                       "); it is tried once more, alone on its device");
  log_warning("trial ", trial.id, ": ", text);
  setup_.store->add_event(setup_.clock(), trial.id, "oom", text);
  return true;
}

/// \returns whether the user stopped it.
bool Worker::finish(Trial& trial, const Evaluation& evaluation) {
  if (goes_again_alone(trial, evaluation)) return false;
  trial.evaluation = evaluation;
  trial.status = evaluation.status;
  trial.ended = setup_.clock();
  if (!setup_.store->finish(trial, evaluation, trial.ended)) {
    log_warning("trial ",
                trial.id,
                ": it was given to another worker while this one was not heard of; the result of "
                "this one is thrown away");
    return false;
  }
  // What another process is to go on with is queued at once; the leader's own waits for its resume.
  const bool stopped = trial.status == TrialStatus::Stopped;
  if (stopped && setup_.name != TrialStore::kLeader) setup_.store->release(trial);
  if (setup_.ended) setup_.ended(trial);
  return stopped;
}

Worker::Did Worker::work(const StageSpec& stage, const StageRecord& record) {
  TrialStore& store = *setup_.store;
  auto trial = store.claim(stage.name, setup_.clock(), nullptr, setup_.name);
  if (!trial) return Did::Nothing;
  Evaluation early;
  if (setup_.should_stop && setup_.should_stop()) {
    early.status = TrialStatus::Stopped;
    store.finish(*trial, early, setup_.clock());
    if (setup_.name != TrialStore::kLeader) store.release(*trial);
    return Did::Stopped;
  }
  if (store.wish_of(trial->id) == kStop) {
    early.status = TrialStatus::Aborted;
    early.message = "not begun: aborted by the user";
    finish(*trial, early);
    return Did::Trials;
  }
  if (time_is_over(setup_.budget, stage, record, setup_.clock()) && store.best_trial(stage.name)) {
    early.status = TrialStatus::Timeout;
    early.message = "not begun: the stage's time was over";
    store.finish(*trial, early, setup_.clock());
    return Did::Trials;
  }
  std::vector<Trial> batch{*trial};
  for (const std::int64_t wanted = trial->alone ? 1 : setup_.evaluator->batch_size(*trial);
       static_cast<std::int64_t>(batch.size()) < wanted;) {
    auto next = store.claim(stage.name, setup_.clock(), &batch.front(), setup_.name);
    if (!next) break;
    batch.push_back(*next);
  }
  if (setup_.started) {
    for (const Trial& one : batch) setup_.started(one);
  }
  const std::vector<Evaluation> evaluations = evaluate(stage, record, batch);
  store_measured(store, *setup_.evaluator);
  bool stopped = false;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    stopped = finish(batch[i], evaluations[i]) || stopped;
  }
  store.set_clock(setup_.clock());
  return stopped ? Did::Stopped : Did::Trials;
}

}  // namespace nas
