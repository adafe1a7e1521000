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
#include "nas/core/stopwatch.h"
#include "nas/core/stop.h"
#include "nas/jobs/mirroring.h"
#include "nas/jobs/prepare.h"
#include "nas/jobs/run_lock.h"
#include "nas/network/output_region.h"
#include "search_spaces/network_file.h"
#include "search_spaces/planned_unet/unet.h"
#include "training/data/tensorboard.h"
#include "training/data/time_model.h"
#include "training/fit/fit.h"
#include "training/fit/probe.h"
#include "training/inference/evaluate_cases.h"
#include "training/inference/predict.h"
#include "training/model/device.h"
#include "training/model/model_folder.h"
#include "training/model/weights.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

/// Everything that a run needs to go on: RUN/training.json.
struct TrainRun {
  std::string data;
  int fold = 0;  // -1: all cases train
  std::string configuration;
  DataOptions how;
  double budget_seconds = 0;
  TrainOptions options;
  Json transfer;     // weights to start from, and how many fitted; null without
  Json mirroring;    // how it was decided (MirrorCheck); null where there was nothing to decide
  Json data_record;  // what the data set was (data_record()); null in runs of before
};

Json to_json(const TrainRun& run) {
  Json json{{"format", "voxnas.training"},
            {"version", 1},
            {"data", run.data},
            {"fold", run.fold},
            {"configuration", run.configuration},
            {"budget_seconds", run.budget_seconds},
            {"options", to_json(run.options)},
            {"transfer", run.transfer},
            {"mirroring", run.mirroring},
            {"data_record", run.data_record}};
  add_data_options(json, run.how);
  return json;
}

TrainRun read_run(const fs::path& file) {
  const Json json = read_json(file);
  const JsonReader reader(json, file.string());
  NAS_CHECK(reader.at("version").integer() == 1,
            file.string(),
            ": expected version 1, found ",
            reader.at("version").integer());
  TrainRun run;
  run.data = reader.at("data").text();
  run.fold = static_cast<int>(reader.at("fold").integer(-1, 1 << 20));
  run.configuration = reader.at("configuration").text();
  run.how = data_options_from_json(reader);
  run.budget_seconds = reader.at("budget_seconds").number();
  run.options = train_options_from_json(reader.at("options").json(), file.string() + ": options");
  if (reader.has("transfer")) run.transfer = reader.at("transfer").json();
  if (reader.has("mirroring")) run.mirroring = reader.at("mirroring").json();
  if (reader.has("data_record")) run.data_record = reader.at("data_record").json();
  return run;
}

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
  TrainRun run = read_run(folder.training_record());
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

struct ChosenNetwork {
  Graph graph;
  Extent3 patch{0, 0, 0};  // voxels
};

/// The network called `name` (empty: the planned one) for the data set's channels and classes, and
/// its patch: `asked` if given, else the planned one, enlarged where the network does not take it.
ChosenNetwork choose_network(const std::string& name,
                             const Configuration& planned,
                             const DataSet& data,
                             const std::optional<Extent3>& asked,
                             const std::string& options_name) {
  ChosenNetwork chosen{{}, asked.value_or(planned.patch)};
  NetworkFileOptions options{.configuration = planned.name,
                             .channels = static_cast<std::int64_t>(data.channel_names.size()),
                             .classes = data.labels.outputs(),
                             .patch = chosen.patch,
                             .adapt = true};
  bool adapted = false;
  const auto load = [&] {
    if (name.empty()) {
      chosen.graph = make_unet(planned.architecture);
      return;
    }
    NetworkFile loaded = load_network(name, options);
    adapted = loaded.adapted;
    chosen.graph = std::move(loaded.graph);
  };
  load();
  if (!asked) {
    chosen.patch = fitting_patch(chosen.graph, planned.patch);
    if (chosen.patch != planned.patch) {
      log_info(name,
               " does not take the planned patch of ",
               to_text(planned.patch),
               " voxels; trained with ",
               to_text(chosen.patch));
      options.patch = chosen.patch;
      load();  // layers may depend on the patch
    }
  }
  if (adapted) {
    log_info(name,
             ": first and last layers adapted to ",
             options.channels,
             options.channels == 1 ? " channel and " : " channels and ",
             options.classes,
             " classes");
  }
  if (const auto fits = asked ? fitting_patch(chosen.graph, *asked) : chosen.patch;
      fits != chosen.patch) {
    fail(ErrorKind::Usage,
         options_name,
         ": patch: expected a size that ",
         name.empty() ? "the planned network" : name,
         " takes, as ",
         to_text(fits),
         ", found ",
         to_text(chosen.patch));
  }
  output_region(chosen.graph, chosen.patch);  // refuses what cannot be trained
  return chosen;
}

