// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/search_job.h"

#include <algorithm>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/log.h"
#include "nas/core/progress.h"
#include "nas/core/run_folder.h"
#include "nas/core/text.h"
#include "nas/core/threads.h"
#include "nas/imaging/data_features.h"
#include "nas/imaging/metrics.h"
#include "nas/jobs/described_search.h"
#include "nas/jobs/leading/lead_search.h"
#include "nas/jobs/leading/run_clock.h"
#include "nas/jobs/leading/run_lock.h"
#include "nas/jobs/reopen.h"
#include "nas/jobs/strategies/strategies.h"
#include "nas/jobs/workbench.h"
#include "nas/plugins/external_controller.h"
#include "nas/plugins/external_executor.h"
#include "nas/report/report.h"
#include "nas/results/prior_runs.h"
#include "nas/results/run_database.h"
#include "nas/search/draws.h"
#include "nas/search/warm_start.h"
#include "nas/search/worker_list.h"
#include "search_spaces/spaces.h"
#include "search_spaces/training_genes.h"
#include "supernet/search/optional_stages.h"
#include "training/model/device.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

/// Who carries out trials, and who listens.
struct Hands {
  std::string workers;  // devices of worker processes (parse_workers); "": this process
  int threads = 0;      // of each
  std::string executor;
  SearchAudience audience;
};

SearchEnd run_and_report(Workbench& bench,
                         ResultsDb& db,
                         const RunFolder& folder,
                         const std::function<double()>& clock,
                         const Hands& hands) {
  const std::unique_ptr<Evaluator> executor =
      own_executor(hands.executor, *bench.space, *bench.evaluator);
  LedSearch led;
  led.space = bench.space.get();
  led.evaluator = executor ? executor.get() : bench.evaluator.get();
  led.recipe = bench.recipe;
  led.clock = clock;
  led.audience = make_audience(*bench.space, folder.path(), hands.audience);
  if (!hands.workers.empty()) led.devices = parse_workers(hands.workers, cuda_devices());
  led.threads = hands.threads;
  led.executor = hands.executor;
  led.go_on = "voxnas search --resume " + folder.text();
  return lead_search(std::move(led), db, folder);
}

/// Workers on the processor divide its cores, unless the user said how many threads each has: more
/// threads than cores make all of them slower.
void share_processors(SearchJobOptions& options) {
  if (options.workers.empty()) return;
  const std::vector<std::string> devices = parse_workers(options.workers, cuda_devices());
  const auto on_cpu = static_cast<int>(std::ranges::count(devices, "cpu"));
  options.budget.workers = std::ssize(devices);
  if (options.threads == 0 && on_cpu > 0) {
    options.threads = std::max(1, processor_count() / on_cpu);
  }
}

/// What an earlier start that was killed before its first record may have left, and what a caller
/// put there for this one.
void check_free(const RunFolder& folder, const std::string& recipe) {
  check_writable(folder.path());  // now, not after the forecast
  NAS_CHECK_KIND(Usage,
                 !has_database(folder),
                 folder.text(),
                 ": holds a run already; go on with `voxnas search --resume ",
                 folder.text(),
                 "` or choose another folder");
  if (!fs::exists(folder.path())) return;
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    const std::string name = entry.path().filename().string();
    std::error_code none;
    const bool ours = name == RunFolder::kLock ||
                      name.find(RunFolder::kDatabase) != std::string::npos ||
                      fs::equivalent(entry.path(), recipe, none);
    NAS_CHECK_KIND(Usage, ours, folder.text(), ": expected a new or empty folder, found ", name);
  }
}

void log_cases(const Prepared& prepared, const CaseSelection& cases, std::int64_t fold) {
  log_info(prepared.data.name,
           ": ",
           cases.training.size(),
           " training cases (",
           cases.inner_validation.size(),
           " of them validate search trials), ",
           cases.held_out.size(),
           " held out, fold ",
           fold,
           " of ",
           prepared.data.splits_source);
}

void log_plan(const Configuration& planned) {
  log_info("plan: patch ",
           to_text(planned.patch),
           ", batch ",
           planned.batch,
           ", ",
           planned.architecture.residual ? "residual" : "plain",
           " U-Net with ",
           planned.architecture.features.size(),
           " stages, ",
           planned.architecture.features.front(),
           " to ",
           planned.architecture.features.back(),
           " features");
}

