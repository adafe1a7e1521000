// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/train_job.h"

#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/log.h"
#include "nas/core/quantity.h"
#include "nas/core/run_folder.h"
#include "nas/core/stop.h"
#include "nas/core/stopwatch.h"
#include "nas/jobs/leading/run_lock.h"
#include "nas/jobs/plan_training_run.h"
#include "nas/jobs/prepare.h"
#include "training/data/tensorboard.h"
#include "training/fit/fit.h"
#include "training/inference/evaluate_cases.h"
#include "training/inference/predict.h"
#include "training/model/device.h"
#include "training/model/model_folder.h"
#include "training/model/script_file.h"
#include "training/model/weights.h"
#include "training/settings/plan_training.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

TrainRun new_run(const TrainJob& job) {
  choose_precision(job.base.precision, choose_device(job.base.device));  // fails before any work
  TrainRun run;
  run.data = fs::absolute(job.data).lexically_normal().string();
  run.fold = job.fold;
  run.configuration = job.configuration;
  run.how = job.how;
  run.budget_seconds = job.budget_seconds;
  if (job.weights) {
    const fs::path file = fs::absolute(fs::path(job.network) / "weights.safetensors");
    NAS_CHECK_KIND(Usage,
                   fs::is_regular_file(file),
                   "--weights: expected --network to be a model folder with weights.safetensors, "
                   "got ",
                   job.network);
    run.transfer = {{"weights", file.string()}};
  }
  return run;
}

/// The recorded run, whose data set may have moved to `job.data`.
TrainRun resumed_run(const TrainJob& job, const RunFolder& folder) {
  NAS_CHECK_KIND(Usage,
                 is_training_run(folder.path()),
                 folder.training_record().string(),
                 ": expected the record of a run to go on with, found nothing");
  check_resumed_training(job);
  TrainRun run = read_train_run(folder.training_record());
  if (!job.data.empty()) run.data = fs::absolute(job.data).lexically_normal().string();
  check_data_is_there(run.data, "voxnas train DATA --resume -o " + folder.text());
  return run;
}

/// Data set -> fingerprint -> plan -> cache.
Prepared prepare(const TrainRun& run, const TrainJob& job, const RunFolder& folder) {
  const PrepareOptions options{.data = run.data,
                               .fold = run.fold,
                               .configuration = run.configuration,
                               .how = run.how,
                               .threads = job.base.threads};
  std::optional<Fingerprint> known;
  if (job.resume && fs::exists(folder.fingerprint())) {
    known = fingerprint_from_json(read_json(folder.fingerprint()), folder.fingerprint().string());
  }
  Prepared prepared =
      run.data_record.is_null() ? open_fold(options) : open_same_data(options, run.data_record);
  plan_fold(prepared, options, known);
  if (!known) write_json(folder.fingerprint(), to_json(prepared.fingerprint));
  open_cache(prepared, options);
  return prepared;
}

void log_task(const Prepared& prepared, const Graph& graph, const Extent3& patch) {
  const Cost cost = total_cost(first_output_only(graph), patch);
  log_info(prepared.data.name,
           ": ",
           prepared.split.train.size(),
           " cases train, ",
           prepared.split.val.size(),
           " are held out; network of ",
           format_count(static_cast<double>(cost.parameters)),
           " parameters, ",
           format_count(static_cast<double>(cost.macs)),
           " MACs a patch of ",
           to_text(patch));
}

void log_options(const TrainOptions& options, const Split& split) {
  log_info("training: ",
           options.steps,
           options.steps == 1 ? " step of batch " : " steps of batch ",
           options.batch,
           ", ",
           options.optimizer,
           " at ",
           options.learning_rate,
           " (",
           options.schedule,
           "), augmentation ",
           options.augmentation,
           options.mirror ? " with mirroring" : "",
           split.val.empty() ? "" : "; then scoring of the held-out cases");
}

/// Starts `network` from the weights that the run names; says in run.transfer how many fitted.
void transfer_weights(TrainRun& run, GraphModule& network) {
  if (!run.transfer.contains("weights")) return;
  const std::string file = run.transfer.at("weights");
  const WeightTransfer transfer = load_matching_weights(file, *network);
  NAS_CHECK(!transfer.copied.empty(),
            file,
            ": expected weights of this architecture, found no tensor whose name and shape agree");
  log_info("weights: ",
           transfer.copied.size(),
           " tensors of ",
           file,
           "; ",
           transfer.own_start.size(),
           " others start anew");
  run.transfer["tensors_copied"] = transfer.copied.size();
  run.transfer["own_start"] = transfer.own_start;
}