/// The patch that the given options ask for.
std::optional<Extent3> asked_patch(const TrainJob& job) {
  if (job.options.empty()) return std::nullopt;
  const Json json = parse_json(job.options, job.options_name);
  if (!JsonReader(json, job.options_name).has("patch")) return std::nullopt;
  return train_options_from_json(json, job.options_name).patch;
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

/// The options of a new run, the seconds that are kept back for scoring, and how mirroring was
/// decided (null: there was nothing to decide).
struct PlannedTraining {
  TrainOptions options;
  double reserve = 0;
  Json mirroring;
};

/// `planned` with what the user asks for.
TrainOptions with_asked(const TrainJob& job, const TrainOptions& planned) {
  if (job.options.empty()) return planned;
  return train_options_from_json(
      parse_json(job.options, job.options_name), job.options_name, planned);
}

/// The training cases divided for a look at mirroring; empty if there are fewer than two.
InnerSplit inner_split(const Split& split, std::uint64_t seed) {
  constexpr double kShare = 0.2;
  if (split.train.size() < 2) return {};
  return draw_inner_validation(split.train, kShare, seed);
}

PlannedTraining plan_run(const TrainJob& job,
                         const Prepared& prepared,
                         const Configuration& configuration,
                         const Graph& graph,
                         const Stopwatch& watch) {
  PlannedTraining planned;
  TrainBudget budget{.seconds = 0, .steps = job.steps};
  std::function<double(std::int64_t)> seconds_per_step;
  ProbeResult measured;
  if (job.budget_seconds > 0) {
    TrainOptions options = job.base;
    options.patch = configuration.patch;
    options.batch = kSmallestBatch;
    options.optimizer = kShortOptimizer;
    measured = probe(graph, options, prepared.data.labels);
    planned.reserve = unmeasured_scoring_seconds(
        scoring_work(
            prepared.cache, prepared.split.val, output_region(graph, configuration.patch).size),
        measured.seconds_per_forward);
    const double left = job.budget_seconds - watch.seconds() - planned.reserve;
    budget.seconds = kShareOfProbedTime * left;
    NAS_CHECK_KIND(Usage,
                   budget.seconds > measured.seconds_per_step,
                   "a budget of ",
                   format_duration(job.budget_seconds),
                   " buys no training: preparing took ",
                   format_duration(watch.seconds()),
                   ", scoring will take ",
                   format_duration(planned.reserve),
                   ", a step takes ",
                   format_duration(measured.seconds_per_step));
    seconds_per_step = [measured](std::int64_t batch) {
      return step_seconds_at_batch({{kSmallestBatch, measured.seconds_per_step}}, batch);
    };
    log_info("measured: ",
             format_duration(measured.seconds_per_step),
             " a step of batch ",
             kSmallestBatch,
             ", ",
             format_bytes(static_cast<double>(measured.peak_bytes)),
             " of memory");
  }
  const auto plan = [&] {
    return with_asked(job,
                      plan_training(configuration,
                                    static_cast<std::int64_t>(prepared.split.train.size()),
                                    budget,
                                    seconds_per_step,
                                    job.base));
  };
  planned.options = plan();
  const bool asked =
      !job.options.empty() && parse_json(job.options, job.options_name).contains("mirror");
  if (!planned.options.mirror || asked) return planned;

  const InnerSplit inner = inner_split(prepared.split, job.base.seed);
  const Extent3 tile = output_region(graph, configuration.patch).size;
  const double before = watch.seconds();
  const MirrorCheck check = decide_mirroring(
      {.graph = &graph,
       .cache = &prepared.cache,
       .cases = inner,
       .configuration = configuration,
       .planned = planned.options,
       .base = job.base,
       .adjust = [&](const TrainOptions& options) { return with_asked(job, options); },
       .seconds = budget.seconds,
       .step_seconds = seconds_per_step,
       .scoring_seconds = inner_scoring_seconds(
           scoring_work(prepared.cache, inner.validation, tile), measured.seconds_per_forward)});
  if (budget.seconds > 0) {  // what the look at it took is part of the budget
    budget.seconds -= watch.seconds() - before;
    planned.options = plan();
  }
  planned.options.mirror = check.mirror;
  planned.mirroring = to_json(check);
  return planned;
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
    ChosenNetwork chosen = choose_network(
        job.network, configuration, prepared.data, asked_patch(job), job.options_name);
    graph = std::move(chosen.graph);
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
  if (!job.resume && run.budget_seconds > 0) {
    hooks.should_stop = [&] { return watch.seconds() > run.budget_seconds - reserve; };
  }
  const FitReport report =
      fit(network, prepared.cache, split.train, options, {.folder = folder.path()}, hooks);
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
  save_model(folder.model(), model);
  Json result{{"status", report.status},
              {"steps", report.steps},
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