/// The recipe's space around the planned network, with genes for the training where it is searched:
/// all of them, or in a race those that leave a training to be continued.
std::unique_ptr<SearchSpace> recipe_space(Recipe& recipe, const Configuration& planned) {
  auto space = space_for_plan(
      recipe.space, planned, parse_json(recipe.space_options, "recipe: space_options"));
  const auto names_training = [](const StageSpec& stage) {
    return std::ranges::find(stage.groups, "training") != stage.groups.end();
  };
  const auto races = [](const StageSpec& stage) { return stage.kind->continues; };
  if (std::ranges::any_of(recipe.stages, [&](const StageSpec& stage) {
        return !races(stage) && names_training(stage);
      })) {
    // A race beside it compares networks alone: some of these genes forbid to continue.
    for (StageSpec& stage : recipe.stages) {
      if (races(stage) && stage.groups.empty()) stage.groups = searched_groups(*space, stage);
    }
    return with_training_genes(std::move(space));
  }
  const bool raced = std::ranges::any_of(recipe.stages, [&](const StageSpec& stage) {
    return races(stage) && (stage.groups.empty() || names_training(stage));
  });
  return raced ? with_training_genes(std::move(space), kRaceGenes) : std::move(space);
}

/// Of the data that the search is for (nas/search/prior.h).
std::vector<double> features_of(const Prepared& prepared) {
  return data_features(prepared.fingerprint,
                       std::ssize(prepared.data.channel_names),
                       prepared.data.labels.outputs(),
                       std::ssize(prepared.data.training));
}

/// The runs that --prior names, before any work.
std::vector<PriorRun> prior_runs(const SearchJobOptions& options, const Recipe& recipe) {
  if (options.prior == "none") return {};
  const bool raced = std::ranges::any_of(
      recipe.stages, [](const StageSpec& stage) { return stage.kind->continues; });
  NAS_CHECK_KIND(Usage,
                 raced,
                 "--prior orders the portfolio of a race; recipe ",
                 recipe.name,
                 " has none (auto has)");
  return read_prior_runs(options.prior);
}

/// The space's portfolio, ordered by what recorded runs say of it; said in the log. Empty: nobody
/// was asked.
std::vector<Starter> prior_portfolio(const std::vector<PriorRun>& runs, const Workbench& bench) {
  if (runs.empty()) return {};
  const std::vector<double> features = features_of(bench.prepared);
  std::vector<Starter> informed =
      informed_portfolio(*bench.space, bench.space->portfolio(), runs, features);
  for (const std::string& line : prior_words(*bench.space, informed, runs, features)) {
    log_info("prior: ", line);
  }
  return informed;
}

RunRecord make_record(const SearchJobOptions& options,
                      const Workbench& bench,
                      const Json& forecast,
                      const std::optional<WarmStart>& from) {
  const DataSet& data = bench.prepared.data;
  RunRecord run;
  run.command = options.command;
  run.data_folder = fs::absolute(options.data).lexically_normal().string();
  run.fold = options.fold;
  run.recipe_json = to_json(bench.recipe).dump();
  run.plan_json = to_json(bench.prepared.plan).dump();
  run.space_json = bench.space->describe().dump();
  Json setup{{"cases", to_json(bench.cases)},
             {"device", options.device},
             {"precision", options.precision},
             {"threads", options.threads},
             {"workers", options.workers},
             {"executor", options.executor},
             {"handlers", options.audience.handlers},
             {"keep", options.keep},
             {"processors", processor_count()},
             {"cache_key", bench.prepared.cache.key()},
             {"data",
              {{"name", data.name},
               {"layout", data.layout},
               {"channels", data.channel_names},
               {"labels", data.labels.names},
               {"training_cases", data.training.size()},
               {"splits", data.splits_source}}},
             {"data_record", data_record(bench.prepared)},
             {"fingerprint", to_json(bench.prepared.fingerprint)},
             {"features", features_of(bench.prepared)},
             {"forecast", forecast}};
  if (!bench.portfolio.empty()) setup["portfolio"] = to_json(bench.portfolio, *bench.space);
  if (from) setup["from"] = to_json(*from);
  add_data_options(setup, options.how);
  run.setup_json = setup.dump();
  run.budget = options.budget;
  run.seed = options.seed;
  run.code_version = options.code_version;
  run.created_unix = static_cast<std::int64_t>(std::time(nullptr));
  return run;
}

/// The space of a search, and of a description what it fills in: how data are prepared, the budget.
/// \param regions whether the data set has any. \param cases that a trial trains on.
std::unique_ptr<SearchSpace> search_space(SearchJobOptions& options,
                                          Recipe& recipe,
                                          Plan& plan,
                                          const std::string& configuration,
                                          bool regions,
                                          std::size_t cases) {
  if (!options.description) return recipe_space(recipe, plan.configuration(configuration));
  apply_data_setup(preview_space(*options.description).settings().data, plan, configuration);
  auto space = described_space(*options.description,
                               plan.configuration(configuration),
                               regions,
                               static_cast<std::int64_t>(cases));
  for (const std::string& note : space->notes()) log_info("note: ", note);
  if (!options.budget.is_one()) {
    options.budget.steps = space->settings().steps;
    NAS_CHECK_KIND(Usage,
                   options.budget.steps > 0,
                   options.description->where,
                   ": says neither steps nor epochs; give one of --budget, --effort and --steps");
  }
  return space;
}

