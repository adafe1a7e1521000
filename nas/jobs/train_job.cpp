// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/train_job.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/log.h"
#include "nas/core/progress.h"
#include "nas/core/threads.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/fingerprint.h"
#include "nas/network/output_region.h"
#include "nas/search/results_db.h"
#include "search_spaces/network_file.h"
#include "search_spaces/planned_unet/planner.h"
#include "search_spaces/planned_unet/unet.h"
#include "training/data/sliding_window.h"
#include "training/data/tensorboard.h"
#include "training/fit/fit.h"
#include "training/inference/evaluate_cases.h"
#include "training/inference/predict.h"
#include "training/model/device.h"
#include "training/model/model_folder.h"
#include "training/model/weights.h"

namespace nas {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr const char* kRecord = "training.json";
constexpr const char* kFoldsRecord = "folds.json";
constexpr const char* kNetwork = "network.json";

void check_new(const TrainJob& job) {
  NAS_CHECK_KIND(Usage, !job.data.empty(), "expected DATA, a data set folder");
  NAS_CHECK_KIND(Usage,
                 (job.budget_seconds > 0) != (job.steps > 0),
                 "expected either --budget TIME or --steps N");
  check_writable(job.run_folder);
}

void check_resume(const TrainJob& job) {
  NAS_CHECK_KIND(
      Usage,
      job.steps == 0 && job.budget_seconds == 0 && job.network.empty() && job.options.empty(),
      "--resume takes network, options and steps from the run; leave them out");
}

/// Everything that a run needs to go on: RUN/training.json.
struct TrainRun {
  std::string data;
  int fold = 0;  // -1: all cases train
  std::string configuration, planner;
  double budget_seconds = 0;
  TrainOptions options;
  Json transfer;  // weights to start from, and how many fitted; null without
};

Json to_json(const TrainRun& run) {
  return {{"format", "voxnas.training"},
          {"version", 1},
          {"data", run.data},
          {"fold", run.fold},
          {"configuration", run.configuration},
          {"planner", run.planner},
          {"budget_seconds", run.budget_seconds},
          {"options", to_json(run.options)},
          {"transfer", run.transfer}};
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
  run.planner = reader.at("planner").text();
  run.budget_seconds = reader.at("budget_seconds").number();
  run.options = train_options_from_json(reader.at("options").json(), file.string() + ": options");
  if (reader.has("transfer")) run.transfer = reader.at("transfer").json();
  return run;
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
                             const std::optional<Extent3>& asked) {
  ChosenNetwork chosen{{}, asked.value_or(planned.patch)};
  NetworkFileOptions options{.configuration = planned.name,
                             .channels = static_cast<std::int64_t>(data.channel_names.size()),
                             .classes = static_cast<std::int64_t>(data.label_names.size()),
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

/// Seconds that scoring `ids` will take: windows of `tile` voxels at the measured speed, and
/// reading and metrics.
double evaluation_seconds(const CaseCache& cache,
                          const std::vector<std::string>& ids,
                          const Extent3& tile,
                          double forward_seconds) {
  double windows = 0, voxels = 0;
  for (const std::string& id : ids) {
    const Extent3& shape = cache.find(id).shape;
    Extent3 padded{};
    for (std::size_t a = 0; a < 3; ++a) padded[a] = std::max(shape[a], tile[a]);
    double count = 1;
    for (const auto& axis : window_starts(padded, tile, PredictOptions{}.step)) {
      count *= static_cast<double>(axis.size());
    }
    windows += count;
    voxels += static_cast<double>(volume(padded));
  }
  // About 2e-7 s a voxel for reading, resampling and distance transforms; measured, one core.
  return 2 +
         1.2 * (windows * forward_seconds + 0.02 * static_cast<double>(ids.size()) + 2e-7 * voxels);
}

Json folds_json(const TrainJob& job) {
  return {{"format", "voxnas.folds"},
          {"version", 1},
          {"data", job.data.string()},
          {"budget_seconds", job.budget_seconds},
          {"steps", job.steps},
          {"network", job.network},
          {"weights", job.weights},
          {"configuration", job.configuration},
          {"planner", job.planner},
          {"options", job.options},
          {"base", to_json(job.base)}};
}

/// The recorded job; what is not in the record comes from `asked`.
TrainJob read_folds_job(const fs::path& record, const TrainJob& asked) {
  const Json json = read_json(record);
  const JsonReader reader(json, record.string());
  NAS_CHECK(reader.at("format").text() == "voxnas.folds" && reader.at("version").integer() == 1,
            record.string(),
            ": expected format voxnas.folds, version 1");
  TrainJob job = asked;
  job.data = reader.at("data").text();
  NAS_CHECK_KIND(Usage,
                 asked.data.empty() || fs::equivalent(asked.data, job.data),
                 "DATA: the run is of ",
                 job.data.string(),
                 ", got ",
                 asked.data.string());
  job.budget_seconds = reader.at("budget_seconds").number();
  job.steps = reader.at("steps").integer();
  job.network = reader.at("network").text();
  job.weights = reader.has("weights") && reader.at("weights").boolean();
  job.configuration = reader.at("configuration").text();
  job.planner = reader.at("planner").text();
  job.options = reader.at("options").text();
  job.options_name = record.string() + ": options";
  job.base = train_options_from_json(reader.at("base").json(), record.string() + ": base");
  job.resume = false;
  return job;
}

std::string dice_of(const Json& row, const char* key) {
  const Json& value = row.at(key);
  return dice_text(value.is_number() ? std::optional(value.get<double>()) : std::nullopt);
}

}  // namespace

TrainOutcome train_network(const TrainJob& job) {
  const Clock::time_point start = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  const fs::path folder = job.run_folder, record = folder / kRecord;

  TrainRun run;
  std::optional<TrainRun> earlier;
  if (job.resume) {
    NAS_CHECK_KIND(Usage,
                   fs::exists(record),
                   record.string(),
                   ": expected the record of a run to go on with, found nothing");
    earlier = read_run(record);
    NAS_CHECK_KIND(Usage,
                   job.data.empty() || fs::equivalent(job.data, earlier->data),
                   "DATA: the run is of ",
                   earlier->data,
                   ", got ",
                   job.data.string());
    check_resume(job);
    run = *earlier;
  } else {
    check_new(job);
    NAS_CHECK_KIND(Usage,
                   !fs::exists(record),
                   folder.string(),
                   ": holds a run already; go on with --resume or choose another folder");
    choose_precision(job.base.precision, choose_device(job.base.device));  // fails before any work
    run.data = fs::absolute(job.data).lexically_normal().string();
    run.fold = job.fold;
    run.configuration = job.configuration;
    run.planner = job.planner;
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
  }

  // Data set -> fingerprint -> plan -> cache.
  const DataSet data = open_data_set(run.data);
  Split split;
  if (run.fold < 0) {
    for (const CaseFiles& one : data.training) split.train.push_back(one.id);
  } else {
    NAS_CHECK_KIND(Usage,
                   run.fold < static_cast<int>(data.splits.size()),
                   "--fold: expected 0 to ",
                   data.splits.size() - 1,
                   " (",
                   data.splits_source,
                   "), got ",
                   run.fold);
    split = data.splits[static_cast<std::size_t>(run.fold)];
  }
  // Neither fingerprint nor plan see the held-out cases.
  DataSet seen = data;
  std::erase_if(seen.training, [&](const CaseFiles& one) {
    return std::ranges::find(split.train, one.id) == split.train.end();
  });
  const fs::path fingerprint_file = folder / "fingerprint.json";
  Fingerprint fingerprint;
  if (earlier && fs::exists(fingerprint_file)) {
    fingerprint = fingerprint_from_json(read_json(fingerprint_file), fingerprint_file.string());
  } else {
    fingerprint = compute_fingerprint(seen, job.base.threads);
    write_json(fingerprint_file, to_json(fingerprint));
  }
  const Plan plan =
      make_plan(fingerprint, planner_facts(seen), {.planner = run.planner, .gpu_memory_gb = 0});
  Configuration configuration = plan.configuration(run.configuration);
  Preprocessing preprocessing =
      make_preprocessing(plan, run.configuration, data.channel_names, data.label_names);
  const CaseCache cache =
      open_case_cache(default_cache_root(), data, preprocessing, job.base.threads);

  Graph graph;
  const fs::path graph_file = folder / "network.json";
  if (earlier) {
    graph = read_graph(graph_file.string());
    configuration.patch = run.options.patch;
  } else {
    ChosenNetwork chosen = choose_network(job.network, configuration, data, asked_patch(job));
    graph = std::move(chosen.graph);
    configuration.patch = chosen.patch;
    write_graph(graph_file.string(), graph);
  }
  const Cost cost = total_cost(first_output_only(graph), configuration.patch);
  log_info(data.name,
           ": ",
           split.train.size(),
           " cases train, ",
           split.val.size(),
           " are held out; network of ",
           format_count(static_cast<double>(cost.parameters)),
           " parameters, ",
           format_count(static_cast<double>(cost.macs)),
           " MACs a patch of ",
           to_text(configuration.patch));

  double reserve = 0;  // seconds that scoring needs
  if (!earlier) {
    TrainBudget budget{.seconds = 0, .steps = job.steps};
    std::function<double(std::int64_t)> seconds_per_step;
    if (run.budget_seconds > 0) {
      TrainOptions options = job.base;
      options.patch = configuration.patch;
      options.batch = kSmallestBatch;
      options.optimizer = kShortOptimizer;
      const ProbeResult measured = probe(graph, options);
      reserve = evaluation_seconds(cache,
                                   split.val,
                                   output_region(graph, configuration.patch).size,
                                   measured.seconds_per_forward);
      // 5 % are kept back for what a probe of two steps cannot see.
      budget.seconds = 0.95 * (run.budget_seconds - elapsed() - reserve);
      NAS_CHECK_KIND(Usage,
                     budget.seconds > measured.seconds_per_step,
                     "a budget of ",
                     format_duration(run.budget_seconds),
                     " buys no training: preparing took ",
                     format_duration(elapsed()),
                     ", scoring will take ",
                     format_duration(reserve),
                     ", a step takes ",
                     format_duration(measured.seconds_per_step));
      seconds_per_step = [measured](std::int64_t batch) {
        return measured.seconds_per_step * static_cast<double>(batch) /
               static_cast<double>(kSmallestBatch);
      };
      log_info("measured: ",
               format_duration(measured.seconds_per_step),
               " a step of batch ",
               kSmallestBatch,
               ", ",
               format_bytes(static_cast<double>(measured.peak_bytes)),
               " of memory");
    }
    run.options = plan_training(configuration,
                                static_cast<std::int64_t>(split.train.size()),
                                budget,
                                seconds_per_step,
                                job.base);
    if (!job.options.empty()) {
      run.options = train_options_from_json(
          parse_json(job.options, job.options_name), job.options_name, run.options);
    }
    write_json(record, to_json(run));
  }
  const TrainOptions& options = run.options;
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

  GraphModule network(graph, options.seed);
  if (run.transfer.contains("weights")) {
    // Also on a resume: the run may have been killed before its first checkpoint.
    const std::string file = run.transfer.at("weights");
    const WeightTransfer transfer = load_matching_weights(file, *network);
    NAS_CHECK(
        !transfer.copied.empty(),
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
    if (!earlier) write_json(record, to_json(run));
  }
  FitHooks hooks;
  if (!earlier && run.budget_seconds > 0) {
    hooks.should_stop = [&] { return elapsed() > run.budget_seconds - reserve; };
  }
  const FitReport report = fit(network, cache, split.train, options, {.folder = folder}, hooks);
  NAS_CHECK(report.status != "nan",
            "training: the loss was not finite after step ",
            report.steps,
            "; try a lower learning_rate or precision fp32");
  if (stop_requested()) {
    log_info("stopped after ", report.steps, " steps");
    return {.stopped = true, .held_out = {}, .report = {}};
  }

  preprocessing.patch = options.patch;
  Model model{network, preprocessing};
  save_model(folder / "model", model);
  Json result{{"status", report.status},
              {"steps", report.steps},
              {"skipped_steps", report.skipped},
              {"training_seconds", report.seconds},
              {"wait_seconds", report.wait_seconds},
              {"model", (folder / "model").string()}};
  TrainOutcome outcome;
  if (!split.val.empty()) {
    PredictOptions predict;
    predict.device = options.device;
    predict.precision = options.precision;
    predict.threads = options.threads;
    const std::vector<CaseMetrics>& cases = outcome.held_out =
        evaluate_cases(model, data, split.val, predict, folder / "predictions");
    const Json metrics = metrics_json(cases, data.label_names);
    write_json(folder / "metrics.json", metrics);
    result["metrics"] = metrics;
    const double now =
        std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
    EventWriter events(folder, now);
    const MetricMeans means = mean_metrics(cases);
    for (std::size_t k = 0; k < means.classes.size(); ++k) {
      if (const auto& dice = means.classes[k].dice)
        events.scalar("held_out/dice_" + std::to_string(k + 1), *dice, report.steps, now);
    }
    if (const auto& dice = means.foreground.dice)
      events.scalar("held_out/dice", *dice, report.steps, now);
    events.flush();
    log_info("held-out cases: mean foreground Dice ",
             dice_text(means.foreground.dice),
             " (",
             folder.string(),
             "/metrics.json)");
  }
  log_info("model: ", (folder / "model").string(), "; ", format_duration(elapsed()), " in all");
  outcome.report = result.dump(2);
  return outcome;
}

TrainJob winner_job(const fs::path& search_run) {
  const ResultsDb db = ResultsDb::open(search_run / "results.sqlite");
  const RunRecord run = db.run();
  const std::vector<Trial> trials = db.trials();
  const std::string label = delivered_label(trials);
  const auto winner = std::ranges::find_if(trials, [&](const Trial& trial) {
    return trial.purpose == TrialPurpose::Retrain && trial.label == label &&
           trial.status == TrialStatus::Done;
  });
  NAS_CHECK(!label.empty() && winner != trials.end(),
            search_run.string(),
            ": expected a finished search with a delivered model, found none");
  const std::string where = (search_run / "results.sqlite").string();
  const Json setup = parse_json(run.setup_json, where);
  const JsonReader reader(setup, where);
  TrainJob job;
  job.run_folder = search_run / "folds";
  job.base.seed = run.seed;
  job.base.device = reader.at("device").text();
  job.base.precision = reader.at("precision").text();
  job.base.threads = static_cast<int>(reader.at("threads").integer(0, 4096));
  job.resume = is_folds_run(job.run_folder);
  if (job.resume) return job;
  job.data = run.data_folder;
  job.network = (search_run / "model" / kNetwork).string();
  job.planner = plan_from_json(parse_json(run.plan_json, where), where).planner;
  job.steps = winner->steps;
  job.options = winner->settings;
  job.options_name = concat_text(where, ": settings of trial ", winner->id);
  return job;
}

bool is_folds_run(const fs::path& run_folder) { return fs::exists(run_folder / kFoldsRecord); }

TrainOutcome train_all_folds(const TrainJob& asked) {
  const fs::path folder = asked.run_folder, record = folder / kFoldsRecord;
  TrainJob job = asked;
  if (asked.resume) {
    NAS_CHECK_KIND(Usage,
                   is_folds_run(folder),
                   record.string(),
                   ": expected the record of a run over folds to go on with, found nothing");
    check_resume(asked);
    job = read_folds_job(record, asked);
  } else {
    check_new(job);
    NAS_CHECK_KIND(Usage,
                   !is_folds_run(folder) && !fs::exists(folder / kRecord),
                   folder.string(),
                   ": holds a run already; go on with --resume or choose another folder");
    job.data = fs::absolute(job.data).lexically_normal();
    if (fs::is_regular_file(job.network)) {
      // The run keeps its own copy: a resumed fold must train the same network.
      write_graph((folder / kNetwork).string(), load_network(job.network).graph);
      job.network = kNetwork;
    }
  }
  const DataSet data = open_data_set(job.data);
  const std::size_t folds = data.splits.size();
  NAS_CHECK(folds >= 2,
            job.data.string(),
            ": expected at least two folds in ",
            data.splits_source,
            ", found ",
            folds);
  if (!asked.resume) write_json(record, folds_json(job));

  TrainOutcome outcome;
  Json rows = Json::array();
  for (std::size_t k = 0; k < folds; ++k) {
    TrainJob one = job;
    one.fold = static_cast<int>(k);
    if (job.network == kNetwork) one.network = (folder / kNetwork).string();
    one.run_folder = folder / ("fold_" + std::to_string(k));
    one.budget_seconds = job.budget_seconds / static_cast<double>(folds);
    const fs::path metrics = one.run_folder / "metrics.json";
    std::vector<CaseMetrics> cases;
    if (fs::exists(metrics)) {  // written last
      cases = case_metrics_from_json(read_json(metrics), metrics.string());
      log_info("fold ", k, ": done already");
    } else {
      log_info("fold ", k, " of ", folds);
      one.resume = fs::exists(one.run_folder / kRecord);
      if (one.resume) {
        one.steps = 0;
        one.budget_seconds = 0;
        one.network.clear();
        one.options.clear();
      }
      TrainOutcome trained = train_network(one);
      if (trained.stopped) return trained;
      cases = std::move(trained.held_out);
    }
    const std::optional<double> mean = mean_metrics(cases).foreground.dice;
    rows.push_back({{"fold", k},
                    {"cases", cases.size()},
                    {"mean_dice", mean ? Json(*mean) : Json(nullptr)},
                    {"model", (one.run_folder / "model").string()}});
    outcome.held_out.insert(outcome.held_out.end(), cases.begin(), cases.end());
  }
  Json metrics = metrics_json(outcome.held_out, data.label_names);
  metrics["folds"] = rows;
  write_json(folder / "metrics.json", metrics);
  for (const Json& row : rows) {
    log_info("fold ",
             row.at("fold").get<int>(),
             ": mean foreground Dice ",
             dice_of(row, "mean_dice"),
             " over ",
             row.at("cases").get<int>(),
             " held-out cases");
  }
  std::string text;
  for (const Json& label : metrics.at("mean")) {
    text += concat_text(text.empty() ? "" : ", ",
                        label.at("label").get<std::string>(),
                        " ",
                        dice_of(label, "dice"));
  }
  log_info("all ",
           outcome.held_out.size(),
           " cases, each by the fold that held it out: mean foreground Dice ",
           dice_of(metrics.at("foreground_mean"), "dice"),
           " (",
           text,
           ")");
  log_info("ensemble: voxnas predict ", folder.string(), " IN OUT");
  outcome.report = metrics.dump(2);
  return outcome;
}

}  // namespace nas