/// Scores the held-out cases: predictions, metrics.json, an event file.
std::vector<CaseMetrics> score_held_out(Model& model,
                                        const Prepared& prepared,
                                        const TrainOptions& options,
                                        const RunFolder& folder,
                                        std::int64_t steps,
                                        Json& result) {
  PredictOptions predict;
  predict.device = options.device;
  predict.precision = options.precision;
  predict.threads = options.threads;
  const std::vector<CaseMetrics> cases =
      evaluate_cases(model, prepared.data, prepared.split.val, predict, folder.predictions());
  const std::vector<std::string>& labels = prepared.data.labels.names;
  const Json metrics = metrics_json(cases, labels);
  write_json(folder.metrics(), metrics);
  result["metrics"] = metrics;
  EventWriter events(folder.path());
  const MetricMeans means = mean_metrics(cases);
  for (std::size_t k = 0; k < means.classes.size(); ++k) {
    if (const auto& dice = means.classes[k].dice) {
      events.scalar("held_out/dice_" + std::to_string(k + 1), *dice, steps);
    }
  }
  if (const auto& dice = means.foreground.dice) events.scalar("held_out/dice", *dice, steps);
  events.flush();
  log_info("held-out cases: mean foreground Dice ",
           dice_text(means.foreground.dice),
           " (",
           folder.metrics().string(),
           ")");
  return cases;
}

}  // namespace

bool is_training_run(const fs::path& run_folder) {
  return fs::exists(RunFolder(run_folder).training_record());
}

void check_new_training(const TrainJob& job) {
  NAS_CHECK_KIND(Usage, !job.data.empty(), "expected DATA, a data set folder");
  NAS_CHECK_KIND(Usage,
                 (job.budget_seconds > 0) != (job.steps > 0),
                 "expected either --budget TIME or --steps N");
  check_writable(job.run_folder);
}

void check_resumed_training(const TrainJob& job) {
  NAS_CHECK_KIND(
      Usage,
      job.steps == 0 && job.budget_seconds == 0 && job.network.empty() && job.options.empty(),
      "--resume takes network, options and steps from the run; leave them out");
}

TrainOutcome train_network(const TrainJob& job) {
  const Stopwatch watch;
  const RunFolder folder(job.run_folder);
  TrainRun run;
  if (job.resume) {
    run = resumed_run(job, folder);
  } else {
    check_new_training(job);
    NAS_CHECK_KIND(Usage,
                   !is_training_run(folder.path()),
                   folder.text(),
                   ": holds a run already; go on with --resume or choose another folder");
    run = new_run(job);
  }
  const RunLock lock(folder);
  if (job.resume) remove_temporaries(folder.path());  // of killed writers
  Prepared prepared = prepare(run, job, folder);
  const Split& split = prepared.split;

  Configuration configuration = prepared.plan.configuration(run.configuration);
  Graph graph;
  double reserve = 0;  // seconds that scoring needs
  if (job.resume) {
    graph = read_graph(folder.network().string());
    configuration.patch = run.options.patch;
    log_task(prepared, graph, configuration.patch);
    write_json(folder.training_record(), to_json(run));  // where the data lie now
  } else {
    ChosenNetwork chosen = choose_network(job, configuration, prepared.data);
    graph = with_own_files(folder.path(), std::move(chosen.graph));
    configuration.patch = chosen.patch;
    write_graph(folder.network().string(), graph);
    log_task(prepared, graph, configuration.patch);
    PlannedTraining planned = plan_run(job, prepared, configuration, graph, watch);
    run.options = std::move(planned.options);
    run.mirroring = std::move(planned.mirroring);
    reserve = planned.reserve;
    run.data_record = data_record(prepared);
    write_json(folder.training_record(), to_json(run));
  }
  const TrainOptions& options = run.options;
  log_options(options, split);

  GraphModule network(graph, options.seed);
  transfer_weights(run, network);  // also on a resume: there may be no checkpoint yet
  if (!job.resume && !run.transfer.is_null()) write_json(folder.training_record(), to_json(run));
  FitHooks hooks;
  FitFiles files;
  files.folder = folder.path();
  if (!job.resume && run.budget_seconds > 0) {
    const auto left = [&] { return run.budget_seconds - reserve - watch.seconds(); };
    if (options.schedule == "wsd") {
      hooks.seconds_left = left;  // decides when the rate begins to fall
    } else {
      hooks.should_stop = [left] { return left() < 0; };
    }
  }
  const FitReport report = fit(network, prepared.cache, split.train, options, files, hooks);
  NAS_CHECK(report.status != "nan",
            "training: the loss was not finite after step ",
            report.steps,
            "; try a lower learning_rate or precision fp32");
  if (stop_requested()) {
    log_info("stopped after ", report.steps, " steps");
    return {.stopped = true, .held_out = {}, .report = {}};
  }

  Model model{network, prepared.preprocessing};
  model.preprocessing.patch = options.patch;
  model.mirrored = mirrors_images(options);
  save_model(folder.model(), model);
  Json result{{"status", report.status},
              {"steps", report.steps},
              {"learning_rate_at_end", report.learning_rate},
              {"skipped_steps", report.skipped},
              {"training_seconds", report.seconds},
              {"wait_seconds", report.wait_seconds},
              {"model", folder.model().string()}};
  TrainOutcome outcome;
  if (!split.val.empty()) {
    outcome.held_out = score_held_out(model, prepared, options, folder, report.steps, result);
  }
  log_info("model: ", folder.model().string(), "; ", format_duration(watch.seconds()), " in all");
  outcome.report = result.dump(2);
  return outcome;
}

}  // namespace nas
