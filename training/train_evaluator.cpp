// SPDX-License-Identifier: Apache-2.0
#include "training/train_evaluator.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include <torch/torch.h>

#include "nas/core/error.h"
#include "nas/core/run_folder.h"
#include "nas/core/stopwatch.h"
#include "nas/imaging/metrics.h"
#include "nas/search/budget.h"
#include "nas/search/trial_request.h"
#include "training/data/time_model.h"
#include "training/fit/fit.h"
#include "training/fit/probe.h"
#include "training/inference/evaluate_cases.h"
#include "training/inference/predict.h"
#include "training/inner_score.h"
#include "training/model/device.h"
#include "training/model/device_memory.h"
#include "training/model/graph_module.h"
#include "training/model/model_folder.h"
#include "training/model/script_file.h"
#include "training/model/weights.h"
#include "training/settings/plan_training.h"
#include "training/settings/schedule.h"
#include "training/trial_run.h"

namespace nas {
namespace {

constexpr const char* kDice = "dice";

/// Score, Dice per class and details. The score is NaN where no class is there or predicted.
void add_metrics(Evaluation& evaluation,
                 const MetricInfo& metric,
                 const std::vector<CaseMetrics>& cases,
                 const std::vector<std::string>& label_names) {
  const MetricMeans means = mean_metrics(cases);
  evaluation.score = score_by(metric, means).value_or(NAN);
  evaluation.details = metrics_json(cases, label_names).dump();
  for (std::size_t k = 0; k < means.classes.size(); ++k) {
    if (const auto& dice = means.classes[k].dice)
      evaluation.metrics["dice/" + label_names.at(k + 1)] = *dice;
  }
}

/// Mean of the last 20 steps.
double recent_loss(const std::vector<double>& losses) {
  const std::size_t count = std::min<std::size_t>(20, losses.size());
  const double sum =
      std::accumulate(losses.end() - static_cast<std::ptrdiff_t>(count), losses.end(), 0.0);
  return sum / static_cast<double>(count);
}

/// What was fixed when the trial was first claimed; where it runs is up to who runs it now.
TrainOptions settings_of(const Trial& trial, const TrainOptions& base) {
  const std::string where = concat_text("settings of trial ", trial.id);
  TrainOptions options = train_options_from_json(parse_json(trial.settings, where), where);
  options.device = base.device;
  options.threads = base.threads;
  return options;
}

/// Whether the machine lacks the memory of a training step, which is then how the trial ends.
bool out_of_memory(Evaluation& evaluation,
                   const Phenotype& phenotype,
                   const TrainOptions& options) {
  const std::int64_t forecast =
      training_memory_bytes(phenotype.graph, options.patch, options.batch, 4, 2);
  evaluation.message = lacks_memory(options.device, forecast);
  if (evaluation.message.empty()) return false;
  evaluation.status = TrialStatus::OutOfMemory;
  return true;
}

/// "30 steps of batch 2, continued from trial 4, inner validation".
std::string how_it_was_trained(const Trial& trial,
                               const TrialRequest& request,
                               const TrainOptions& options,
                               std::int64_t steps) {
  return concat_text(
      steps,
      " steps of batch ",
      options.batch,
      request.continues > 0 ? concat_text(", continued from trial ", request.continues) : "",
      trial.purpose == TrialPurpose::Search ? ", inner validation" : ", held-out cases");
}

/// What a trial's scores on the way came to.
struct Look {
  bool pruned = false;
  double score = 0;
};

/// Scores where the context asks for it, with the weights as they are then, not their average; ends
/// the training where the answer is no.
void look_on_the_way(Look& look,
                     FitHooks& hooks,
                     GraphModule& network,
                     const TrialContext& context,
                     const MetricInfo& metric,
                     const std::function<std::vector<CaseMetrics>()>& score_cases) {
  if (context.report_steps.empty()) return;
  hooks.after_step = [&, score_cases](const StepInfo& info) {
    if (std::ranges::find(context.report_steps, info.step) == context.report_steps.end()) return;
    network->eval();
    const auto scored = score_cases();
    network->train();
    look.score = score_by(metric, mean_metrics(scored)).value_or(0);
    look.pruned = !context.report(info.step, look.score);
  };
  hooks.should_stop = [&look, before = hooks.should_stop] { return look.pruned || before(); };
}

/// Saves the model of a final training and scores it on the held-out cases.
/// \param inner scores of the inner validation cases; empty where it learned from them too.
void score_final(Evaluation& evaluation,
                 const TrainEvaluatorSetup& setup,
                 const Trial& trial,
                 const GraphModule& network,
                 const TrainOptions& options,
                 const MetricInfo& metric,
                 const std::vector<CaseMetrics>& inner) {
  const MetricMeans means = mean_metrics(inner);
  const auto& dice = means.foreground.dice;
  if (dice && !trial_request(trial).all_cases) evaluation.metrics["inner_dice"] = *dice;
  const auto score = score_by(metric, means);
  if (score && setup.metric != kDice) evaluation.metrics[kInnerScore] = *score;
  const RunFolder folder(setup.run_folder);
  Model model;
  model.network = network;
  model.preprocessing = setup.preprocessing;
  model.preprocessing.patch = options.patch;
  model.mirrored = mirrors_images(options);
  save_model(folder.final_model(trial.label), model);
  const auto cases = evaluate_cases(model,
                                    *setup.data,
                                    setup.cases.held_out,
                                    predict_options(options),
                                    folder.predictions(trial.label),
                                    setup.show_progress);
  add_metrics(evaluation, metric_named(kDice, "metric"), cases, setup.preprocessing.labels.names);
}

}  // namespace

TrainEvaluator::TrainEvaluator(TrainEvaluatorSetup setup)
    : setup_(std::move(setup)),
      costs_(*setup_.space,
             setup_.configuration.patch,
             setup_.configuration.batch,
             [](Phenotype& built) { probe_script(built.graph, built.patch); }) {}

TrialCost TrainEvaluator::describe(const Genotype& genotype) { return costs_.of(genotype); }

const TrainEvaluator::Speed& TrainEvaluator::measure(const Genotype& genotype, std::int64_t batch) {
  Speed& speed = speeds_[genotype];
  if (!speed.probed.contains(batch)) {
    const auto phenotype = build(genotype);
    TrainOptions options = setup_.base;
    options.optimizer = kShortOptimizer;
    options.patch = phenotype->patch;
    options.batch = batch;
    options.deep_supervision = setup_.configuration.architecture.deep_supervision;
    const ProbeResult result = nas::probe(
        phenotype->graph, options, setup_.cache->labels(), std::exchange(probe_steps_, 2));
    speed.probed[batch] = result.seconds_per_step;
    speed.forward_seconds = result.seconds_per_forward;
  }
  return speed;
}

double TrainEvaluator::step_seconds(const Genotype& genotype, std::int64_t batch) {
  const Speed& speed = measure(genotype, kSmallestBatch);
  if (const auto exact = speed.trained.find(batch); exact != speed.trained.end()) {
    // The machine may have been busier then than it is now; a training too long stops in time
    // anyway.
    const auto now = speed.probed.find(batch);
    return now == speed.probed.end() ? exact->second
                                     : std::min(exact->second, in_training(now->second, batch));
  }
  std::map<std::int64_t, double> expected;
  for (const auto& [probed, seconds] : speed.probed) {
    if (probed >= kSmallestBatch) expected[probed] = in_training(seconds, probed);
  }
  return step_seconds_at_batch(expected, batch);
}

double TrainEvaluator::in_training(double probed, std::int64_t batch) const {
  return kTrainedPerProbed * probed + sample_seconds_ * static_cast<double>(batch);
}

double TrainEvaluator::forward_seconds(const Genotype& genotype) {
  return measure(genotype, kSmallestBatch).forward_seconds;
}

void TrainEvaluator::probe_again(int steps) {
  speeds_.clear();
  scoring_seconds_ = -1;
  probe_steps_ = steps;
}

std::string TrainEvaluator::measured() const {
  if (speeds_.empty()) return "";
  Json speeds = Json::array();
  for (const auto& [genotype, speed] : speeds_) {
    speeds.push_back({{"genotype", genotype.values},
                      {"probed", speed.probed},
                      {"trained", speed.trained},
                      {"forward_seconds", speed.forward_seconds}});
  }
  return Json{{"speeds", speeds},
              {"sample_seconds", sample_seconds_},
              {"scoring_seconds", scoring_seconds_}}
      .dump();
}

void TrainEvaluator::restore(const std::string& measured) {
  const std::string where = "measured speeds";
  const Json json = parse_json(measured, where);
  const JsonReader reader(json, where);
  std::map<Genotype, Speed> speeds;
  for (std::size_t i = 0; i < reader.at("speeds").size(); ++i) {
    const JsonReader row = reader.at("speeds").at(i);
    Genotype genotype;
    for (const std::int64_t gene : row.at("genotype").integers()) {
      genotype.values.push_back(static_cast<int>(gene));
    }
    speeds[genotype] = {.probed = seconds_by_batch(row.at("probed")),
                        .trained = seconds_by_batch(row.at("trained")),
                        .forward_seconds = row.at("forward_seconds").number()};
  }
  speeds_ = std::move(speeds);
  sample_seconds_ = reader.at("sample_seconds").number();
  scoring_seconds_ = reader.at("scoring_seconds").number();
}

void TrainEvaluator::measure_scoring() {
  if (scoring_seconds_ >= 0) return;
  // One training case through the whole evaluation, with an untrained network: its
  // ragged result is harder to score than a sensible one, so this does not promise too much.
  const Genotype baseline = setup_.space->baseline();
  const double forward = measure(baseline, kSmallestBatch).forward_seconds;
  const auto phenotype = build(baseline);
  Model model;
  model.network = GraphModule(phenotype->graph, 1);
  model.preprocessing = setup_.preprocessing;
  const std::string& id = setup_.cases.training.front();
  const Stopwatch watch;
  evaluate_cases(model, *setup_.data, {id}, predict_options(setup_.base), {}, false);
  const double passes = scoring_work(*setup_.cache, {id}, phenotype->patch).windows * forward;
  scoring_seconds_ = std::max(kLeastCaseSeconds, watch.seconds() - passes);
}

double TrainEvaluator::evaluation_seconds(const Genotype& genotype, TrialPurpose purpose) {
  const double forward = forward_seconds(genotype);
  const Extent3 patch = build(genotype)->patch;
  const ScoringWork inner = scoring_work(*setup_.cache, setup_.cases.inner_validation, patch);
  if (purpose == TrialPurpose::Search) return inner_scoring_seconds(inner, forward);
  measure_scoring();
  const ScoringWork held_out = scoring_work(*setup_.cache, setup_.cases.held_out, patch);
  return final_scoring_seconds(inner, held_out, forward, scoring_seconds_);
}

Probe TrainEvaluator::probe(const Genotype& genotype, TrialPurpose purpose) {
  Probe result;
  result.evaluation_seconds = evaluation_seconds(genotype, purpose);
  result.step_seconds = step_seconds(genotype, kSmallestBatch);
  // What it costs to measure another genotype: a warm-up and two steps at up to two batches.
  result.probe_seconds = purpose == TrialPurpose::Search ? 4 * result.step_seconds : 0;
  return result;
}

TrialPlan TrainEvaluator::plan(const Trial& trial) {
  const Stopwatch watch;
  const auto phenotype = build(trial.genotype);
  Configuration configuration = setup_.configuration;
  configuration.patch = phenotype->patch;
  TrainOptions base = setup_.base;
  base.seed = trial.seed;
  const auto cases = static_cast<std::int64_t>(setup_.cases.inner_training.size());
  TrainOptions options;
  if (const TrialRequest request = trial_request(trial); request.horizon_steps > 0) {
    // Settings are those of the whole training, wherever it is paused.
    options = plan_training(configuration, cases, {.steps = request.horizon_steps}, {}, base);
    options.batch = kSmallestBatch;
    if (!request.finishes) {
      options = paused_at(options, trial.steps);
    } else if (trial.steps > 0) {
      options = finished_at(options, trial.steps, request.done);
    } else {  // the clock decides when the decay begins; until then this is what is expected
      const double training =
          (trial.seconds_limit - evaluation_seconds(trial.genotype, trial.purpose)) * kStepMargin;
      const double more = training / step_seconds(trial.genotype, kSmallestBatch);
      options = paused_at(options, request.done + std::max<std::int64_t>(1, std::llround(more)));
    }
  } else if (trial.steps > 0) {
    options = plan_training(configuration, cases, {.steps = trial.steps}, {}, base);
  } else {
    if (trial.purpose == TrialPurpose::Retrain) {
      // The trainings that count deserve a fresh and longer look.
      speeds_[trial.genotype].probed.clear();
      probe_steps_ = 4;
    }
    const double scoring = evaluation_seconds(trial.genotype, trial.purpose);
    auto for_time = [&] {
      // What measuring takes is the trial's own time.
      const double training = (trial.seconds_limit - watch.seconds()) * kStepMargin - scoring;
      const double smallest = step_seconds(trial.genotype, kSmallestBatch);
      return plan_training(
          configuration,
          cases,
          {.seconds = std::max(training, 1.01 * smallest)},
          [&](std::int64_t batch) { return step_seconds(trial.genotype, batch); },
          base);
    };
    options = for_time();
    measure(trial.genotype, options.batch);
    options = for_time();
  }
  options.mirror = options.mirror && setup_.mirror;
  if (phenotype->training.is_object() && !phenotype->training.empty()) {
    options = adjust_train_options(
        phenotype->training, "training settings of " + trial.genotype_text, options);
  }
  return {options.steps, to_json(options).dump()};
}

Evaluation TrainEvaluator::evaluate(const Trial& trial, const TrialContext& context) {
  return survive([&] { return run(trial, context); });
}

void TrainEvaluator::learn_speed(const Genotype& genotype,
                                 std::int64_t batch,
                                 const FitReport& report) {
  if (report.steps < 10) return;
  // A whole training knows its speed better than a probe of two steps.
  Speed& speed = speeds_[genotype];
  const double trained = report.seconds / static_cast<double>(report.steps);
  speed.trained[batch] = trained;
  if (const auto probed = speed.probed.find(batch); probed != speed.probed.end()) {
    const double more = (trained - kTrainedPerProbed * probed->second) / static_cast<double>(batch);
    sample_seconds_ = std::max(0.0, 0.5 * (sample_seconds_ + more));
  }
}

MetricOptions TrainEvaluator::inner_options() const {
  return {.distances = setup_.metric != kDice, .missing_is_far = true};
}

Evaluation TrainEvaluator::run(const Trial& trial, const TrialContext& context) {
  TrialClock clock(trial, context);
  const MetricInfo& metric = metric_named(setup_.metric, "metric");
  Evaluation evaluation;
  const bool search = trial.purpose == TrialPurpose::Search;
  const TrialRequest request = trial_request(trial);
  const auto phenotype = build(trial.genotype);
  const TrainOptions options = settings_of(trial, setup_.base);
  if (out_of_memory(evaluation, *phenotype, options)) return evaluation;
  const DeviceMemory memory(options.device, trial.alone);

  GraphModule network(phenotype->graph, trial.seed);
  const std::string warm_start = warm_start_from_source(*network, setup_.run_folder, trial);
  FitFiles files;
  files.folder = context.folder;
  files.checkpoint_seconds = 60;
  files.show_progress = setup_.show_progress;
  files.label = search ? concat_text("trial ", trial.id) : "training the " + trial.label;
  if (trial.seconds_limit > 0) {
    clock.set_reserve(evaluation_seconds(trial.genotype, trial.purpose));
  }
  if (request.continues > 0) {
    files.continues = RunFolder::checkpoint(RunFolder(setup_.run_folder).trial(request.continues));
  }
  FitHooks hooks;
  // Where the clock decides on the end (Pace), the rate reaches 0 even if that takes a step more.
  const bool open_end = !search && trial.seconds_limit > 0 && options.schedule == "wsd";
  hooks.should_stop = [&] { return clock.poll() && (!open_end || clock.aborted()); };
  if (open_end) hooks.seconds_left = [&] { return clock.seconds_left(); };
  const auto score_inner = [&] {
    return score_cached_cases(network,
                              *setup_.cache,
                              setup_.cases.inner_validation,
                              options.patch,
                              predict_options(options),
                              inner_options(),
                              setup_.preprocessing.spacing);
  };
  Look look;
  if (search) look_on_the_way(look, hooks, network, context, metric, score_inner);
  const std::vector<std::string>& cases =
      request.all_cases ? setup_.cases.training : setup_.cases.inner_training;
  const FitReport report = fit(network, *setup_.cache, cases, options, files, hooks);
  evaluation.steps = report.steps;
  evaluation.how = how_it_was_trained(trial, request, options, report.steps) + warm_start;
  if (!search) evaluation.metrics["learning_rate_at_end"] = report.learning_rate;
  evaluation.metrics["train_seconds"] = report.seconds;
  evaluation.metrics["wait_seconds"] = report.wait_seconds;
  evaluation.metrics["skipped_steps"] = static_cast<double>(report.skipped);
  if (!report.losses.empty()) evaluation.metrics["loss"] = recent_loss(report.losses);
  if (report.status == "nan") {
    evaluation.status = TrialStatus::Nan;
    evaluation.message = concat_text("the loss was not finite after step ", report.steps);
    return evaluation;
  }
  if (look.pruned) {
    evaluation.status = TrialStatus::Pruned;
    evaluation.score = look.score;
    return evaluation;
  }
  if (report.status == "stopped") {
    if (!clock.time_is_up() || report.steps == 0) {
      evaluation.status = clock.time_is_up() ? TrialStatus::Timeout : TrialStatus::Stopped;
      return evaluation;
    }
    evaluation.message =
        concat_text("stopped by the clock after ", report.steps, " of ", options.steps, " steps");
    if (search) {  // it did less than its share, so it is not ranked
      evaluation.status = TrialStatus::Timeout;
      return evaluation;
    }
    evaluation.metrics["stopped_by_time"] = 1;
  }
  if (trial.seconds_limit > 0 && trial.attempt == 1 && request.continues == 0) {
    learn_speed(trial.genotype, options.batch, report);
  }

  const Stopwatch scoring_watch;
  try {
    std::vector<CaseMetrics> inner;
    if (!request.all_cases) inner = score_inner();
    if (search) {
      add_metrics(evaluation, metric, inner, setup_.preprocessing.labels.names);
      if (!std::isfinite(evaluation.score)) {
        evaluation.status = TrialStatus::Failed;
        evaluation.message = kNotScored;
        return evaluation;
      }
    } else {
      score_final(evaluation, setup_, trial, network, options, metric, inner);
    }
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::NotFinite) throw;
    evaluation.status = TrialStatus::Nan;
    evaluation.message = error.what();
    return evaluation;
  }
  evaluation.metrics["scoring_seconds"] = scoring_watch.seconds();
  evaluation.status = TrialStatus::Done;
  if (request.horizon_steps == 0 || request.finishes) {
    std::error_code ignored;  // nothing will go on from it
    std::filesystem::remove(RunFolder::checkpoint(context.folder), ignored);
  }
  return evaluation;
}

}  // namespace nas
