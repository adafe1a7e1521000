// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/search_job.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "experiments/paper_tables/paper_tables.h"
#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/log.h"
#include "nas/core/progress.h"
#include "nas/core/threads.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/fingerprint.h"
#include "nas/imaging/nifti.h"
#include "nas/jobs/strategies.h"
#include "nas/report/report.h"
#include "nas/report/seeds.h"
#include "nas/search/forecast.h"
#include "nas/search/log_listener.h"
#include "search_spaces/planned_unet/planner.h"
#include "search_spaces/spaces.h"
#include "search_spaces/training_genes.h"
#include "supernet/super_evaluator.h"
#include "training/fit/fit.h"
#include "training/model/device.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDatabase = "results.sqlite";
constexpr const char* kConfiguration = "3d_fullres";

/// Seconds since this process began: loading LibTorch is part of what the user waits for.
double process_age_seconds() {
  std::ifstream in("/proc/self/stat");
  std::string text((std::istreambuf_iterator<char>(in)), {});
  std::istringstream fields(text.substr(std::min(text.size(), text.rfind(')') + 1)));
  std::string field;
  for (int i = 0; i < 20; ++i) fields >> field;  // the 22nd of the line: ticks from boot to start
  timespec now{};
  if (field.empty() || clock_gettime(CLOCK_BOOTTIME, &now) != 0) return 0;
  const double started =
      std::strtod(field.c_str(), nullptr) / static_cast<double>(sysconf(_SC_CLK_TCK));
  const double age =
      static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec) - started;
  return std::clamp(age, 0.0, 3600.0);
}

/// One search process per run folder. \throws Error(Usage) if another one works there.
class RunLock {
 public:
  explicit RunLock(const fs::path& run_folder) {
    const fs::path file = run_folder / "lock";
    descriptor_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    NAS_CHECK_KIND(Io, descriptor_ >= 0, file.string(), ": cannot open the lock file");
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      ::close(descriptor_);
      fail(ErrorKind::Usage, run_folder.string(), ": another process is working on this run");
    }
  }
  ~RunLock() { ::close(descriptor_); }
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  int descriptor_ = -1;
};

/// The doctor's quick look: every file is there and the grids of a case agree. Reads headers only.
void check_headers(const DataSet& data) {
  std::string findings;
  int count = 0;
  auto note = [&](const std::string& text) {
    if (++count <= 5) findings += "\n  " + text;
  };
  for (const CaseFiles& files : data.training) {
    try {
      const Geometry grid = read_nifti_header(files.images.at(0)).geometry;
      std::vector<fs::path> others(files.images.begin() + 1, files.images.end());
      NAS_CHECK(!files.label.empty(), files.id, ": a training case needs a label file");
      others.push_back(files.label);
      for (const fs::path& other : others) {
        const Geometry found = read_nifti_header(other).geometry;
        if (found.shape != grid.shape) {
          note(concat_text(other.string(),
                           ": expected shape ",
                           to_text(grid.shape),
                           ", found ",
                           to_text(found.shape)));
        }
      }
    } catch (const Error& error) {
      note(error.what());
    }
  }
  NAS_CHECK(count == 0,
            data.folder.string(),
            ": ",
            count,
            " file(s) are not fit for training; `voxnas doctor ",
            data.folder.string(),
            "` tells all:",
            findings);
}

/// The data set with the fold's training cases only: what planning may see.
DataSet without_held_out(const DataSet& data, const CaseSelection& cases) {
  DataSet seen = data;
  const std::set<std::string> wanted(cases.training.begin(), cases.training.end());
  std::erase_if(seen.training, [&](const CaseFiles& f) { return !wanted.contains(f.id); });
  return seen;
}

/// Everything that a run needs in memory, for a new run and for a resumed one.
struct Workbench {
  DataSet data;
  Plan plan;
  Preprocessing preprocessing;
  CaseCache cache;
  CaseSelection cases;
  Recipe recipe;
  std::unique_ptr<SearchSpace> space;
  std::unique_ptr<SuperEvaluator> evaluator;

