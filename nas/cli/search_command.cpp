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
#include "nas/core/run_folder.h"
#include "nas/jobs/folds_job.h"
#include "nas/jobs/leading/run_clock.h"
#include "nas/jobs/search_job.h"
#include "nas/jobs/seeds_job.h"
#include "nas/report/report.h"
#include "nas/search/limits.h"
#include "nas/search/recipe.h"

namespace nas {
namespace {

struct Arguments {
  SearchJobOptions job;
  std::string data, budget, run, resume, control, search;
  std::int64_t seeds = 1;
  std::string max_parameters, max_macs, max_memory, max_step_time;
  bool json = false, folds = false;
};

std::string command_of(const Arguments& a) {
  const SearchJobOptions& job = a.job;
  const SearchJobOptions plain;
  std::ostringstream out;
  out << "voxnas search " << quoted(a.data) << " --fold " << job.fold
      << budget_words(job, a.budget);
  if (job.recipe != plain.recipe) out << " --recipe " << quoted(job.recipe);
  if (!job.space.empty()) out << " --space " << quoted(job.space);
  if (!job.goal.empty()) out << " --goal " << job.goal;
  if (job.margin) out << " --margin " << *job.margin;
  if (!job.compare.empty()) out << " --compare " << job.compare;
  if (job.prior != plain.prior) out << " --prior " << quoted(job.prior);
  if (!a.control.empty()) out << " --control " << a.control;
  if (!a.search.empty()) out << " --search " << a.search;
  for (const auto& [option, text] : {std::pair("--max-params", &a.max_parameters),
                                     std::pair("--max-macs", &a.max_macs),
                                     std::pair("--max-memory", &a.max_memory),
                                     std::pair("--max-step-time", &a.max_step_time)}) {
    if (!text->empty()) out << ' ' << option << ' ' << quoted(*text);
  }
  if (job.limits.parameters_of_plan > 0) {
    out << " --max-params-of-plan " << job.limits.parameters_of_plan;
  }
  if (!job.controller.empty()) out << " --controller " << quoted(job.controller);
  out << shared_words(job);
  if (a.seeds > 1) out << " --seeds " << a.seeds;
  out << " --seed " << job.seed << " -o " << quoted(a.run);
  return out.str();
}

int run(Arguments& a) {
  SearchEnd end{};
  if (!a.resume.empty()) {
    const SearchResumeOptions resume{.run_folder = a.resume,
                                     .data = a.data,
                                     .workers = a.job.workers,
                                     .controller = a.job.controller,
                                     .executor = a.job.executor,
                                     .audience = a.job.audience};
    end = is_seeds_run(a.resume) ? resume_seeds(resume, process_age_seconds())
                                 : resume_search(resume, process_age_seconds());
  } else {
    NAS_CHECK_KIND(
        Usage, !a.data.empty() && !a.run.empty(), "expected DATA and -o RUN (or --resume RUN)");
    NAS_CHECK_KIND(Usage,
                   !std::filesystem::exists(a.run) || std::filesystem::is_directory(a.run),
                   a.run,
                   ": expected a new or empty folder, found a file");
    if (!a.budget.empty()) a.job.budget.seconds = parse_duration(a.budget);
    NAS_CHECK_KIND(
        Usage, a.job.budget.is_one(), "expected one of --budget TIME, --effort N and --steps N");
    Limits& limits = a.job.limits;
    if (!a.max_parameters.empty()) {
      limits.max_parameters = parse_count(a.max_parameters, "--max-params");
    }
    if (!a.max_macs.empty()) limits.max_macs = parse_count(a.max_macs, "--max-macs");
    if (!a.max_memory.empty()) limits.max_memory_bytes = parse_bytes(a.max_memory, "--max-memory");
    if (!a.max_step_time.empty()) {
      limits.max_step_seconds = parse_step_time(a.max_step_time, "--max-step-time");
    }
    a.job.random_control = !a.control.empty();
    a.job.search_training = !a.search.empty();
    a.job.data = a.data;
    a.job.run_folder = a.run;
    a.job.command = command_of(a);
    a.job.code_version = NAS_VERSION;
    end = a.seeds > 1 ? start_seeds(a.job, a.seeds, process_age_seconds())
                      : start_search(a.job, process_age_seconds());
  }
  if (end == SearchEnd::Stopped) return 1;
  if (a.folds) {
    // Beyond the budget, which was for the search: as many steps per fold as the final training
    // had.
    const TrainJob job = winner_job(a.resume.empty() ? a.run : a.resume);
    log_info("training what the search delivered on every fold: ", job.run_folder.string());
    if (train_all_folds(job).stopped) return 1;
  }
  if (a.json) {
    const RunFolder folder(a.resume.empty() ? a.run : a.resume);
    const Json result = std::filesystem::exists(folder.summary()) ? read_json(folder.summary())
                                                                  : report_data(folder.path());
    std::cout << result.dump(2) << '\n';
  }
  return 0;
}

/// Where results go, who carries out trials, and programs of the user.
void add_hands(CLI::App& app, Arguments& a) {
  add_workers(app, a.job);
  app.add_option("--controller",
                 a.job.controller,
                 "A program of yours that decides what to try, in lines of JSON "
                 "(docs/formats.md, Plug-ins)");
  app.add_option(
      "--executor", a.job.executor, "A program of yours that carries out search trials, likewise");
  add_audience_of_search(app, a.job);
}

void add_limits(CLI::App& app, Arguments& a) {
  app.add_option(
      "--max-params", a.max_parameters, "Only networks of at most so many parameters: 4M, 750k");
  app.add_option("--max-params-of-plan",
                 a.job.limits.parameters_of_plan,
                 "The same as a share of the planned network's parameters: 0.5")
      ->check(CLI::Range(1e-6, 1e6));
  app.add_option("--max-macs",
                 a.max_macs,
                 "Only networks of at most so many multiply-adds for one patch: 20G");
  app.add_option("--max-memory",
                 a.max_memory,
                 "Only networks whose training step needs at most this memory: 2GB");
  app.add_option("--max-step-time",
                 a.max_step_time,
                 "Only networks whose training step takes at most this time: 50ms, 2s");
}

/// What a race delivers, compares and begins with.
void add_race_options(CLI::App& app, SearchJobOptions& job) {
  app.add_option("--goal",
                 job.goal,
                 "What to deliver: the best network, or the smallest or fastest that is not "
                 "worse than the best by more than --margin")
      ->check(CLI::IsMember({"best", "smallest", "fastest"}));
  app.add_option("--margin", job.margin, "Of --goal, in Dice; 0.005 if left out")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--compare",
                 job.compare,
                 "Train the planned network with the same compute too, for a paired "
                 "comparison: yes, no, or auto (where that costs less than 0.001 Dice)")
      ->check(CLI::IsMember({"yes", "no", "auto"}));
  app.add_option("--prior",
                 job.prior,
                 "Order the networks that a race tries first by what earlier searches saw on "
                 "similar data: their run folders or results databases, joined by commas, or "
                 "none")
      ->capture_default_str();
}

}  // namespace

