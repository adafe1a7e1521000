// SPDX-License-Identifier: Apache-2.0
#include "supernet/super_evaluator.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/log.h"
#include "nas/core/progress.h"
#include "nas/core/rng.h"
#include "nas/core/run_folder.h"
#include "nas/core/stopwatch.h"
#include "nas/core/stop.h"
#include "nas/network/safetensors.h"
#include "nas/search/budget.h"
#include "supernet/inherited_scores.h"
#include "supernet/search/uniform_path.h"
#include "supernet/super_training.h"
#include "training/data/time_model.h"
#include "training/fit/fit.h"
#include "training/inference/predict.h"
#include "training/model/device.h"
#include "training/model/weights.h"
#include "training/trial_run.h"

namespace nas {
namespace {

constexpr const char* kNotFinite = "the network's output is not finite";

constexpr int kPathsOfAScore = 4;        // of a single-path super-network's own score
constexpr std::int64_t kStatistics = 4;  // batches for the statistics of batch norms
constexpr std::int64_t kStatisticsBatch = 4;

SuperOptions request_of(const std::string& request, const std::string& where) {
  return super_options_from_json(request.empty() ? Json::object() : parse_json(request, where),
                                 where);
}

std::vector<const CachedCase*> find_cases(const CaseCache& cache,
                                          const std::vector<std::string>& ids) {
  std::vector<const CachedCase*> cases;
  for (const std::string& id : ids) cases.push_back(&cache.find(id));
  return cases;
}

/// The options of a trained network's scoring: where it runs, and batches for batch norms.
ScoringOptions scoring_options(const TrainEvaluatorSetup& setup,
                               const TrainOptions& base,
                               const Extent3& patch,
                               const Graph& graph) {
  ScoringOptions options;
  options.device = base.device;
  options.precision = base.precision;
  options.threads = base.threads;
  if (has_batch_norm(graph)) {
    TrainOptions plain = base;
    plain.patch = patch;
    plain.batch = kStatisticsBatch;
    plain.augmentation = 0;
    plain.mirror = false;
    const auto cases = find_cases(*setup.cache, setup.cases.inner_training);
    for (std::int64_t b = 0; b < kStatistics; ++b) {
      options.statistics.push_back(make_batch(cases, plain, b));
    }
  }
  return options;
}

/// Bytes of a training step: of a single path that of the costliest closed network tried; of a
/// mixture the sum over the options, which counts what all alternatives share too often: an upper
/// bound.
std::int64_t super_memory_bytes(const Graph& graph,
                                const std::vector<Decision>& decisions,
                                const TrainOptions& options,
                                bool mixture) {
  int most = 0;
  for (const Decision& decision : decisions) most = std::max(most, decision.options());
  std::int64_t sum = 0, largest = 0;
  for (int o = 0; o < most; ++o) {
    std::vector<int> picked;
    for (const Decision& decision : decisions)
      picked.push_back(std::min(o, decision.options() - 1));
    const Graph closed =
        close_choices(graph, picks_of(decisions, picked, choice_sizes(graph).size()));
    const std::int64_t bytes = training_memory_bytes(closed, options.patch, options.batch, 4, 2);
    sum += bytes;
    largest = std::max(largest, bytes);
  }
  return mixture ? sum : largest;
}

/// `fixed` with the genes that decide choices set to options.
Genotype with_options(const Genotype& fixed,
                      const std::vector<Decision>& decisions,
                      const std::vector<int>& options) {
  Genotype genotype = fixed;
  for (std::size_t d = 0; d < decisions.size(); ++d) {
    genotype.values.at(decisions[d].gene.value()) = options[d];
  }
  return genotype;
}

/// Whether the space allows what a path stands for.
std::function<bool(const std::vector<int>&)> acceptance(const SearchSpace& space,
                                                        const Genotype& fixed,
                                                        const SuperNetwork& network) {
  return [&space, &fixed, &network](const std::vector<int>& picked) {
    Genotype genotype = fixed;
    for (std::size_t c = 0; c < picked.size(); ++c) {
      genotype.values.at(network.genes[c]) = picked[c];
    }
    return space.invalid_reason(genotype).empty();
  };
}

/// Whether `genotype` is a path of the super-network with this id.
bool belongs(const SearchSpace& space, const Genotype& genotype, const std::string& graph) {
  try {
    return graph_id(space.super_network(genotype).graph) == graph;
  } catch (const Error&) {
    return false;  // it has none
  }
}

std::string mean_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4f", value);
  return text;
}

/// Metrics of a path's windows: Dice per class name.
void add_dice(Evaluation& evaluation,
              const PathScore& score,
              const std::vector<std::string>& label_names) {
  for (std::size_t k = 0; k < score.dice.size(); ++k) {
    if (std::isfinite(score.dice[k])) {
      evaluation.metrics["dice/" + label_names.at(k + 1)] = score.dice[k];
    }
  }
}

/// Records how a super-network's training went. \returns whether the trial ends with it: its loss
/// was not finite, or it stopped before it had learnt anything.
bool ends_with_training(const SuperReport& report,
                        const TrialClock& clock,
                        bool differentiable,
                        std::int64_t wanted_steps,
                        Evaluation& evaluation) {
  evaluation.steps = report.fit.steps;
  evaluation.metrics["train_seconds"] = report.fit.seconds;
  evaluation.metrics["wait_seconds"] = report.fit.wait_seconds;
  evaluation.metrics["skipped_steps"] = static_cast<double>(report.fit.skipped);
  if (report.fit.status == "nan") {
    evaluation.status = TrialStatus::Nan;
    evaluation.message = concat_text("the loss was not finite after step ", report.fit.steps);
    return true;
  }
  if (report.fit.status != "stopped") return false;
  const bool useless = report.fit.steps == 0 || (differentiable && report.alpha_steps == 0);
  if (!clock.time_is_up() || useless) {
    evaluation.status = clock.time_is_up() ? TrialStatus::Timeout : TrialStatus::Stopped;
    if (clock.time_is_up()) evaluation.message = "the time was up before the first alpha step";
    return true;
  }
  evaluation.metrics["stopped_by_time"] = 1;
  evaluation.message =
      concat_text("stopped by the clock after ", report.fit.steps, " of ", wanted_steps, " steps");
  return false;
}

/// The most probable genotype of a differentiable super-network, put into `evaluation`; false, with
/// the reason there, if the space has no such network.
bool decode(const SearchSpace& space,
            const Genotype& fixed,
            const SuperNetwork& open,
            const std::vector<Decision>& decisions,
            const SuperOptions& super,
            const SuperReport& report,
            Evaluation& evaluation) {
  std::vector<std::vector<double>> logs = report.probabilities;
  for (std::vector<double>& decision : logs) {
    for (double& value : decision) value = std::log(std::max(value, 1e-300));
  }
  const auto best =
      super.max_parameters > 0
          ? most_probable_path(
                logs, parameter_costs(open.graph, decisions, open.patch), super.max_parameters)
          : most_probable_path(logs);
  evaluation.status = TrialStatus::Failed;
  if (!best) {
    evaluation.message = concat_text(
        "no network of the super-network has at most ", super.max_parameters, " parameters");
    return false;
  }
  evaluation.decoded = with_options(fixed, decisions, *best);
  if (const std::string reason = space.invalid_reason(evaluation.decoded); !reason.empty()) {
    evaluation.message = "the decoded network is not in the space: " + reason;
    return false;
  }
  evaluation.metrics["alpha_steps"] = static_cast<double>(report.alpha_steps);
  evaluation.metrics["alpha_skipped"] = static_cast<double>(report.alpha_skipped);
  evaluation.metrics["entropy"] = report.history.at("history").back().at("entropy").get<double>();
  return true;
}

/// How the super-network was trained and scored, for people.
std::string how_text(const SuperOptions& super,
                     const SuperReport& report,
                     std::int64_t batch,
                     std::int64_t windows,
                     const std::string& warm_start) {
  const bool differentiable = super.method == "differentiable";
  return concat_text(
      differentiable ? concat_text("differentiable super-network, order ", super.order)
                     : std::string("single-path super-network"),
      ", ",
      report.fit.steps,
      " steps of batch ",
      batch,
      differentiable ? concat_text(" (", report.alpha_steps, " with an alpha step)") : "",
      super.merge == "none" ? "" : ", branches merged " + super.merge,
      super.merge == "mixed" ? concat_text(" (",
                                           report.merged_choices,
                                           " of ",
                                           report.choices,
                                           " choices as one convolution, norm after the sum)")
                             : "",
      "; inherited weights of ",
      differentiable ? "the decoded path" : concat_text(kPathsOfAScore, " drawn paths"),
      ", ",
      windows,
      " windows of inner validation",
      warm_start);
}

}  // namespace

