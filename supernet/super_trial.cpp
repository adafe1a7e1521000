// SPDX-License-Identifier: Apache-2.0
#include "supernet/super_trial.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <vector>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/log.h"
#include "nas/core/rng.h"
#include "nas/core/run_folder.h"
#include "nas/core/stop.h"
#include "nas/network/safetensors.h"
#include "supernet/gene_decisions.h"
#include "supernet/inherited_scores.h"
#include "supernet/inherited_trials.h"
#include "supernet/search/uniform_path.h"
#include "supernet/super_training.h"
#include "training/data/time_model.h"
#include "training/fit/fit.h"
#include "training/model/device_memory.h"
#include "training/model/weights.h"
#include "training/trial_run.h"

namespace nas {
namespace {

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

std::string mean_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4f", value);
  return text;
}

/// Records how a super-network's training went. \returns whether the trial ends with it: its loss
/// was not finite, it stopped, or the clock ended it before it had learnt anything.
bool ends_with_training(const SuperReport& report,
                        const TrialClock& clock,
                        bool differentiable,
                        std::int64_t wanted_steps,
                        Evaluation& evaluation) {
  evaluation.steps = report.fit.steps;
  evaluation.metrics["learning_rate_at_end"] = report.fit.learning_rate;
  evaluation.metrics["train_seconds"] = report.fit.seconds;
  evaluation.metrics["wait_seconds"] = report.fit.wait_seconds;
  evaluation.metrics["skipped_steps"] = static_cast<double>(report.fit.skipped);
  if (report.fit.status == "nan") {
    evaluation.status = TrialStatus::Nan;
    evaluation.message = concat_text("the loss was not finite after step ", report.fit.steps);
    return true;
  }
  if (differentiable && report.alpha_steps == 0 && report.fit.status == "done") {
    evaluation.status = TrialStatus::Timeout;
    evaluation.message = "the time was up before the first alpha step";
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

/// Scores paths on fixed windows of the inner validation cases: their mean becomes the trial's score.
/// Nothing, with status and message set, if there is none.
std::optional<ScoringReport> score_drawn_paths(const TrainEvaluatorSetup& setup,
                                               const Trial& trial,
                                               const SuperNetwork& open,
                                               GraphModule& network,
                                               const std::vector<std::vector<int>>& paths,
                                               Evaluation& evaluation) {
  const Batch windows = make_windows(find_cases(*setup.cache, setup.cases.inner_validation),
                                     scoring_windows(open.patch, trial.seed));
  ScoringOptions scoring = scoring_options(setup, setup.base, open.patch, open.graph);
  scoring.should_stop = stop_requested;
  ScoringReport scores = score_paths(network, paths, windows, scoring);
  if (scores.stopped) {
    evaluation.status = TrialStatus::Stopped;
    return std::nullopt;
  }
  double sum = 0;
  for (const PathScore& score : scores.scores) sum += score.score;
  evaluation.score = sum / static_cast<double>(scores.scores.size());
  if (!std::isfinite(evaluation.score)) {
    const bool finite = std::ranges::all_of(scores.scores, &PathScore::finite);
    evaluation.score = 0;
    evaluation.status = finite ? TrialStatus::Failed : TrialStatus::Nan;
    evaluation.message = finite ? kNotScored : kNotFinite;
    return std::nullopt;
  }
  return scores;
}

}  // namespace

SuperOptions request_of(const std::string& request, const std::string& where) {
  return super_options_from_json(request.empty() ? Json::object() : parse_json(request, where),
                                 where);
}

Evaluation train_super_trial(const TrainEvaluatorSetup& setup,
                             const Trial& trial,
                             const TrialContext& context,
                             const std::function<double(std::int64_t paths)>& scoring_seconds,
                             const std::function<void()>& before_saving) {
  TrialClock clock(trial, context);
  Evaluation evaluation;
  const SuperOptions super = request_of(trial.request, concat_text("request of trial ", trial.id));
  const bool differentiable = super.method == "differentiable";
  const SuperNetwork open = setup.space->super_network(trial.genotype);
  const std::vector<Decision> decisions = gene_decisions(*setup.space, open);
  const std::string where = concat_text("settings of trial ", trial.id);
  const TrainOptions options = train_options_from_json(parse_json(trial.settings, where), where);
  const DeviceMemory memory(options.device, trial.alone);
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
    clock.set_reserve(2 * kStartSeconds + scoring_seconds(differentiable ? 1 : kPathsOfAScore));
  }
  FitHooks hooks;
  // As for every training that counts: the clock decides when its rate begins to fall.
  const bool open_end = trial.seconds_limit > 0 && options.schedule == "wsd";
  hooks.should_stop = [&] { return clock.poll() && (!open_end || clock.aborted()); };
  if (open_end) hooks.seconds_left = [&] { return clock.seconds_left(); };
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
  const std::optional<ScoringReport> scores =
      score_drawn_paths(setup, trial, open, network, paths, evaluation);
  if (!scores) return evaluation;
  evaluation.metrics["scoring_seconds"] = scores->seconds;
  evaluation.how = how_text(
      super, report, options.batch, scoring_windows(open.patch, trial.seed).count, warm_start);
  details["merged_pairs"] = report.merged_pairs;
  details["merged_choices"] = report.merged_choices;
  details["choices"] = report.choices;
  evaluation.details = details.dump();
  before_saving();
  save_weights((context.folder / kWeightsFile).string(), *network);
  evaluation.status = TrialStatus::Done;
  std::error_code ignored;
  std::filesystem::remove(RunFolder::checkpoint(context.folder), ignored);
  log_info("super-network: ", evaluation.how, ", Dice ", mean_text(evaluation.score));
  return evaluation;
}

}  // namespace nas
