// SPDX-License-Identifier: Apache-2.0
#include "supernet/inherited_trials.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/log.h"
#include "nas/core/stop.h"
#include "supernet/gene_decisions.h"
#include "training/fit/fit.h"
#include "training/model/device.h"
#include "training/model/weights.h"
#include "training/trial_run.h"

namespace nas {
namespace {

constexpr std::int64_t kStatistics = 4;  // batches for the statistics of batch norms
constexpr std::int64_t kStatisticsBatch = 4;

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

}  // namespace

std::vector<const CachedCase*> find_cases(const CaseCache& cache,
                                          const std::vector<std::string>& ids) {
  std::vector<const CachedCase*> cases;
  for (const std::string& id : ids) cases.push_back(&cache.find(id));
  return cases;
}

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

struct InheritedTrials::Loaded {
  std::int64_t trial = 0;
  SuperNetwork network;
  std::string graph;  // id
  GraphModule module{nullptr};
  Batch windows;
  ScoringOptions options;
};

InheritedTrials::InheritedTrials() = default;
InheritedTrials::~InheritedTrials() = default;
void InheritedTrials::forget() { loaded_.reset(); }

void InheritedTrials::load(const TrainEvaluatorSetup& setup, const Trial& trial) {
  set_up_compute(setup.base.threads, choose_device(setup.base.device));
  auto loaded = std::make_unique<Loaded>();
  loaded->trial = trial.source;
  loaded->network = setup.space->super_network(trial.genotype);
  loaded->graph = graph_id(loaded->network.graph);
  loaded->module = GraphModule(loaded->network.graph, trial.seed);
  load_weights(source_weights(setup.run_folder, trial.source).string(), *loaded->module);
  const Extent3& patch = loaded->network.patch;
  loaded->windows = make_windows(find_cases(*setup.cache, setup.cases.inner_validation),
                                 scoring_windows(patch, trial.seed));
  loaded->options = scoring_options(setup, setup.base, patch, loaded->network.graph);
  loaded_ = std::move(loaded);
}

std::vector<Evaluation> InheritedTrials::score(const TrainEvaluatorSetup& setup,
                                               const std::vector<Trial>& trials,
                                               const TrialContext& context) {
  const std::int64_t source = trials.front().source;
  if (!loaded_ || loaded_->trial != source) load(setup, trials.front());

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
    return late || clock.aborted() || stop_requested();
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