std::vector<Decision> gene_decisions(const SearchSpace& space, const SuperNetwork& network) {
  const std::vector<int> sizes = choice_sizes(network.graph);
  NAS_CHECK_KIND(Internal,
                 sizes.size() == network.genes.size(),
                 "space ",
                 space.name(),
                 ": super-network with ",
                 sizes.size(),
                 " choices, genes for ",
                 network.genes.size());
  std::vector<Decision> decisions;
  for (std::size_t c = 0; c < sizes.size(); ++c) {
    const std::size_t gene = network.genes[c];
    const Gene& meaning = space.genes().at(gene);
    NAS_CHECK_KIND(Internal,
                   static_cast<int>(meaning.values.size()) == sizes[c],
                   "space ",
                   space.name(),
                   ": gene ",
                   meaning.name,
                   " has ",
                   meaning.values.size(),
                   " values, its choice ",
                   c,
                   " ",
                   sizes[c],
                   " alternatives");
    auto found = std::find_if(decisions.begin(), decisions.end(), [&](const Decision& decision) {
      return decision.gene == gene;
    });
    if (found == decisions.end()) {
      Decision decision;
      decision.name = meaning.name;
      decision.gene = gene;
      decision.picks.resize(meaning.values.size());
      found = decisions.insert(decisions.end(), std::move(decision));
    }
    found->choices.push_back(c);
    for (int o = 0; o < sizes[c]; ++o) found->picks[static_cast<std::size_t>(o)].push_back(o);
  }
  return decisions;
}