  void open_cache(int threads, bool show_progress) {
    preprocessing = make_preprocessing(plan, kConfiguration, data.channel_names, data.label_names);
    cache = open_case_cache(default_cache_root(), data, preprocessing, threads, show_progress);
  }
  void make_evaluator(const TrainOptions& base, const fs::path& run_folder, bool show_progress) {
    TrainEvaluatorSetup setup;
    setup.space = space.get();
    setup.configuration = plan.configuration(kConfiguration);
    setup.preprocessing = preprocessing;
    setup.data = &data;
    setup.cache = &cache;
    setup.cases = cases;
    setup.base = base;
    setup.run_folder = run_folder;
    setup.show_progress = show_progress;
    evaluator = std::make_unique<SuperEvaluator>(std::move(setup));
  }
};

/// What the budget will buy, as JSON for the record and as lines for the user. \throws Error(Usage)
/// if it buys nothing.
Json make_forecast(Workbench& bench, const Budget& budget, const std::function<double()>& clock) {
  const Recipe& recipe = bench.recipe;
  const Genotype baseline = bench.space->baseline();
  const TrialCost cost = bench.evaluator->describe(baseline);
  Json forecast = {
      {"budget", to_text(budget)},
      {"baseline",
       {{"parameters", cost.parameters}, {"macs", cost.macs}, {"memory_bytes", cost.memory_bytes}}},
      {"space_size", bench.space->count()}};
  std::vector<std::string> lines, cannot;
  SearchProbes probes;
  Probe &search_probe = probes.search, &retrain_probe = probes.retrain;
  if (budget.has_clock()) {
    double smallest = 0;
    const bool needs_candidates =
        std::any_of(recipe.stages.begin(), recipe.stages.end(), [](const StageSpec& stage) {
          return stage.kind == "single_path";
        });
    auto measure = [&] {
      search_probe = bench.evaluator->probe(baseline, TrialPurpose::Search);
      retrain_probe = bench.evaluator->probe(baseline, TrialPurpose::Retrain);
      if (bench.space->start() != baseline) {
        probes.start = bench.evaluator->probe(bench.space->start(), TrialPurpose::Search);
      }
      if (needs_candidates) {
        probes.candidate_seconds =
            bench.evaluator->probe(bench.space->start(), TrialPurpose::Inherited)
                .evaluation_seconds;
      }
      smallest = smallest_budget_seconds(recipe, clock(), search_probe, retrain_probe);
    };
    measure();
    if (budget.seconds < smallest && budget.seconds > 0.1 * smallest) {
      // Two steps may have met a busy moment of the machine: nobody is turned away because of that.
      bench.evaluator->trainer().probe_again(6);
      measure();
    }
    NAS_CHECK_KIND(Usage,
                   budget.seconds >= smallest,
                   "a budget of ",
                   to_text(budget),
                   " cannot buy a search of this data set on this machine: a step of the planned "
                   "network takes ",
                   format_duration(search_probe.step_seconds),
                   ", scoring the held-out cases ",
                   format_duration(retrain_probe.evaluation_seconds),
                   "; give --budget ",
                   static_cast<std::int64_t>(std::ceil(smallest / 10) * 10),
                   "s or more, or --steps n");
    forecast["probe"] = {{"step_seconds", search_probe.step_seconds},
                         {"inner_validation_seconds", search_probe.evaluation_seconds},
                         {"held_out_seconds", retrain_probe.evaluation_seconds},
                         {"prepared_seconds", clock()}};
    lines.push_back(concat_text("probe: ",
                                format_duration(search_probe.step_seconds),
                                " a step of ",
                                kSmallestBatch,
                                " patches; scoring ",
                                format_duration(search_probe.evaluation_seconds),
                                " (",
                                bench.cases.inner_validation.size(),
                                " inner validation cases), ",
                                format_duration(retrain_probe.evaluation_seconds),
                                " (",
                                bench.cases.held_out.size(),
                                " held-out cases)"));
    lines.push_back(concat_text("preparation took ", format_duration(clock())));
  }
  Json stages = Json::array();
  std::int64_t final_steps = budget.steps;
  const auto stage_forecasts = forecast_stages(recipe, budget, clock(), probes);
  for (const StageForecast& stage : stage_forecasts) {
    if (stage.kind == "retrain") final_steps = stage.trials.front().steps;
    lines.push_back(to_text(stage));
    stages.push_back(to_json(stage));
  }
  forecast["stages"] = std::move(stages);
  lines.push_back(concat_text("memory: about ",
                              format_bytes(static_cast<double>(cost.memory_bytes)),
                              " for a step of the planned network"));
  if (final_steps < kLongSteps) {
    std::string text = concat_text("nnU-Net's own recipe (250,000 steps");
    if (budget.has_clock()) {
      text += concat_text(
          ": about ",
          format_duration(250000.0 * bench.evaluator->trainer().step_seconds(
                                         baseline, bench.plan.configuration(kConfiguration).batch)),
          " here");
    }
    cannot.push_back(text + "); a short schedule is used instead");
  }
  std::int64_t most = 0;
  for (const StageForecast& stage : stage_forecasts) {
    if (stage.kind == "retrain") continue;
    for (const TrialForecast& t : stage.trials) most = std::max(most, t.steps > 0 ? t.count : 0);
  }
  cannot.push_back(concat_text("own trainings of more than ",
                               most,
                               " of the space's ",
                               format_count(bench.space->count()),
                               " networks"));
  forecast["cannot_buy"] = cannot;
  log_info("forecast for ", to_text(budget), ":");
  for (const std::string& line : lines) log_info("  ", line);
  for (const std::string& line : cannot) log_info("  not in this budget: ", line);
  return forecast;
}