Command search_command() {
  return {
      .name = "search", .setup = [](CLI::App& app) -> std::function<int()> {
        auto a = std::make_shared<Arguments>();
        app.add_option(
            "DATA", a->data, "Folder of the data set, with a dataset.json (MSD or nnU-Net v2 raw)");
        app.add_option("--budget",
                       a->budget,
                       "Time for everything, from reading images to the report: 90s, 20m, 2h, 1d");
        app.add_option(
               "--effort",
               a->job.budget.effort,
               "Instead of a time: compute for everything, in training steps of the planned "
               "network at batch 2, of which every network pays its own cost; the same on "
               "every machine, to the last digit")
            ->check(CLI::Range(1.0, 1e9));
        app.add_option("--steps",
                       a->job.budget.steps,
                       "Instead of a time: steps of each final training; the same command then "
                       "gives the same result to the last digit")
            ->check(CLI::Range(std::int64_t{1}, std::int64_t{1'000'000'000}));
        app.add_option("-o,--output", a->run, "Folder to write the run to, new or empty");
        add_hands(app, *a);
        app.add_flag("--folds",
                     a->folds,
                     "Afterwards train the delivered network on every fold, in RUN/folds, as long "
                     "as its final training was; this takes time beyond the budget");
        app.add_option("--resume",
                       a->resume,
                       "Go on with this run that was stopped or killed; give DATA only if the data "
                       "set lies elsewhere now");
        app.add_option("--fold",
                       a->job.fold,
                       "Keep the cases of this fold out of the search and score the final networks "
                       "on them")
            ->capture_default_str();
        app.add_option("--recipe",
                       a->job.recipe,
                       "How to search: auto, plan (no search), random, c2fnas, vnas, combined, or "
                       "a recipe file "
                       "(docs/formats.md)")
            ->capture_default_str();
        add_race_options(app, a->job);
        app.add_option("--space",
                       a->job.space,
                       "Search among these networks instead of the recipe's, by the name of a "
                       "search space");
        app.add_option("--control",
                       a->control,
                       "With the word random: also search at random for the same cost and train "
                       "what that finds, to see what the method adds")
            ->check(CLI::IsMember({"random"}));
        app.add_option("--search",
                       a->search,
                       "With the word training: once the network is chosen, search for its "
                       "training options too")
            ->check(CLI::IsMember({"training"}));
        add_limits(app, *a);
        app.add_option("--trials",
                       a->job.trials,
                       "Networks to try in the first stage, the planned one among them. Left out: "
                       "as many as the budget buys")
            ->check(CLI::Range(std::int64_t{1}, std::int64_t{100000}));
        add_data_options(app, a->job.how);
        app.add_option("--seed",
                       a->job.seed,
                       "Number that all random choices follow from; the same one repeats them")
            ->capture_default_str();
        app.add_option("--seeds",
                       a->seeds,
                       "Repeat the whole search with so many seeds and report means, deviations "
                       "and tests")
            ->check(CLI::Range(1, 1000))
            ->capture_default_str();
        add_device(app, a->job.device, a->job.precision);
        add_threads(app, a->job.threads);
        app.add_flag("--json", a->json, "Also print the results as JSON on stdout");
        return [a, &app] {
          if (!a->resume.empty()) {
            check_resume_options(app,
                                 {"DATA",
                                  "--resume",
                                  "--workers",
                                  "--controller",
                                  "--executor",
                                  "--handler",
                                  "--webhook",
                                  "--mlflow",
                                  "--folds",
                                  "--json"});
          }
          return run(*a);
        };
      }};
}

}  // namespace nas