/// What an earlier run gives this one, said in the log.
std::optional<WarmStart> begin_from(const SearchJobOptions& options, Workbench& bench) {
  if (options.from.empty()) return std::nullopt;
  const RunFolder earlier(options.from);
  NAS_CHECK_KIND(Usage,
                 has_database(earlier),
                 "--from ",
                 earlier.text(),
                 ": expected a run folder of a search, found none");
  const std::string name = fs::absolute(options.from).lexically_normal().string();
  WarmStart start = warm_start(open_to_read(earlier), name, *bench.space, options.from_best);
  add_observations(start, *bench.space, bench.recipe);
  log_info("from ",
           name,
           ": ",
           start.genotypes.size(),
           " genotype(s) are tried first, ",
           start.observations.size(),
           " trials are seen by strategies that learn from earlier runs");
  if (!start.differences.empty()) {
    log_info("its space is another one (",
             joined(start.differences, "; "),
             "): its scores are not used; ",
             start.left_out,
             " better genotype(s) are none of this run's space");
  }
  return start;
}

/// A search that is refused before its first trial leaves nothing behind that would block the next
/// start.
void forget_refused_run(std::optional<ResultsDb>& db, const RunFolder& folder) {
  if (!db || !db->trials().empty()) return;
  if (db->file() != folder.database()) {
    db->forget_run();
    std::error_code ignored;
    fs::remove(folder.database_pointer(), ignored);
    return;
  }
  db.reset();
  for (const auto& entry : fs::directory_iterator(folder.path())) {
    if (entry.path().filename().string().find(RunFolder::kDatabase) != std::string::npos) {
      std::error_code ignored;
      fs::remove(entry.path(), ignored);
    }
  }
}

/// A run that was begun with programs of the user needs the same again, from the user: what a file
/// says is not started.
void check_programs(const Reopened& opened, const SearchResumeOptions& options) {
  const auto check = [](const char* option, const std::string& begun, const std::string& given) {
    NAS_CHECK_KIND(Usage,
                   begun == given,
                   option,
                   ": the run was begun with ",
                   begun.empty() ? std::string("none") : "the program \"" + begun + "\"",
                   "; give the same again",
                   begun.empty() ? " (leave the option out)" : "");
  };
  std::string controller;
  for (const StageSpec& stage : opened.bench.recipe.stages) {
    if (!stage.kind->starts_programs) continue;
    const std::vector<std::string> words = stage.words("command");
    controller = words == shell_words(words.back()) ? words.back() : joined(words, " ");
  }
  check("--controller", controller, options.controller);
  check("--executor", opened.executor, options.executor);
}

/// Known, and by what the recipe's stages can compare.
void check_metric(const Recipe& recipe) {
  const std::string where = "recipe " + recipe.name + ": metric";
  metric_named(recipe.metric, where);
  if (recipe.metric == Recipe{}.metric) return;
  for (const StageSpec& stage : recipe.stages) {
    NAS_CHECK_KIND(Usage,
                   !compares_cases(stage) && !stage.kind->needs_super_network,
                   where,
                   ": stage ",
                   stage.name,
                   " (",
                   stage.kind->words,
                   ") compares by Dice only, found ",
                   recipe.metric);
  }
}

}  // namespace

Recipe effective_recipe(const SearchJobOptions& options) {
  Recipe recipe = options.description ? described_recipe(options.strategy, *options.description)
                                      : load_recipe(options.recipe, strategy_kinds());
  if (!options.space.empty()) {
    if (options.space != recipe.space) recipe.space_options = "{}";  // another space's
    recipe.space = options.space;
  }
  StageSpec& first = *std::ranges::find_if_not(recipe.stages, is_optional);
  if (options.trials > 0) {
    NAS_CHECK_KIND(Usage, !first.kind->final, "--trials: recipe ", recipe.name, " has no search");
    first.set(first.kind->trials_option, options.trials);
  }
  const auto replace = [](auto& value, const auto& wanted) {
    if (wanted > 0) value = wanted;
  };
  replace(recipe.limits.max_parameters, options.limits.max_parameters);
  replace(recipe.limits.max_macs, options.limits.max_macs);
  replace(recipe.limits.max_memory_bytes, options.limits.max_memory_bytes);
  replace(recipe.limits.max_step_seconds, options.limits.max_step_seconds);
  replace(recipe.limits.parameters_of_plan, options.limits.parameters_of_plan);
  bool raced = false;
  for (StageSpec& stage : recipe.stages) {
    if (!options.compare.empty() && stage.kind->final) stage.set("compare", options.compare);
    if (!stage.kind->continues) continue;
    raced = true;
    if (!options.goal.empty()) stage.set("goal", options.goal);
    if (options.margin) stage.set("margin", *options.margin);
  }
  NAS_CHECK_KIND(Usage,
                 raced || (options.goal.empty() && !options.margin),
                 "--goal and --margin are of a race; recipe ",
                 recipe.name,
                 " has none (auto has)");
  if (!options.controller.empty()) {
    NAS_CHECK_KIND(
        Usage, !first.kind->final, "--controller: recipe ", recipe.name, " has no search");
    StageSpec own = make_stage(external_kind(), first.name, first.share);
    own.groups = first.groups;
    own.set("command", shell_words(options.controller));
    if (options.trials > 0) own.set("trials", options.trials);
    recipe.stages.erase(recipe.stages.begin(), recipe.stages.end() - 1);
    recipe.stages.insert(recipe.stages.begin(), std::move(own));
  }
  if (options.stop_at) {
    for (StageSpec& stage : recipe.stages) {
      if (!stage.kind->final) stage.stop.score = options.stop_at;
    }
  }
  if (options.search_training) add_training_search(recipe);
  if (options.random_control) add_random_control(recipe);
  check_metric(recipe);
  return recipe;
}