/// RUN/model becomes a copy of the delivered one of RUN/best and RUN/baseline.
void deliver_model(const fs::path& run_folder, const std::vector<Trial>& trials) {
  const fs::path staging = run_folder / "model.new";
  fs::remove_all(staging);
  fs::copy(run_folder / delivered_label(trials), staging, fs::copy_options::recursive);
  fs::remove_all(run_folder / "model");
  fs::rename(staging, run_folder / "model");
}

SearchEnd run_and_report(Workbench& bench,
                         ResultsDb& db,
                         const RunRecord& run,
                         const fs::path& run_folder,
                         const std::function<double()>& clock) {
  const auto listener = make_log_listener(clock);
  SearchSetup setup;
  setup.database = &db;
  setup.space = bench.space.get();
  setup.evaluator = bench.evaluator.get();
  setup.recipe = bench.recipe;
  setup.budget = run.budget;
  setup.seed = run.seed;
  setup.strategies = make_strategy;
  setup.clock = clock;
  setup.should_stop = stop_requested;
  setup.folder = run_folder;
  setup.listeners = {listener.get()};
  const SearchEnd end = run_search(setup);
  if (end == SearchEnd::Stopped) {
    if (run.budget.has_clock()) db.set_clock(clock());
    log_info("stopped; go on with\n  voxnas search --resume ", run_folder.string());
    return end;
  }
  deliver_model(run_folder, db.trials());
  if (run.budget.has_clock()) db.set_clock(clock());
  const fs::path report = run_folder / "report.html";
  write_file_atomic(report,
                    html_report(run_folder, {.sections = tables_report_section(run_folder)}));
  if (run.budget.has_clock()) db.set_clock(clock());
  const Json summary = report_data(run_folder);
  log_info(summary.at("verdict").get<std::string>());
  log_info("model  ", (run_folder / "model").string());
  log_info("report ", report.string());
  if (run.budget.has_clock()) {
    log_info("spent ", format_duration(clock()), " of ", format_duration(run.budget.seconds));
  }
  return end;
}

TrainOptions base_options(const std::string& device, const std::string& precision, int threads) {
  TrainOptions base;
  base.device = device;
  base.precision = precision;
  base.threads = threads;
  return base;
}

}  // namespace

