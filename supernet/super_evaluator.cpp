// SPDX-License-Identifier: Apache-2.0
#include "supernet/super_evaluator.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/stopwatch.h"
#include "nas/search/budget.h"
#include "supernet/gene_decisions.h"
#include "supernet/inherited_scores.h"
#include "supernet/super_training.h"
#include "supernet/super_trial.h"
#include "training/data/time_model.h"
#include "training/fit/fit.h"
#include "training/settings/plan_training.h"
#include "training/settings/schedule.h"
#include "training/trial_run.h"

namespace nas {

SuperEvaluator::SuperEvaluator(TrainEvaluatorSetup setup) : train_(std::move(setup)) {}

TrialCost SuperEvaluator::describe(const Genotype& genotype) { return train_.describe(genotype); }

std::string SuperEvaluator::measured() const {
  const std::string own = train_.measured();
  if (own.empty() && super_speeds_.empty()) return "";
  Json paths = Json::object();
  for (const auto& [what, seconds] : super_speeds_) paths[what] = seconds;
  return Json{{"trainings", own}, {"super_networks", paths}}.dump();
}

void SuperEvaluator::restore(const std::string& measured) {
  const std::string where = "measured speeds";
  const Json json = parse_json(measured, where);
  const JsonReader reader(json, where);
  if (const std::string own = reader.at("trainings").text(); !own.empty()) train_.restore(own);
  super_speeds_.clear();
  for (const std::string& what : reader.at("super_networks").keys()) {
    super_speeds_[what] = seconds_by_batch(reader.at("super_networks").at(what));
  }
}

double SuperEvaluator::step_seconds(const Genotype& genotype) {
  return train_.step_seconds(genotype, kSmallestBatch);
}

double SuperEvaluator::scoring_seconds(const Genotype& genotype, std::int64_t paths) {
  const Extent3 patch = train_.setup().space->super_network(genotype).patch;
  return path_scoring_seconds(
      paths, scoring_windows(patch, 0).count, train_.forward_seconds(genotype));
}

Probe SuperEvaluator::probe(const Genotype& genotype, TrialPurpose purpose) {
  if (purpose == TrialPurpose::Inherited) {
    Probe result;
    result.evaluation_seconds = scoring_seconds(genotype, 1);
    return result;
  }
  if (purpose != TrialPurpose::SuperNet) return train_.probe(genotype, purpose);
  Probe result;
  result.step_seconds = super_step_seconds(genotype, "", kSmallestBatch);
  result.evaluation_seconds = 2 * kStartSeconds + scoring_seconds(genotype, kPathsOfAScore);
  result.probe_seconds = 10 * result.step_seconds;
  return result;
}

double SuperEvaluator::super_step_seconds(const Genotype& fixed,
                                          const std::string& request,
                                          std::int64_t batch) {
  const TrainEvaluatorSetup& setup = train_.setup();
  const SuperNetwork open = setup.space->super_network(fixed);
  auto& probed = super_speeds_[graph_id(open.graph) + request];
  const bool first = probed.empty();
  if (first) {
    // The real thing: five steps on real data; the first warms up, the differentiable method takes
    // alpha steps in the last three.
    SuperOptions super = request_of(request, "request of a super-network");
    const double warmup = super.warmup;
    super.warmup = 0.4;
    TrainOptions options = setup.base;
    options.optimizer = kShortOptimizer;
    options.patch = open.patch;
    options.batch = std::min(batch, kSmallestBatch);
    options.steps = 5;
    options.deep_supervision = setup.configuration.architecture.deep_supervision;
    std::vector<double> times;
    FitHooks hooks;
    hooks.after_step = [&](const StepInfo& info) { times.push_back(info.step_seconds); };
    FitFiles files;
    files.show_progress = false;
    files.label = "probe of a super-network";
    GraphModule network(open.graph, options.seed);
    train_super_network(network,
                        gene_decisions(*setup.space, open),
                        *setup.cache,
                        setup.cases.inner_training,
                        options,
                        super,
                        files,
                        hooks,
                        acceptance(*setup.space, fixed, open));
    NAS_CHECK(
        times.size() == 5, "probe of a super-network: stopped after ", times.size(), " steps");
    std::sort(times.begin() + 2, times.end());
    const bool differentiable = super.method == "differentiable";
    probed[options.batch] = differentiable ? warmup * times[1] + (1 - warmup) * times[3]
                                           : (times[1] + times[2] + times[3] + times[4]) / 4;
  }
  return kTrainedPerProbedPath * step_seconds_at_batch(probed, batch);
}

TrialPlan SuperEvaluator::plan(const Trial& trial) {
  const TrainEvaluatorSetup& setup = train_.setup();
  if (trial.purpose == TrialPurpose::Inherited) {
    const Extent3 patch = setup.space->super_network(trial.genotype).patch;
    return {
        0,
        Json{{"windows", scoring_windows(patch, trial.seed).count}, {"seed", trial.seed}}.dump()};
  }
  if (trial.purpose != TrialPurpose::SuperNet) return train_.plan(trial);
  const Stopwatch watch;
  const SuperOptions super = request_of(trial.request, concat_text("request of trial ", trial.id));
  const SuperNetwork open = setup.space->super_network(trial.genotype);
  Configuration configuration = setup.configuration;
  configuration.patch = open.patch;
  TrainOptions base = setup.base;
  base.seed = trial.seed;
  auto cases = static_cast<std::int64_t>(setup.cases.inner_training.size());
  if (super.method == "differentiable") cases = (cases + 1) / 2;
  TrainOptions options;
  if (trial.steps > 0) {
    options = plan_training(configuration, cases, {.steps = trial.steps}, {}, base);
  } else {
    const double scoring = 2 * kStartSeconds + scoring_seconds(trial.genotype, kPathsOfAScore);
    const auto step = [&](std::int64_t batch) {
      return super_step_seconds(trial.genotype, trial.request, batch);
    };
    const double smallest = step(kSmallestBatch);
    const double training = (trial.seconds_limit - watch.seconds()) * kStepMargin - scoring;
    options = plan_training(
        configuration, cases, {.seconds = std::max(training, 1.01 * smallest)}, step, base);
    // The steps are what is expected; the clock decides when the decay begins.
    if (options.schedule == "wsd") options = paused_at(options, options.steps);
  }
  options.mirror = options.mirror && setup.mirror;
  const Json overrides = train_.build(trial.genotype)->training;
  if (overrides.is_object() && !overrides.empty()) {
    options =
        adjust_train_options(overrides, "training settings of " + trial.genotype_text, options);
  }
  return {options.steps, to_json(options).dump()};
}

Evaluation SuperEvaluator::evaluate(const Trial& trial, const TrialContext& context) {
  if (trial.purpose == TrialPurpose::SuperNet) {
    return survive([&] {
      return train_super_trial(
          train_.setup(),
          trial,
          context,
          [&](std::int64_t paths) { return scoring_seconds(trial.genotype, paths); },
          [&] { inherited_.forget(); });
    });
  }
  if (trial.purpose == TrialPurpose::Inherited) return evaluate_batch({trial}, context).front();
  return train_.evaluate(trial, context);
}

std::int64_t SuperEvaluator::batch_size(const Trial& trial) {
  return trial.purpose == TrialPurpose::Inherited ? kScoringBatch : 1;
}

std::vector<Evaluation> SuperEvaluator::evaluate_batch(const std::vector<Trial>& trials,
                                                       const TrialContext& context) {
  if (trials.front().purpose != TrialPurpose::Inherited) {
    return Evaluator::evaluate_batch(trials, context);
  }
  std::vector<Evaluation> evaluations;
  const Evaluation shared = survive([&] {
    evaluations = inherited_.score(train_.setup(), trials, context);
    return Evaluation{};
  });
  if (evaluations.empty()) evaluations.assign(trials.size(), shared);
  for (Evaluation& evaluation : evaluations) {
    evaluation.seconds = shared.seconds / static_cast<double>(trials.size());
  }
  return evaluations;
}

}  // namespace nas