SearchEnd start_search(const SearchJobOptions& given, double spent_seconds) {
  SearchJobOptions options = given;
  const auto clock = make_run_clock(options.budget.has_clock(), spent_seconds);
  NAS_CHECK_KIND(Usage,
                 options.budget.is_one() || options.description,
                 "give one of --budget, --effort and --steps");
  check_audience(options.audience);
  const RunFolder folder(options.run_folder);
  check_free(folder, options.recipe);

  Workbench bench;
  bench.recipe = effective_recipe(options);
  const std::vector<PriorRun> priors = prior_runs(options, bench.recipe);
  choose_device(options.device);  // a wrong name fails before any work
  share_processors(options);
  if (options.description && options.how.orientation.empty())
    options.how.orientation = preview_space(*options.description).settings().data.orientation;
  const PrepareOptions prepare{.data = options.data,
                               .fold = options.fold,
                               .how = options.how,
                               .threads = options.threads,
                               .show_progress = options.show_progress};
  NAS_CHECK_KIND(Usage, options.fold >= 0, "--fold: expected 0 or more, found ", options.fold);
  bench.prepared = open_fold(prepare);
  bench.cases = select_cases(bench.prepared.split, bench.recipe.validation, options.seed);
  log_cases(bench.prepared, bench.cases, options.fold);
  plan_fold(bench.prepared, prepare);
  log_plan(bench.prepared.plan.configuration(prepare.configuration));
  bench.space = search_space(options,
                             bench.recipe,
                             bench.prepared.plan,
                             prepare.configuration,
                             bench.prepared.data.labels.has_regions(),
                             bench.cases.inner_training.size());
  bench.portfolio = prior_portfolio(priors, bench);
  const std::optional<WarmStart> from = begin_from(options, bench);
  open_cache(bench.prepared, prepare);
  bench.make_evaluator(base_options(options.device, options.precision, options.threads),
                       folder,
                       options.show_progress);
  const Json forecast = make_forecast(bench, options.budget, clock);
  if (stop_requested()) {
    log_info(
        "stopped before the search began; nothing is lost but the time, give the command again");
    return SearchEnd::Stopped;
  }

  const RunRecord run = make_record(options, bench, forecast, from);
  const RunLock lock(folder);
  std::optional<ResultsDb> db = create_database(folder, options.database, run);
  try {
    if (run.budget.has_clock()) db->set_clock(clock());
    return run_and_report(bench,
                          *db,
                          folder,
                          clock,
                          {options.workers, options.threads, options.executor, options.audience});
  } catch (...) {
    forget_refused_run(db, folder);
    throw;
  }
}

SearchEnd resume_search(const SearchResumeOptions& options, double spent_seconds) {
  const RunFolder folder(options.run_folder);
  NAS_CHECK_KIND(Usage,
                 has_database(folder),
                 folder.text(),
                 ": expected a run folder with ",
                 RunFolder::kDatabase,
                 ", found none; a search that was killed before its first trial starts anew "
                 "without --resume");
  check_audience(options.audience);
  const RunLock lock(folder);
  remove_temporaries(folder.path());  // of killed writers
  ResultsDb db = open_to_write(folder);
  const auto clock = make_run_clock(db.run().budget.has_clock(), db.clock() + spent_seconds);
  Reopened opened;
  opened.open(db, folder, {.data = options.data, .show_progress = options.show_progress});
  check_programs(opened, options);
  const std::string workers = options.workers.empty() ? opened.workers : options.workers;
  return run_and_report(opened.bench,
                        db,
                        folder,
                        clock,
                        {workers, opened.base.threads, options.executor, options.audience});
}

}  // namespace nas
