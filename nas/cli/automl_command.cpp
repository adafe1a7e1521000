// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "nas/cli/command.h"
#include "nas/cli/search_options.h"
#include "nas/core/error.h"
#include "nas/core/log.h"
#include "nas/core/quantity.h"
#include "nas/jobs/described_search.h"
#include "nas/jobs/leading/run_clock.h"
#include "nas/jobs/search_job.h"
#include "nas/jobs/strategies/strategies.h"
#include "nas/report/report.h"
#include "search_spaces/config_space/description.h"

namespace nas {
namespace {

struct Arguments {
  SearchJobOptions job;
  std::string file, config, data, budget, run, controller;
  CLI::Option *seed = nullptr, *keep = nullptr;
  bool dry_run = false, json = false;
};

std::string command_of(const Arguments& a) {
  const SearchJobOptions& job = a.job;
  std::ostringstream out;
  out << "voxnas automl " << quoted(a.file);
  if (!a.config.empty()) out << " --config " << quoted(a.config);
  out << " --data " << quoted(job.data.string()) << " --fold " << job.fold << " --controller "
      << quoted(a.controller.empty() ? job.strategy : a.controller) << budget_words(job, a.budget)
      << shared_words(job);
  out << " --seed " << job.seed << " -o " << quoted(a.run);
  return out.str();
}

/// Where the images lie: --data, or the folder that an MMAR's environment names.
std::string data_folder(const Arguments& a, const TrainingDescription& description) {
  if (!a.data.empty()) return a.data;
  const Json& environment = description.environment;
  const bool named = environment.contains("DATA_ROOT") && environment["DATA_ROOT"].is_string();
  NAS_CHECK_KIND(Usage, named, "expected --data DATA, the folder of the data set");
  const std::string root = environment["DATA_ROOT"].get<std::string>();
  NAS_CHECK_KIND(Usage,
                 std::filesystem::is_directory(root),
                 "environment.json: DATA_ROOT: ",
                 root,
                 " is not here; say where the data set lies with --data DATA");
  return root;
}

Json dry_run_json(const ConfigSpace& space) {
  Json dimensions = Json::array();
  const std::size_t shift = space.genes().size() - space.description().rules.dimensions.size();
  for (std::size_t g = shift; g < space.genes().size(); ++g) {
    const Gene& gene = space.genes()[g];
    Json row{{"key", gene.name}, {"planned", gene.text(gene.planned)}};
    if (gene.ordered()) {
      row["min"] = gene.lo;
      row["max"] = gene.hi;
      row["log"] = gene.log;
    } else {
      row["choices"] = gene.values;
    }
    dimensions.push_back(std::move(row));
  }
  const std::optional<std::int64_t> product = space.product();
  return {{"dimensions", dimensions},
          {"product", product ? Json(*product) : Json()},
          {"individual_0", space.to_text(space.baseline())},
          {"training", space.concrete(space.baseline())},
          {"notes", space.notes()}};
}

int run(Arguments& a) {
  AutomlFiles files = read_automl_files(a.file, a.config);
  const ConfigSpace preview = preview_space(files.description);
  if (!is_stage_file(a.controller) && a.controller.find_first_of("/ ") != std::string::npos) {
    a.job.controller = a.controller;  // a program
  } else if (!a.controller.empty()) {
    a.job.strategy = a.controller;
  } else if (files.automl && !files.automl->controller.empty()) {
    a.job.strategy = files.automl->controller;
  }
  described_recipe(a.job.strategy, files.description);  // a wrong word fails before any work
  if (a.dry_run) {
    check_preview(preview);
    if (a.json) {
      std::cout << dry_run_json(preview).dump(2) << '\n';
    } else {
      std::cout << dry_run_text(preview);
    }
    return 0;
  }
  NAS_CHECK_KIND(Usage, !a.run.empty(), "expected -o RUN, or --dry-run");
  if (!a.budget.empty()) a.job.budget.seconds = parse_duration(a.budget);
  if (files.automl) {
    if (a.job.trials == 0 && !is_stage_file(a.controller)) a.job.trials = files.automl->max_rounds;
    if (a.keep->empty() && files.automl->keep > 0) a.job.keep = files.automl->keep;
    if (files.automl->stop_at > 0) a.job.stop_at = files.automl->stop_at;
    for (const std::string& note : files.automl->notes) log_info("note: ", note);
  }
  if (a.seed->empty() && preview.settings().seed)
    a.job.seed = static_cast<std::uint64_t>(*preview.settings().seed);
  a.job.data = data_folder(a, files.description);
  a.job.run_folder = a.run;
  a.job.description = std::move(files.description);
  a.job.command = command_of(a);
  a.job.code_version = NAS_VERSION;
  if (start_search(a.job, process_age_seconds()) == SearchEnd::Stopped) return 1;
  if (a.json) std::cout << report_data(a.run).dump(2) << '\n';
  return 0;
}

}  // namespace

Command automl_command() {
  return {
      .name = "automl", .setup = [](CLI::App& app) -> std::function<int()> {
        auto a = std::make_shared<Arguments>();
        app.add_option("CONFIG",
                       a->file,
                       "Training description (docs/formats.md), a training configuration of Clara "
                       "Train 4, or the folder of an MMAR")
            ->required();
        app.add_option("--config",
                       a->config,
                       "Of an MMAR: the file in its folder config; config_train.json if left out");
        app.add_flag("--dry-run",
                     a->dry_run,
                     "Only tell what would be searched, and what of the configuration means what");
        app.add_option("--data",
                       a->data,
                       "Folder of the data set; left out: DATA_ROOT of an MMAR's environment.json");
        app.add_option(
            "--controller",
            a->controller,
            "How to search: random or another kind of strategy (docs/formats.md), a stage "
            "of a recipe with its options, stop rules and pruner (FILE.json), or a "
            "program of yours (a path or words); left out: as an MMAR's "
            "config_automl.json says, else random");
        app.add_option(
               "--trials", a->job.trials, "Trainings to try, the configuration as written first")
            ->check(CLI::Range(std::int64_t{1}, std::int64_t{100000}));
        app.add_option("--steps",
                       a->job.budget.steps,
                       "Steps of each final training; left out: as the configuration says")
            ->check(CLI::Range(std::int64_t{1}, std::int64_t{1'000'000'000}));
        app.add_option("--budget", a->budget, "Instead of steps: time for everything: 20m, 2h");
        app.add_option("--effort",
                       a->job.budget.effort,
                       "Instead of steps: compute for everything, in training steps of the "
                       "configuration as written at batch 2")
            ->check(CLI::Range(1.0, 1e9));
        add_workers(app, a->job);
        add_audience_of_search(app, a->job);
        a->keep = app.get_option("--keep");
        app.add_option("-o,--output", a->run, "Folder to write the run to, new or empty");
        app.add_option(
               "--fold",
               a->job.fold,
               "Keep the cases of this fold out of the search and score the final trainings "
               "on them")
            ->capture_default_str();
        add_data_options(app, a->job.how);
        a->seed = app.add_option("--seed",
                                 a->job.seed,
                                 "Number that all random choices follow from; left out: as the "
                                 "configuration says, else 1");
        add_device(app, a->job.device, a->job.precision);
        add_threads(app, a->job.threads);
        app.add_flag("--json", a->json, "Also print the results as JSON on stdout");
        return [a] { return run(*a); };
      }};
}

}  // namespace nas
