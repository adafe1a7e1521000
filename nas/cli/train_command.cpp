// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <string>

#include "nas/cli/command.h"
#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/log.h"
#include "nas/core/quantity.h"
#include "nas/jobs/folds_job.h"
#include "nas/jobs/train_job.h"

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
        app.add_option(
            "DATA", a->data, "Folder of the data set, with a dataset.json (MSD or nnU-Net v2 raw)");
        app.add_option("-o,--output",
                       a->run,
                       "Folder to write the run to: model, metrics, predictions, checkpoint")
            ->required();
        app.add_option("--budget",
                       a->budget,
                       "Time for everything, from reading images to scoring: 90s, 10m, 2h, 1d");
        app.add_option("--steps",
                       a->job.steps,
                       "Train this many steps instead of a time; the same command then gives the "
                       "same network")
            ->check(CLI::Range(std::int64_t{1}, std::int64_t{1'000'000'000}));
        auto* fold = app.add_option("--fold",
                                    a->job.fold,
                                    "Keep the cases of this fold out of the training and score "
                                    "the network on them")
                         ->check(CLI::Range(0, 1 << 20))
                         ->capture_default_str();
        auto* every = app.add_flag("--all", a->all, "Train on all cases and keep none for scoring");
        every->excludes(fold);
        app.add_option("--folds",
                       a->folds,
                       "With the word all: train one network per fold (RUN/fold_0, ...), each for "
                       "an equal share of the budget; voxnas predict RUN averages them")
            ->check(CLI::IsMember({"all"}))
            ->excludes(fold)
            ->excludes(every);
        app.add_option("--network",
                       a->job.network,
                       "Train this network instead of the planned one: a published network by "
                       "name (v-net, dints, ...), a model folder, a graph file or a plan");
        app.add_option("--configuration",
                       a->job.configuration,
                       "Resolution of the plan to train at: 3d_fullres or 3d_lowres")
            ->capture_default_str();
        add_data_options(app, a->job.how);
        app.add_flag("--weights",
                     a->job.weights,
                     "Start from the trained weights of the model folder given as --network, "
                     "wherever their shapes fit")
            ->needs(app.get_option("--network"));
        app.add_option("--options",
                       a->options,
                       "JSON file of training options (docs/formats.md) that replace the chosen "
                       "ones");
        app.add_flag("--resume",
                     a->job.resume,
                     "Go on with the run in -o that was stopped or killed; give DATA only if the "
                     "data set lies elsewhere now");
        app.add_option("--seed",
                       a->job.base.seed,
                       "Number that all random choices follow from; the same one repeats them")
            ->capture_default_str();
        add_device(app, a->job.base.device, a->job.base.precision);
        add_threads(app, a->job.base.threads);
        app.add_flag("--json", a->json, "Also print the result as JSON on stdout");
        return [a, &app] {
          if (a->job.resume) check_resume_options(app, {"DATA", "--output", "--resume", "--json"});
          return run_train(*a);
        };
      }};
}

}  // namespace nas