Recipe effective_recipe(const SearchJobOptions& options) {
  Recipe recipe = load_recipe(options.recipe, strategy_names());
  if (!options.space.empty()) {
    if (options.space != recipe.space) recipe.space_options = "{}";  // another space's
    recipe.space = options.space;
  }
  if (options.trials > 0) {
    StageSpec& first = recipe.stages.front();
    (first.is_supernet() ? first.rank_trials : first.trials) = options.trials;
  }
  const auto replace = [](auto& value, const auto& wanted) {
    if (wanted > 0) value = wanted;
  };
  replace(recipe.limits.max_parameters, options.limits.max_parameters);
  replace(recipe.limits.max_macs, options.limits.max_macs);
  replace(recipe.limits.max_memory_bytes, options.limits.max_memory_bytes);
  replace(recipe.limits.max_step_seconds, options.limits.max_step_seconds);
  replace(recipe.limits.parameters_of_plan, options.limits.parameters_of_plan);
  if (options.search_training) add_training_search(recipe);
  if (options.random_control) add_random_control(recipe);
  return recipe;
}

SearchEnd start_search(const SearchJobOptions& options) {
  const double age = process_age_seconds();
  const auto began = std::chrono::steady_clock::now();
  const bool has_clock = options.budget.has_clock();
  const std::function<double()> clock = [=] {
    return has_clock
               ? age +
                     std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count()
               : 0.0;
  };
  NAS_CHECK_KIND(Usage,
                 (options.budget.seconds > 0) != (options.budget.steps > 0),
                 "give either --budget or --steps");
  const fs::path& run_folder = options.run_folder;
  check_writable(run_folder);  // now, not after the forecast
  NAS_CHECK_KIND(Usage,
                 !fs::exists(run_folder / kDatabase),
                 run_folder.string(),
                 ": holds a run already; go on with `voxnas search --resume ",
                 run_folder.string(),
                 "` or choose another folder");
  if (fs::exists(run_folder)) {
    for (const auto& entry : fs::directory_iterator(run_folder)) {
      const std::string name = entry.path().filename().string();
      // Left behind by a start that was killed before its first record.
      const bool ours = name == "lock" || name.find(kDatabase) != std::string::npos;
      NAS_CHECK_KIND(
          Usage, ours, run_folder.string(), ": expected a new or empty folder, found ", name);
    }
  }

  Workbench bench;
  bench.recipe = effective_recipe(options);
  const TrainOptions base = base_options(options.device, options.precision, options.threads);
  choose_device(options.device);  // a wrong name fails before any work

  bench.data = open_data_set(options.data);
  check_headers(bench.data);
  NAS_CHECK_KIND(
      Usage,
      options.fold >= 0 && options.fold < static_cast<std::int64_t>(bench.data.splits.size()),
      "--fold: expected 0 to ",
      static_cast<std::int64_t>(bench.data.splits.size()) - 1,
      " (",
      bench.data.splits_source,
      "), found ",
      options.fold);
  bench.cases = select_cases(bench.data.splits[static_cast<std::size_t>(options.fold)],
                             bench.recipe.validation,
                             options.seed);
  log_info(bench.data.name,
           ": ",
           bench.cases.training.size(),
           " training cases (",
           bench.cases.inner_validation.size(),
           " of them validate search trials), ",
           bench.cases.held_out.size(),
           " held out, fold ",
           options.fold,
           " of ",
           bench.data.splits_source);

  // Neither the plan nor anything else sees the held-out cases before the final comparison.
  const DataSet seen = without_held_out(bench.data, bench.cases);
  const Fingerprint fingerprint = compute_fingerprint(seen, options.threads, options.show_progress);
  bench.plan = make_plan(fingerprint, planner_facts(seen), {.planner = options.planner});
  const Configuration& planned = bench.plan.configuration(kConfiguration);
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
  bench.space = space_for_plan(
      bench.recipe.space, planned, parse_json(bench.recipe.space_options, "recipe: space_options"));
  const auto searches_training = [](const StageSpec& stage) {
    return std::find(stage.groups.begin(), stage.groups.end(), "training") != stage.groups.end();
  };
  if (std::any_of(bench.recipe.stages.begin(), bench.recipe.stages.end(), searches_training)) {
    bench.space = with_training_genes(std::move(bench.space));
  }
  bench.open_cache(options.threads, options.show_progress);
  bench.make_evaluator(base, run_folder, options.show_progress);
  const Json forecast = make_forecast(bench, options.budget, clock);
  if (stop_requested()) {
    log_info(
        "stopped before the search began; nothing is lost but the time, give the command again");
    return SearchEnd::Stopped;
  }

  RunRecord run;
  run.command = options.command;
  run.data_folder = fs::absolute(options.data).lexically_normal().string();
  run.fold = options.fold;
  run.recipe_json = to_json(bench.recipe).dump();
  run.plan_json = to_json(bench.plan).dump();
  run.space_json = bench.space->describe().dump();
  run.setup_json = Json{
      {"cases", to_json(bench.cases)},
      {"device", options.device},
      {"precision", options.precision},
      {"threads", options.threads},
      {"processors", processor_count()},
      {"cache_key", bench.cache.key()},
      {"data",
       {{"name", bench.data.name},
        {"layout", bench.data.layout},
        {"channels", bench.data.channel_names},
        {"labels", bench.data.label_names},
        {"training_cases", bench.data.training.size()},
        {"splits", bench.data.splits_source}}},
      {"fingerprint", to_json(fingerprint)},
      {"forecast",
       forecast}}.dump();
  run.budget = options.budget;
  run.seed = options.seed;
  run.code_version = options.code_version;
  run.created_unix = static_cast<std::int64_t>(std::time(nullptr));
  create_folder(run_folder);
  const RunLock lock(run_folder);
  ResultsDb db = ResultsDb::create(run_folder / kDatabase, run);
  if (has_clock) db.set_clock(clock());
  return run_and_report(bench, db, run, run_folder, clock);
}