struct SuperEvaluator::Loaded {
  std::int64_t trial = 0;
  SuperNetwork network;
  std::string graph;  // id
  GraphModule module{nullptr};
  Batch windows;
  ScoringOptions options;
};

SuperEvaluator::SuperEvaluator(TrainEvaluatorSetup setup) : train_(std::move(setup)) {}
SuperEvaluator::~SuperEvaluator() = default;

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
  }
  options.mirror = options.mirror && setup.mirror;
  const Json overrides = train_.build(trial.genotype)->training;
  if (overrides.is_object() && !overrides.empty()) {
    options =
        train_options_from_json(overrides, "training settings of " + trial.genotype_text, options);
  }
  return {options.steps, to_json(options).dump()};
}

Evaluation SuperEvaluator::evaluate(const Trial& trial, const TrialContext& context) {
  if (trial.purpose == TrialPurpose::SuperNet) {
    return survive([&] { return train_super(trial, context); });
  }
  if (trial.purpose == TrialPurpose::Inherited) return evaluate_batch({trial}, context).front();
  return train_.evaluate(trial, context);
}

Evaluation SuperEvaluator::train_super(const Trial& trial, const TrialContext& context) {
  const TrainEvaluatorSetup& setup = train_.setup();
  TrialClock clock(trial, context);
  Evaluation evaluation;
  const SuperOptions super = request_of(trial.request, concat_text("request of trial ", trial.id));
  const bool differentiable = super.method == "differentiable";
  const SuperNetwork open = setup.space->super_network(trial.genotype);
  const std::vector<Decision> decisions = gene_decisions(*setup.space, open);
  const std::string where = concat_text("settings of trial ", trial.id);
  const TrainOptions options =
      train_options_from_json(parse_json(trial.settings, where), where, setup.base);
  const std::int64_t forecast = super_memory_bytes(open.graph, decisions, options, differentiable);
  if (evaluation.message = lacks_memory(options.device, forecast); !evaluation.message.empty()) {
    evaluation.status = TrialStatus::OutOfMemory;
    return evaluation;
  }

  GraphModule network(open.graph, trial.seed);
  const std::string warm_start = warm_start_from_source(*network, setup.run_folder, trial);
  FitFiles files;
  files.folder = context.folder;
  files.checkpoint_seconds = 60;
  files.show_progress = setup.show_progress;
  files.label = "super-network";
  if (trial.seconds_limit > 0) {
    clock.set_reserve(2 * kStartSeconds +
                      scoring_seconds(trial.genotype, differentiable ? 1 : kPathsOfAScore));
  }
  FitHooks hooks;
  hooks.should_stop = [&] { return clock.poll(); };
  const auto accept = acceptance(*setup.space, trial.genotype, open);
  const SuperReport report = train_super_network(network,
                                                 decisions,
                                                 *setup.cache,
                                                 setup.cases.inner_training,
                                                 options,
                                                 super,
                                                 files,
                                                 hooks,
                                                 accept);
  if (ends_with_training(report, clock, differentiable, options.steps, evaluation)) {
    return evaluation;
  }

  // The architecture, and how well it does with the weights that it shared.
  std::vector<std::vector<int>> paths;
  Json details = report.history;
  if (differentiable) {
    if (!decode(*setup.space, trial.genotype, open, decisions, super, report, evaluation)) {
      return evaluation;
    }
    paths.push_back(picks(open, evaluation.decoded));
    details["decoded"] = setup.space->to_text(evaluation.decoded);
  } else {
    const PathSampler sampler(open.graph, decisions);
    for (int i = 0; i < kPathsOfAScore; ++i) {
      paths.push_back(sampler.draw(Rng(trial.seed).split("paths of the score").key(), i, accept));
    }
  }
  const Batch windows = make_windows(find_cases(*setup.cache, setup.cases.inner_validation),
                                     scoring_windows(open.patch, trial.seed));
  ScoringOptions scoring = scoring_options(setup, setup.base, open.patch, open.graph);
  scoring.should_stop = stop_requested;
  const ScoringReport scores = score_paths(network, paths, windows, scoring);
  if (scores.stopped) {
    evaluation.status = TrialStatus::Stopped;
    return evaluation;
  }
  double sum = 0;
  for (const PathScore& score : scores.scores) sum += score.score;
  evaluation.score = sum / static_cast<double>(scores.scores.size());
  if (!std::isfinite(evaluation.score)) {
    const bool finite = std::ranges::all_of(scores.scores, &PathScore::finite);
    evaluation.score = 0;
    evaluation.status = finite ? TrialStatus::Failed : TrialStatus::Nan;
    evaluation.message = finite ? kNotScored : kNotFinite;
    return evaluation;
  }
  evaluation.metrics["scoring_seconds"] = scores.seconds;
  evaluation.how = how_text(super, report, options.batch, windows.image.size(0), warm_start);
  details["merged_pairs"] = report.merged_pairs;
  details["merged_choices"] = report.merged_choices;
  details["choices"] = report.choices;
  evaluation.details = details.dump();
  loaded_.reset();
  save_weights((context.folder / kWeightsFile).string(), *network);
  evaluation.status = TrialStatus::Done;
  std::error_code ignored;
  std::filesystem::remove(RunFolder::checkpoint(context.folder), ignored);
  log_info("super-network: ", evaluation.how, ", Dice ", mean_text(evaluation.score));
  return evaluation;
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
    evaluations = score(trials, context);
    return Evaluation{};
  });
  if (evaluations.empty()) evaluations.assign(trials.size(), shared);
  for (Evaluation& evaluation : evaluations) {
    evaluation.seconds = shared.seconds / static_cast<double>(trials.size());
  }
  return evaluations;
}

