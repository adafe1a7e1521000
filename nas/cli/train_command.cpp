// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <string>

#include "nas/cli/command.h"
#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/log.h"
#include "nas/core/progress.h"
#include "nas/jobs/folds_job.h"
#include "nas/jobs/train_job.h"
#include "search_spaces/planned_unet/planner.h"

namespace nas {
namespace {

struct TrainArguments {
  TrainJob job;
  std::string data, run, budget, options, folds;
  bool all = false, json = false;
};

int run_train(const TrainArguments& a) {
  TrainJob job = a.job;
  job.data = a.data;
  job.run_folder = a.run;
  if (a.all) job.fold = -1;
  if (!a.budget.empty()) job.budget_seconds = parse_duration(a.budget);
  if (!a.options.empty()) {
    job.options = read_file(a.options, std::int64_t{1} << 20);
    job.options_name = a.options;
  }
  const bool folds = !a.folds.empty() || (job.resume && is_folds_run(job.run_folder));
  const TrainOutcome outcome = folds ? train_all_folds(job) : train_network(job);
  if (outcome.stopped) {
    log_info("go on with voxnas train --resume -o ", a.run);
    return 1;
  }
  if (a.json) std::cout << outcome.report << "\n";
  return 0;
}

}  // namespace

Command train_command() {
  return {
      .name = "train", .setup = [](CLI::App& app) -> std::function<int()> {
        auto a = std::make_shared<TrainArguments>();
        app.add_option("DATA", a->data, "Data set folder (MSD or nnU-Net v2 raw)");
        app.add_option("-o,--output", a->run, "Run folder: model, metrics, checkpoint, event files")
            ->required();
        app.add_option("--budget", a->budget, "Time for the whole command: 90s, 10m, 2h, 1d");
        app.add_option("--steps", a->job.steps, "Instead of a time: optimiser steps (repeatable)")
            ->check(CLI::Range(std::int64_t{1}, std::int64_t{1'000'000'000}));
        auto* fold = app.add_option("--fold", a->job.fold, "Whose validation cases are held out")
                         ->check(CLI::Range(0, 1 << 20))
                         ->capture_default_str();
        auto* every = app.add_flag("--all", a->all, "Train on all cases; none is held out");
        every->excludes(fold);
        app.add_option("--folds",
                       a->folds,
                       "all: one training per fold (RUN/fold_0, ...), each with an equal share of "
                       "the budget; voxnas predict RUN averages them")
            ->check(CLI::IsMember({"all"}))
            ->excludes(fold)
            ->excludes(every);
        app.add_option("--network",
                       a->job.network,
                       "Instead of the planned network: a name (v-net, dints, ...), graph file, "
                       "model folder or plan");
        app.add_option(
               "--configuration", a->job.configuration, "Of the plan: 3d_fullres or 3d_lowres")
            ->capture_default_str();
        app.add_option("--planner", a->job.planner, "default, resenc-m or resenc-l")
            ->check(CLI::IsMember(planner_names()))
            ->capture_default_str();
        app.add_option("--orientation",
                       a->job.orientation,
                       "Axis codes that images are turned to (RAS, LPS, ...); default: the "
                       "commonest of the data set");
        app.add_flag("--accept-misaligned",
                     a->job.accept_misaligned,
                     "Take files of a case voxel by voxel whose headers disagree about spacing or "
                     "place");
        app.add_flag("--weights",
                     a->job.weights,
                     "Start from the weights of the model folder --network where shapes agree")
            ->needs(app.get_option("--network"));
        app.add_option("--options",
                       a->options,
                       "JSON file of training options that overrule the schedule rule");
        app.add_flag("--resume",
                     a->job.resume,
                     "Go on with a run that was stopped or killed; DATA: where its data lie now");
        app.add_option("--seed", a->job.base.seed, "Same seed, same training")
            ->capture_default_str();
        app.add_option("--device", a->job.base.device, "auto, cpu, cuda or cuda:N")
            ->capture_default_str();
        app.add_option("--precision", a->job.base.precision, "auto, fp32, bf16 or fp16 (CUDA)")
            ->check(CLI::IsMember({"auto", "fp32", "bf16", "fp16"}))
            ->capture_default_str();
        app.add_option("--threads", a->job.base.threads, "Compute threads, 0: all")
            ->check(CLI::Range(0, 1024));
        app.add_flag("--json", a->json, "Result as JSON on stdout");
        return [a] { return run_train(*a); };
      }};
}

}  // namespace nas