namespace {

constexpr const char* kSeedsFile = "seeds.json";

/// What a repetition needs to know to begin its next seed after a kill.
Json to_json(const SearchJobOptions& o) {
  return {{"data", fs::absolute(o.data).lexically_normal().string()},
          {"fold", o.fold},
          {"seconds", o.budget.seconds},
          {"steps", o.budget.steps},
          {"recipe", to_json(effective_recipe(o))},
          {"seed", o.seed},
          {"planner", o.planner},
          {"device", o.device},
          {"precision", o.precision},
          {"threads", o.threads},
          {"command", o.command},
          {"code_version", o.code_version}};
}

SearchJobOptions job_from_json(const JsonReader& reader, const fs::path& recipe_file) {
  SearchJobOptions o;
  o.data = reader.at("data").text();
  o.fold = reader.at("fold").integer(0, 1 << 20);
  o.budget.seconds = reader.at("seconds").number();
  o.budget.steps = reader.at("steps").integer();
  o.recipe = recipe_file.string();
  o.seed = static_cast<std::uint64_t>(reader.at("seed").integer());
  o.planner = reader.at("planner").text();
  o.device = reader.at("device").text();
  o.precision = reader.at("precision").text();
  o.threads = static_cast<int>(reader.at("threads").integer(0, 4096));
  o.command = reader.at("command").text();
  o.code_version = reader.at("code_version").text();
  return o;
}

SearchEnd run_seeds(const fs::path& folder, bool show_progress) {
  const Json state = read_json(folder / kSeedsFile);
  const JsonReader reader(state, (folder / kSeedsFile).string());
  const std::int64_t seeds = reader.at("seeds").integer(1, 1000);
  const SearchJobOptions all = job_from_json(reader.at("job"), folder / "recipe.json");
  std::vector<fs::path> runs;
  double spent = 0;
  for (std::int64_t i = 0; i < seeds; ++i) {
    SearchJobOptions job = all;
    job.seed = all.seed + static_cast<std::uint64_t>(i);
    job.run_folder = seed_folder(folder, job.seed);
    job.show_progress = show_progress;
    if (all.budget.has_clock()) {
      job.budget.seconds = (all.budget.seconds - spent) / static_cast<double>(seeds - i);
    }
    log_info("seed ", job.seed, " (", i + 1, " of ", seeds, ")");
    SearchEnd end = SearchEnd::Finished;
    const bool begun = fs::exists(job.run_folder / kDatabase);
    if (!begun) {
      end = start_search(job);
    } else if (!fs::exists(job.run_folder / "report.html")) {
      end = resume_search(job.run_folder, show_progress);
    }
    if (end == SearchEnd::Stopped) {
      log_info("to go on with all seeds:\n  voxnas search --resume ", folder.string());
      return end;
    }
    spent += ResultsDb::open(job.run_folder / kDatabase).clock();
    runs.push_back(job.run_folder);
  }
  const Json summary = seeds_summary(runs);
  write_json(folder / "summary.json", summary);
  write_file_atomic(folder / "report.html", seeds_html(summary));
  log_info(seeds_sentence(summary));
  log_info("report ", (folder / "report.html").string());
  return SearchEnd::Finished;
}

}  // namespace