std::vector<Evaluation> SuperEvaluator::score(const std::vector<Trial>& trials,
                                              const TrialContext& context) {
  const TrainEvaluatorSetup& setup = train_.setup();
  const std::int64_t source = trials.front().source;
  if (!loaded_ || loaded_->trial != source) {
    set_up_compute(setup.base.threads, choose_device(setup.base.device));
    auto loaded = std::make_unique<Loaded>();
    loaded->trial = source;
    loaded->network = setup.space->super_network(trials.front().genotype);
    loaded->graph = graph_id(loaded->network.graph);
    loaded->module = GraphModule(loaded->network.graph, trials.front().seed);
    load_weights(source_weights(setup.run_folder, source).string(), *loaded->module);
    const Extent3& patch = loaded->network.patch;
    loaded->windows = make_windows(find_cases(*setup.cache, setup.cases.inner_validation),
                                   scoring_windows(patch, trials.front().seed));
    loaded->options = scoring_options(setup, setup.base, patch, loaded->network.graph);
    loaded_ = std::move(loaded);
  }

  std::vector<Evaluation> evaluations(trials.size());
  std::vector<std::vector<int>> paths;
  std::vector<std::size_t> scored;
  for (std::size_t i = 0; i < trials.size(); ++i) {
    const Genotype& genotype = trials[i].genotype;
    std::string reason = setup.space->invalid_reason(genotype);
    if (reason.empty() && !belongs(*setup.space, genotype, loaded_->graph)) {
      reason = concat_text("belongs to another super-network than that of trial ", source);
    }
    if (reason.empty()) {
      scored.push_back(i);
      paths.push_back(picks(loaded_->network, genotype));
    } else {
      evaluations[i].message = reason;  // status: failed
    }
  }
  if (paths.empty()) return evaluations;

  TrialClock clock(trials.front(), context);
  bool late = false;
  ScoringOptions options = loaded_->options;
  options.should_stop = [&] {
    clock.poll();  // the heartbeat; the limit is that of a single trial
    late = context.deadline > 0 && context.clock && context.clock() > context.deadline;
    return late || stop_requested();
  };
  const ScoringReport report = score_paths(loaded_->module, paths, loaded_->windows, options);
  const std::string how = concat_text("inherited weights of trial ",
                                      source,
                                      ", ",
                                      loaded_->windows.image.size(0),
                                      " windows of inner validation, seed ",
                                      trials.front().seed);
  for (std::size_t p = 0; p < paths.size(); ++p) {
    Evaluation& evaluation = evaluations[scored[p]];
    evaluation.how = how;
    if (report.stopped) {
      evaluation.status = late ? TrialStatus::Timeout : TrialStatus::Stopped;
      continue;
    }
    const PathScore& score = report.scores[p];
    if (!std::isfinite(score.score)) {
      evaluation.status = score.finite ? TrialStatus::Failed : TrialStatus::Nan;
      evaluation.message = score.finite ? kNotScored : kNotFinite;
      continue;
    }
    evaluation.status = TrialStatus::Done;
    evaluation.score = score.score;
    add_dice(evaluation, score, setup.preprocessing.labels.names);
    evaluation.metrics["windows"] = static_cast<double>(loaded_->windows.image.size(0));
    evaluation.metrics["prefix_saving"] = report.saving();
  }
  if (!report.stopped) {
    char text[160];
    std::snprintf(text,
                  sizeof text,
                  "%zu candidates scored in %.1f s; shared prefixes saved %.2f x of the "
                  "multiply-adds",
                  paths.size(),
                  report.seconds,
                  report.saving());
    log_info(text);
  }
  return evaluations;
}

}  // namespace nas
