// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "nas/cli/command.h"
#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/log.h"
#include "nas/core/progress.h"
#include "nas/core/threads.h"
#include "nas/network/output_region.h"
#include "search_spaces/network_file.h"
#include "search_spaces/planner.h"
#include "search_spaces/unet.h"
#include "training/fit.h"
#include "training/imaging/dataset.h"
#include "training/imaging/fingerprint.h"
#include "training/predict.h"
#include "training/tensorboard.h"

namespace nas {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

struct TrainArguments {
  std::string data, network, budget, run, options;
  std::string configuration = "3d_fullres", planner = "default";
  std::int64_t steps = 0;
  int fold = 0;
  bool all = false, resume = false, json = false;
  TrainOptions base;
};

/// Everything that a run needs to go on: RUN/training.json.
struct TrainRun {
  std::string data;
  int fold = 0;  // -1: all cases train
  std::string configuration, planner;
  double budget_seconds = 0;
  TrainOptions options;
};

Json to_json(const TrainRun& run) {
  return {{"format", "voxnas.training"},
          {"version", 1},
          {"data", run.data},
          {"fold", run.fold},
          {"configuration", run.configuration},
          {"planner", run.planner},
          {"budget_seconds", run.budget_seconds},
          {"options", to_json(run.options)}};
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
  const auto load = [&] {
    if (name.empty()) {
      chosen.graph = make_unet(planned.architecture);
      return;
    }
    NetworkFile loaded = load_network(name, options);
    if (loaded.adapted) {
      log_info(name,
               ": first and last layers adapted to ",
               options.channels,
               " channels and ",
               options.classes,
               " classes");
    }
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
  output_region(chosen.graph, chosen.patch);  // refuses what cannot be trained
  return chosen;
}

/// The patch that an options file asks for.
std::optional<Extent3> asked_patch(const std::string& options_file) {
  if (options_file.empty()) return std::nullopt;
  const Json json = read_json(options_file);
  if (!JsonReader(json, options_file).has("patch")) return std::nullopt;
  return train_options_from_json(json, options_file).patch;
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

int run_train(TrainArguments a) {
  const Clock::time_point start = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - start).count(); };
  const fs::path folder = a.run, record = folder / "training.json";

  TrainRun run;
  std::optional<TrainRun> earlier;
  if (a.resume) {
    NAS_CHECK_KIND(Usage,
                   fs::exists(record),
                   record.string(),
                   ": expected the record of a run to go on with, found nothing");
    earlier = read_run(record);
    NAS_CHECK_KIND(Usage,
                   a.data.empty() || fs::equivalent(a.data, earlier->data),
                   "DATA: the run is of ",
                   earlier->data,
                   ", got ",
                   a.data);
    NAS_CHECK_KIND(Usage,
                   a.steps == 0 && a.budget.empty() && a.network.empty() && a.options.empty(),
                   "--resume takes network, options and steps from the run; leave them out");
    run = *earlier;
  } else {
    NAS_CHECK_KIND(Usage, !a.data.empty(), "expected DATA, a data set folder");
    NAS_CHECK_KIND(
        Usage, a.budget.empty() != (a.steps == 0), "expected either --budget TIME or --steps N");
    NAS_CHECK_KIND(Usage,
                   !fs::exists(record),
                   folder.string(),
                   ": holds a run already; go on with --resume or choose another folder");
    choose_precision(a.base.precision, choose_device(a.base.device));  // fails before any work
    run.data = fs::absolute(a.data).lexically_normal().string();
    run.fold = a.all ? -1 : a.fold;
    run.configuration = a.configuration;
    run.planner = a.planner;
    if (!a.budget.empty()) run.budget_seconds = parse_duration(a.budget);
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
    fingerprint = compute_fingerprint(seen, a.base.threads);
    write_json(fingerprint_file, to_json(fingerprint));
  }
  const Plan plan =
      make_plan(fingerprint, planner_facts(seen), {.planner = run.planner, .gpu_memory_gb = 0});
  Configuration configuration = plan.configuration(run.configuration);
  Preprocessing preprocessing =
      make_preprocessing(plan, run.configuration, data.channel_names, data.label_names);
  const CaseCache cache =
      open_case_cache(default_cache_root(), data, preprocessing, a.base.threads);

  Graph graph;
  const fs::path graph_file = folder / "network.json";
  if (earlier) {
    graph = read_graph(graph_file.string());
    configuration.patch = run.options.patch;
  } else {
    ChosenNetwork chosen = choose_network(a.network, configuration, data, asked_patch(a.options));
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
    TrainBudget budget{.seconds = 0, .steps = a.steps};
    std::function<double(std::int64_t)> seconds_per_step;
    if (run.budget_seconds > 0) {
      TrainOptions options = a.base;
      options.patch = configuration.patch;
      options.batch = kSmallestBatch;
      options.optimizer = "adamw";
      const ProbeResult measured = probe(graph, options);
      reserve = evaluation_seconds(cache,
                                   split.val,
                                   output_region(graph, configuration.patch).size,
                                   measured.seconds_per_forward);
      // 5 % are kept back for what a probe of two steps cannot see.
      budget.seconds = 0.95 * (run.budget_seconds - elapsed() - reserve);
      NAS_CHECK_KIND(Usage,
                     budget.seconds > measured.seconds_per_step,
                     "--budget ",
                     a.budget,
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
                                a.base);
    if (!a.options.empty()) {
      run.options = train_options_from_json(read_json(a.options), a.options, run.options);
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
    log_info("stopped after ", report.steps, " steps; go on with voxnas train --resume -o ", a.run);
    return 1;
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
  if (!split.val.empty()) {
    PredictOptions predict;
    predict.device = options.device;
    predict.precision = options.precision;
    predict.threads = options.threads;
    const std::vector<CaseMetrics> cases =
        evaluate_cases(model, data, split.val, predict, folder / "predictions");
    const Json metrics = metrics_json(cases, data.label_names);
    write_json(folder / "metrics.json", metrics);
    result["metrics"] = metrics;
    const double now =
        std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
    EventWriter events(folder, now);
    double mean = 0;
    for (const CaseMetrics& one : cases)
      mean += one.mean_dice() / static_cast<double>(cases.size());
    for (std::size_t k = 1; k < data.label_names.size(); ++k) {
      double sum = 0, count = 0;
      for (const CaseMetrics& one : cases) {
        if (const auto& dice = one.classes[k - 1].dice) sum += *dice, count += 1;
      }
      if (count > 0)
        events.scalar("held_out/dice_" + std::to_string(k), sum / count, report.steps, now);
    }
    events.scalar("held_out/dice", mean, report.steps, now);
    events.flush();
    log_info(
        "held-out cases: mean foreground Dice ", mean, " (", folder.string(), "/metrics.json)");
  }
  log_info("model: ", (folder / "model").string(), "; ", format_duration(elapsed()), " in all");
  if (a.json) std::cout << result.dump(2) << "\n";
  return 0;
}

}  // namespace

Command train_command() {
  return {
      .name = "train",
      .summary = "Train one network, the planned one by default, and score it on the held-out fold",
      .example = "voxnas train data/Task04_Hippocampus --fold 0 --budget 10m -o RUN",
      .setup = [](CLI::App& app) -> std::function<int()> {
        auto a = std::make_shared<TrainArguments>();
        app.add_option("DATA", a->data, "Data set folder (MSD or nnU-Net v2 raw)");
        app.add_option("-o,--output", a->run, "Run folder: model, metrics, checkpoint, event files")
            ->required();
        app.add_option("--budget", a->budget, "Time for the whole command: 90s, 10m, 2h, 1d");
        app.add_option("--steps", a->steps, "Instead of a time: optimiser steps (repeatable)")
            ->check(CLI::Range(std::int64_t{1}, std::int64_t{1'000'000'000}));
        auto* fold = app.add_option("--fold", a->fold, "Whose validation cases are held out")
                         ->check(CLI::Range(0, 1 << 20))
                         ->capture_default_str();
        app.add_flag("--all", a->all, "Train on all cases; none is held out")->excludes(fold);
        app.add_option("--network",
                       a->network,
                       "Instead of the planned network: a name (v-net, dints, ...), graph file, "
                       "model folder or plan");
        app.add_option("--configuration", a->configuration, "Of the plan: 3d_fullres or 3d_lowres")
            ->capture_default_str();
        app.add_option("--planner", a->planner, "default, resenc-m or resenc-l")
            ->check(CLI::IsMember(planner_names()))
            ->capture_default_str();
        app.add_option("--options",
                       a->options,
                       "JSON file of training options that overrule the schedule rule");
        app.add_flag("--resume", a->resume, "Go on with a run that was stopped or killed");
        app.add_option("--seed", a->base.seed, "Same seed, same training")->capture_default_str();
        app.add_option("--device", a->base.device, "auto, cpu, cuda or cuda:N")
            ->capture_default_str();
        app.add_option("--precision", a->base.precision, "auto, fp32, bf16 or fp16 (CUDA)")
            ->check(CLI::IsMember({"auto", "fp32", "bf16", "fp16"}))
            ->capture_default_str();
        app.add_option("--threads", a->base.threads, "Compute threads, 0: all")
            ->check(CLI::Range(0, 1024));
        app.add_flag("--json", a->json, "Result as JSON on stdout");
        return [a] { return run_train(*a); };
      }};
}

}  // namespace nas