SearchEnd start_seeds(const SearchJobOptions& options, std::int64_t seeds) {
  const fs::path& folder = options.run_folder;
  NAS_CHECK_KIND(Usage,
                 !fs::exists(folder) || fs::is_empty(folder),
                 folder.string(),
                 ": expected a new or empty folder; `voxnas search --resume ",
                 folder.string(),
                 "` goes on with what is there");
  const Json job = to_json(options);
  create_folder(folder);
  write_json(folder / "recipe.json", job.at("recipe"));
  write_json(folder / kSeedsFile,
             {{"format", "voxnas.seeds"}, {"version", 1}, {"seeds", seeds}, {"job", job}});
  return run_seeds(folder, options.show_progress);
}

SearchEnd resume_search(const fs::path& run_folder, bool show_progress) {
  if (fs::is_regular_file(run_folder / kSeedsFile)) return run_seeds(run_folder, show_progress);
  const double age = process_age_seconds();
  const auto began = std::chrono::steady_clock::now();
  NAS_CHECK_KIND(Usage,
                 fs::is_regular_file(run_folder / kDatabase),
                 run_folder.string(),
                 ": expected a run folder with ",
                 kDatabase,
                 ", found none; a search that was killed before its first trial starts anew "
                 "without --resume");
  const RunLock lock(run_folder);
  ResultsDb db = ResultsDb::open(run_folder / kDatabase);
  const RunRecord run = db.run();
  const std::string where = (run_folder / kDatabase).string();
  const double before = db.clock();
  const std::function<double()> clock = [=] {
    return run.budget.has_clock()
               ? before + age +
                     std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count()
               : 0.0;
  };
  Workbench bench;
  bench.recipe = recipe_from_json(parse_json(run.recipe_json, where), where, strategy_names());
  bench.plan = plan_from_json(parse_json(run.plan_json, where), where);
  const Json setup = parse_json(run.setup_json, where);
  const JsonReader reader(setup, where);
  bench.cases = case_selection_from_json(reader.at("cases").json(), where);
  const TrainOptions base = base_options(reader.at("device").text(),
                                         reader.at("precision").text(),
                                         static_cast<int>(reader.at("threads").integer(0, 4096)));
  bench.data = open_data_set(run.data_folder);
  bench.space = make_space(parse_json(run.space_json, where));
  bench.open_cache(base.threads, show_progress);
  NAS_CHECK(bench.cache.key() == reader.at("cache_key").text(),
            run.data_folder,
            ": the data set has changed since the run began (content hash ",
            reader.at("cache_key").text(),
            " then, ",
            bench.cache.key(),
            " now); start a new run");
  if (reader.at("processors").integer() != processor_count()) {
    log_warning("the run began on ",
                reader.at("processors").integer(),
                " processors, here are ",
                processor_count(),
                ": times and last digits may differ");
  }
  bench.make_evaluator(base, run_folder, show_progress);
  return run_and_report(bench, db, run, run_folder, clock);
}

}  // namespace nas
