// SPDX-License-Identifier: Apache-2.0
#include "training/train_evaluator.h"

#include <torch/torch.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <new>
#include <nlohmann/json.hpp>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/log.h"
#include "nas/core/progress.h"
#include "nas/core/rng.h"
#include "nas/core/threads.h"
#include "nas/imaging/metrics.h"
#include "nas/network/safetensors.h"
#include "nas/search/budget.h"
#include "training/data/sliding_window.h"
#include "training/fit/fit.h"
#include "training/inference/evaluate_cases.h"
#include "training/inference/predict.h"
#include "training/model/device.h"
#include "training/model/graph_module.h"
#include "training/model/model_folder.h"
#include "training/model/weights.h"

namespace nas {
namespace {

constexpr double kProbeMargin = 1.03;  // a step of training takes as long as a probed one, nearly

using SteadyClock = std::chrono::steady_clock;

double seconds_since(SteadyClock::time_point start) {
  return std::chrono::duration<double>(SteadyClock::now() - start).count();
}

/// Bytes that the machine can still give away; 0 if unknown.
std::int64_t available_bytes() {
  std::ifstream in("/proc/meminfo");
  std::string key, unit;
  for (std::int64_t kilobytes = 0; in >> key >> kilobytes; std::getline(in, unit)) {
    if (key == "MemAvailable:") return kilobytes * 1024;
  }
  return 0;
}

bool says_out_of_memory(const std::string& text) {
  for (const char* phrase : {"out of memory",
                             "can't allocate memory",
                             "not enough memory",
                             "CUDNN_STATUS_ALLOC_FAILED",
                             "CUBLAS_STATUS_ALLOC_FAILED"}) {
    if (text.find(phrase) != std::string::npos) return true;
  }
  return false;
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

PredictOptions predict_options(const TrainOptions& options) {
  PredictOptions result;
  result.device = options.device;
  result.precision = options.precision;
  result.threads = options.threads;
  return result;
}

std::int64_t windows_of(const Extent3& shape, const Extent3& patch) {
  Extent3 padded{};
  for (std::size_t i = 0; i < 3; ++i) padded[i] = std::max(shape[i], patch[i]);
  std::int64_t count = 1;
  for (const auto& axis : window_starts(padded, patch, PredictOptions{}.step)) {
    count *= static_cast<std::int64_t>(axis.size());
  }
  return count;
}

/// Dice per foreground class of one case on the preprocessed grid.
CaseMetrics score_cached_case(GraphModule& network,
                              const CachedCase& item,
                              std::int64_t classes,
                              const Extent3& patch,
                              const PredictOptions& options) {
  Image image;
  image.geometry.shape = item.shape;
  image.channels = item.channels;
  const std::int64_t voxels = volume(item.shape);
  image.voxels.assign(item.image, item.image + item.channels * voxels);
  const at::Tensor logits = predict_logits(network, image, patch, options);
  const at::Tensor winner = logits.argmax(0).to(at::kShort).contiguous();
  LabelMap prediction, reference;
  prediction.geometry.shape = reference.geometry.shape = item.shape;
  const auto* labels = winner.const_data_ptr<std::int16_t>();
  prediction.voxels.assign(labels, labels + voxels);
  reference.voxels.assign(item.label, item.label + voxels);
  CaseMetrics metrics = compute_metrics(prediction, reference, classes - 1, {.distances = false});
  metrics.id = item.id;
  return metrics;
}

/// Score, Dice per class and details. The score is NaN where no class is there or predicted.
void add_metrics(Evaluation& evaluation,
                 const std::vector<CaseMetrics>& cases,
                 const std::vector<std::string>& label_names) {
  const MetricMeans means = mean_metrics(cases);
  evaluation.score = means.foreground.dice.value_or(NAN);
  evaluation.details = metrics_json(cases, label_names).dump();
  for (std::size_t k = 0; k < means.classes.size(); ++k) {
    if (const auto& dice = means.classes[k].dice)
      evaluation.metrics["dice/" + label_names.at(k + 1)] = *dice;
  }
}

}  // namespace

CaseSelection select_cases(const Split& fold, double share, std::uint64_t seed) {
  NAS_CHECK(fold.train.size() >= 2,
            "fold: a search needs at least 2 training cases (one to learn, one to validate), "
            "found ",
            fold.train.size());
  NAS_CHECK(!fold.val.empty(), "fold: expected at least one held-out case, found none");
  CaseSelection cases;
  cases.training = fold.train;
  cases.held_out = fold.val;
  std::vector<std::string> shuffled = fold.train;
  Rng rng = Rng(seed).split("inner validation");
  rng.shuffle(shuffled);
  const auto n = static_cast<std::int64_t>(shuffled.size());
  const auto wanted = std::llround(share * static_cast<double>(n));
  const auto count = static_cast<std::ptrdiff_t>(
      std::clamp<std::int64_t>(wanted, 1, std::min(kMostValidation, n - 1)));
  cases.inner_validation.assign(shuffled.begin(), shuffled.begin() + count);
  cases.inner_training.assign(shuffled.begin() + count, shuffled.end());
  std::sort(cases.inner_validation.begin(), cases.inner_validation.end());
  std::sort(cases.inner_training.begin(), cases.inner_training.end());
  return cases;
}

Json to_json(const CaseSelection& cases) {
  return {{"training", cases.training},
          {"inner_training", cases.inner_training},
          {"inner_validation", cases.inner_validation},
          {"held_out", cases.held_out}};
}

CaseSelection case_selection_from_json(const Json& value, const std::string& where) {
  const JsonReader reader(value, where);
  return {reader.at("training").texts(),
          reader.at("inner_training").texts(),
          reader.at("inner_validation").texts(),
          reader.at("held_out").texts()};
}

std::filesystem::path source_weights(const std::filesystem::path& run_folder, std::int64_t trial) {
  const std::filesystem::path file = run_folder / "trials" / std::to_string(trial) / kWeightsFile;
  NAS_CHECK(std::filesystem::is_regular_file(file),
            file.string(),
            ": the weights of trial ",
            trial,
            ", which another one starts from, are not there");
  return file;
}

std::string warm_start_from_source(GraphModuleImpl& network,
                                   const std::filesystem::path& run_folder,
                                   const Trial& trial) {
  if (trial.source == 0) return "";
  const WeightTransfer transfer =
      load_narrower_weights(source_weights(run_folder, trial.source).string(), network);
  return concat_text(
      ", warm-started from trial ",
      trial.source,
      ": ",
      transfer.copied.size(),
      " of ",
      transfer.copied.size() + transfer.own_start.size(),
      " tensors",
      transfer.widened ? concat_text(", ", transfer.widened, " of them widened") : "");
}

TrainEvaluator::TrainEvaluator(TrainEvaluatorSetup setup) : setup_(std::move(setup)) {}

Phenotype TrainEvaluator::build(const Genotype& genotype) const {
  Phenotype phenotype = setup_.space->build(genotype);
  if (volume(phenotype.patch) == 0) phenotype.patch = setup_.configuration.patch;
  return phenotype;
}

TrialCost TrainEvaluator::describe(const Genotype& genotype) {
  const Phenotype phenotype = build(genotype);
  const std::int64_t batch = std::min<std::int64_t>(setup_.configuration.batch, 4);
  TrialCost cost;
  cost.graph_id = graph_id(phenotype.graph);
  cost.parameters = total_cost(phenotype.graph, phenotype.patch).parameters;
  cost.macs = total_cost(first_output_only(phenotype.graph), phenotype.patch).macs;
  cost.memory_bytes = training_memory_bytes(phenotype.graph, phenotype.patch, batch, 4, 2);
  return cost;
}

const TrainEvaluator::Speed& TrainEvaluator::measure(const Genotype& genotype, std::int64_t batch) {
  Speed& speed = speeds_[genotype];
  if (!speed.probed.contains(batch)) {
    const Phenotype phenotype = build(genotype);
    TrainOptions options = setup_.base;
    options.optimizer = kShortOptimizer;
    options.patch = phenotype.patch;
    options.batch = batch;
    options.deep_supervision = setup_.configuration.architecture.deep_supervision;
    const ProbeResult result = nas::probe(phenotype.graph, options, std::exchange(probe_steps_, 2));
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
  // In proportion to the samples from the nearest measured batch below: never too fast.
  const auto below = std::prev(speed.probed.upper_bound(std::max(batch, kSmallestBatch)));
  return in_training(below->second, below->first) * static_cast<double>(batch) /
         static_cast<double>(below->first);
}

double TrainEvaluator::in_training(double probed, std::int64_t batch) const {
  return kProbeMargin * probed + sample_seconds_ * static_cast<double>(batch);
}

double TrainEvaluator::forward_seconds(const Genotype& genotype) {
  return measure(genotype, kSmallestBatch).forward_seconds;
}

void TrainEvaluator::probe_again(int steps) {
  speeds_.clear();
  scoring_seconds_ = -1;
  probe_steps_ = steps;
}

void TrainEvaluator::measure_scoring() {
  if (scoring_seconds_ >= 0) return;
  // One training case through the whole evaluation, with an untrained network: its shreds are
  // harder to score than a sensible result, so this does not promise too much.
  const Genotype baseline = setup_.space->baseline();
  const double forward = measure(baseline, kSmallestBatch).forward_seconds;
  const Phenotype phenotype = build(baseline);
  Model model;
  model.network = GraphModule(phenotype.graph, 1);
  model.preprocessing = setup_.preprocessing;
  const std::string& id = setup_.cases.training.front();
  const auto start = SteadyClock::now();
  evaluate_cases(model, *setup_.data, {id}, predict_options(setup_.base), {}, false);
  const double windows =
      static_cast<double>(windows_of(setup_.cache->find(id).shape, phenotype.patch));
  scoring_seconds_ = std::max(0.02, seconds_since(start) - windows * forward);
}

double TrainEvaluator::evaluation_seconds(const Genotype& genotype, TrialPurpose purpose) {
  const double forward = measure(genotype, kSmallestBatch).forward_seconds;
  const Extent3 patch = build(genotype).patch;
  const bool search = purpose == TrialPurpose::Search;
  double seconds = 0.5;  // building the network, writing files
  for (const std::string& id : search ? setup_.cases.inner_validation : setup_.cases.held_out) {
    seconds += forward * static_cast<double>(windows_of(setup_.cache->find(id).shape, patch));
  }
  if (search) return seconds * 1.15;
  measure_scoring();
  for (const std::string& id : setup_.cases.inner_validation) {
    seconds += forward * static_cast<double>(windows_of(setup_.cache->find(id).shape, patch));
  }
  return (seconds + scoring_seconds_ * static_cast<double>(setup_.cases.held_out.size())) * 1.1;
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
  const auto start = SteadyClock::now();
  const Phenotype phenotype = build(trial.genotype);
  Configuration configuration = setup_.configuration;
  configuration.patch = phenotype.patch;
  TrainOptions base = setup_.base;
  base.seed = trial.seed;
  const auto cases = static_cast<std::int64_t>(setup_.cases.inner_training.size());
  TrainOptions options;
  if (trial.steps > 0) {
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
      const double training = (trial.seconds_limit - seconds_since(start)) * kStepMargin - scoring;
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
  if (phenotype.training.is_object() && !phenotype.training.empty()) {
    options = adjust_train_options(
        phenotype.training, "training settings of " + trial.genotype_text, options);
  }
  return {options.steps, to_json(options).dump()};
}

Evaluation survive(const std::function<Evaluation()>& run) {
  const auto start = SteadyClock::now();
  Evaluation evaluation;
  try {
    evaluation = run();
  } catch (const std::bad_alloc& error) {
    evaluation.status = TrialStatus::OutOfMemory;
    evaluation.message = error.what();
  } catch (const c10::Error& error) {
    evaluation.message = first_line(error.what_without_backtrace());
    evaluation.status =
        says_out_of_memory(evaluation.message) ? TrialStatus::OutOfMemory : TrialStatus::Failed;
  } catch (const Error& error) {
    if (!stop_requested()) throw;
    evaluation.status = TrialStatus::Stopped;
    evaluation.message = error.what();
  }
  evaluation.seconds = seconds_since(start);
  return evaluation;
}

std::string lacks_memory(const std::string& device, std::int64_t forecast_bytes) {
  if (!choose_device(device).is_cpu()) return "";
  const std::int64_t available = available_bytes();
  if (available <= 0 || forecast_bytes <= available) return "";
  return concat_text("forecast ",
                     format_bytes(static_cast<double>(forecast_bytes)),
                     ", available ",
                     format_bytes(static_cast<double>(available)));
}

TrialClock::TrialClock(const Trial& trial, const TrialContext& context)
    : trial_(trial), context_(context), start_(SteadyClock::now()), last_beat_(start_) {}

bool TrialClock::poll() {
  if (seconds_since(last_beat_) > 5) {
    last_beat_ = SteadyClock::now();
    if (context_.heartbeat) context_.heartbeat();
  }
  if (trial_.seconds_limit > 0) {
    time_is_up_ = seconds_since(start_) + reserve_ > trial_.seconds_limit ||
                  (context_.deadline > 0 && context_.clock() + reserve_ > context_.deadline);
  }
  return time_is_up_;
}

Evaluation TrainEvaluator::evaluate(const Trial& trial, const TrialContext& context) {
  return survive([&] { return run(trial, context); });
}

Evaluation TrainEvaluator::run(const Trial& trial, const TrialContext& context) {
  TrialClock clock(trial, context);
  Evaluation evaluation;
  const bool search = trial.purpose == TrialPurpose::Search;
  const Phenotype phenotype = build(trial.genotype);
  const std::string where = concat_text("settings of trial ", trial.id);
  const TrainOptions options =
      train_options_from_json(parse_json(trial.settings, where), where, setup_.base);

  const std::int64_t forecast =
      training_memory_bytes(phenotype.graph, options.patch, options.batch, 4, 2);
  if (evaluation.message = lacks_memory(options.device, forecast); !evaluation.message.empty()) {
    evaluation.status = TrialStatus::OutOfMemory;
    return evaluation;
  }

  GraphModule network(phenotype.graph, trial.seed);
  const std::string warm_start = warm_start_from_source(*network, setup_.run_folder, trial);
  FitFiles files;
  files.folder = context.folder;
  files.checkpoint_seconds = 60;
  files.tensorboard = true;
  files.show_progress = setup_.show_progress;
  files.label = search ? concat_text("trial ", trial.id) : "training the " + trial.label;
  if (trial.seconds_limit > 0) {
    clock.set_reserve(evaluation_seconds(trial.genotype, trial.purpose));
  }
  FitHooks hooks;
  hooks.should_stop = [&] { return clock.poll(); };
  const FitReport report =
      fit(network, *setup_.cache, setup_.cases.inner_training, options, files, hooks);
  evaluation.steps = report.steps;
  evaluation.how = concat_text(report.steps,
                               " steps of batch ",
                               options.batch,
                               search ? ", inner validation" : ", held-out cases",
                               warm_start);
  evaluation.metrics["train_seconds"] = report.seconds;
  evaluation.metrics["wait_seconds"] = report.wait_seconds;
  evaluation.metrics["skipped_steps"] = static_cast<double>(report.skipped);
  if (!report.losses.empty()) {
    const auto last = report.losses.size() - std::min<std::size_t>(20, report.losses.size());
    double sum = 0;
    for (std::size_t i = last; i < report.losses.size(); ++i) sum += report.losses[i];
    evaluation.metrics["loss"] = sum / static_cast<double>(report.losses.size() - last);
  }
  if (report.status == "nan") {
    evaluation.status = TrialStatus::Nan;
    evaluation.message = concat_text("the loss was not finite after step ", report.steps);
    return evaluation;
  }
  if (report.status == "stopped") {
    if (!clock.time_is_up() || report.steps == 0) {
      evaluation.status = clock.time_is_up() ? TrialStatus::Timeout : TrialStatus::Stopped;
      return evaluation;
    }
    evaluation.metrics["stopped_by_time"] = 1;
    evaluation.message =
        concat_text("stopped by the clock after ", report.steps, " of ", options.steps, " steps");
  }
  if (trial.seconds_limit > 0 && trial.attempt == 1 && report.steps >= 10) {
    // A whole training knows its speed better than a probe of two steps.
    Speed& speed = speeds_[trial.genotype];
    const double trained = report.seconds / static_cast<double>(report.steps);
    speed.trained[options.batch] = trained;
    if (const auto probed = speed.probed.find(options.batch); probed != speed.probed.end()) {
      const double more =
          (trained - kProbeMargin * probed->second) / static_cast<double>(options.batch);
      sample_seconds_ = std::max(0.0, 0.5 * (sample_seconds_ + more));
    }
  }

  const PredictOptions prediction = predict_options(options);
  const auto scoring_start = SteadyClock::now();
  try {
    std::vector<CaseMetrics> inner;
    for (const std::string& id : setup_.cases.inner_validation) {
      inner.push_back(score_cached_case(
          network, setup_.cache->find(id), setup_.cache->classes(), options.patch, prediction));
    }
    if (search) {
      add_metrics(evaluation, inner, setup_.preprocessing.label_names);
      if (!std::isfinite(evaluation.score)) {
        evaluation.status = TrialStatus::Failed;
        evaluation.message = kNotScored;
        return evaluation;
      }
    } else {
      if (const auto dice = mean_metrics(inner).foreground.dice)
        evaluation.metrics["inner_dice"] = *dice;
      Model model;
      model.network = network;
      model.preprocessing = setup_.preprocessing;
      model.preprocessing.patch = options.patch;
      save_model(setup_.run_folder / trial.label, model);
      const auto cases = evaluate_cases(model,
                                        *setup_.data,
                                        setup_.cases.held_out,
                                        prediction,
                                        setup_.run_folder / "predictions" / trial.label,
                                        setup_.show_progress);
      add_metrics(evaluation, cases, setup_.preprocessing.label_names);
    }
  } catch (const Error& error) {
    if (stop_requested() || error.kind() != ErrorKind::Input) throw;
    evaluation.status = TrialStatus::Nan;  // e.g. the network's output is not finite
    evaluation.message = error.what();
    return evaluation;
  }
  evaluation.metrics["scoring_seconds"] = seconds_since(scoring_start);
  evaluation.status = TrialStatus::Done;
  std::error_code ignored;  // the weights of a search trial are not needed again
  std::filesystem::remove(context.folder / "checkpoint.pt", ignored);
  return evaluation;
}

}  // namespace nas
