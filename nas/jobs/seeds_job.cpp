// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/seeds_job.h"

#include <algorithm>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/log.h"
#include "nas/core/run_folder.h"
#include "nas/jobs/leading/run_lock.h"
#include "nas/jobs/prepare.h"
#include "nas/report/seeds.h"
#include "nas/results/run_database.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

/// What a repetition needs to know to begin its next seed after a kill.
Json to_json(const SearchJobOptions& o) {
  Json json{{"data", fs::absolute(o.data).lexically_normal().string()},
            {"fold", o.fold},
            {"seconds", o.budget.seconds},
            {"steps", o.budget.steps},
            {"effort", o.budget.effort},
            {"recipe", to_json(effective_recipe(o))},
            {"seed", o.seed},
            {"device", o.device},
            {"precision", o.precision},
            {"threads", o.threads},
            {"command", o.command},
            {"code_version", o.code_version}};
  add_data_options(json, o.how);
  return json;
}

SearchJobOptions job_from_json(const JsonReader& reader, const fs::path& recipe_file) {
  SearchJobOptions o;
  o.data = reader.at("data").text();
  o.fold = reader.at("fold").integer(0, 1 << 20);
  o.budget.seconds = reader.at("seconds").number();
  o.budget.steps = reader.at("steps").integer();
  if (reader.has("effort")) o.budget.effort = reader.at("effort").number();
  o.recipe = recipe_file.string();
  o.seed = static_cast<std::uint64_t>(reader.at("seed").integer());
  o.how = data_options_from_json(reader);
  o.device = reader.at("device").text();
  o.precision = reader.at("precision").text();
  o.threads = static_cast<int>(reader.at("threads").integer(0, 4096));
  o.command = reader.at("command").text();
  o.code_version = reader.at("code_version").text();
  return o;
}

void write_record(const RunFolder& folder, std::int64_t seeds, const Json& job) {
  write_json(folder.seeds_record(),
             {{"format", "voxnas.seeds"}, {"version", 1}, {"seeds", seeds}, {"job", job}});
}

SearchEnd run_seeds(const RunFolder& folder,
                    std::int64_t seeds,
                    const SearchJobOptions& all,
                    bool moved,
                    double spent_seconds) {
  std::vector<fs::path> runs;
  double spent = 0;
  // Belongs to the first search of this process alone: each has a clock of its own.
  const auto take_spent = [&] { return std::exchange(spent_seconds, 0); };
  for (std::int64_t i = 0; i < seeds; ++i) {
    SearchJobOptions job = all;
    job.seed = all.seed + static_cast<std::uint64_t>(i);
    const RunFolder run = folder.seed(job.seed);
    job.run_folder = run.path();
    if (all.budget.has_clock()) {
      job.budget.seconds = (all.budget.seconds - spent) / static_cast<double>(seeds - i);
    }
    log_info("seed ", job.seed, " (", i + 1, " of ", seeds, ")");
    SearchEnd end = SearchEnd::Finished;
    if (!has_database(run)) {
      end = start_search(job, take_spent());
    } else if (!fs::exists(run.report())) {
      end = resume_search({.run_folder = run.path(),
                           .data = moved ? all.data : fs::path(),
                           .show_progress = all.show_progress},
                          take_spent());
    }
    if (end == SearchEnd::Stopped) {
      log_info("to go on with all seeds:\n  voxnas search --resume ", folder.text());
      return end;
    }
    spent += open_to_read(run).clock();
    runs.push_back(run.path());
  }
  const Json summary = seeds_summary(runs);
  write_json(folder.summary(), summary);
  write_file_atomic(folder.report(), seeds_html(summary));
  log_info(seeds_sentence(summary));
  log_info("report ", folder.report().string());
  return SearchEnd::Finished;
}

/// Whether a seed has begun its trials.
bool any_seed_begun(const RunFolder& folder, std::uint64_t first, std::int64_t seeds) {
  for (std::int64_t i = 0; i < seeds; ++i) {
    if (has_database(folder.seed(first + static_cast<std::uint64_t>(i)))) return true;
  }
  return false;
}

}  // namespace

bool is_seeds_run(const fs::path& run_folder) {
  return fs::is_regular_file(RunFolder(run_folder).seeds_record());
}

SearchEnd start_seeds(const SearchJobOptions& options, std::int64_t seeds, double spent_seconds) {
  const RunFolder folder(options.run_folder);
  if (fs::exists(folder.path())) {
    for (const auto& entry : fs::directory_iterator(folder.path())) {
      std::error_code none;
      NAS_CHECK_KIND(Usage,
                     entry.path().filename() == RunFolder::kLock ||
                         fs::equivalent(entry.path(), options.recipe, none),
                     folder.text(),
                     ": expected a new or empty folder, found ",
                     entry.path().filename().string(),
                     "; `voxnas search --resume ",
                     folder.text(),
                     "` goes on with what is there");
    }
  }
  const Json job = to_json(options);
  const RunLock lock(folder);
  write_json(folder.recipe(), job.at("recipe"));
  write_record(folder, seeds, job);
  SearchJobOptions all = options;
  all.recipe = folder.recipe().string();
  all.space.clear();  // the recipe says it all now
  all.trials = 0;
  all.limits = {};
  all.random_control = all.search_training = false;
  try {
    return run_seeds(folder, seeds, all, /*moved=*/false, spent_seconds);
  } catch (...) {
    if (!any_seed_begun(folder, options.seed, seeds)) {
      // Refused before the first trial: nothing stays that would block the next start.
      std::error_code ignored;
      fs::remove(folder.seeds_record(), ignored);
      if (!fs::equivalent(folder.recipe(), options.recipe, ignored)) {
        fs::remove(folder.recipe(), ignored);
      }
      for (std::int64_t i = 0; i < seeds; ++i) {
        const RunFolder run = folder.seed(options.seed + static_cast<std::uint64_t>(i));
        fs::remove(run.lock(), ignored);
        fs::remove(run.path(), ignored);  // only if it is empty
      }
    }
    throw;
  }
}

SearchEnd resume_seeds(const SearchResumeOptions& options, double spent_seconds) {
  const RunFolder folder(options.run_folder);
  const RunLock lock(folder);
  const Json state = read_json(folder.seeds_record());
  const JsonReader reader(state, folder.seeds_record().string());
  const std::int64_t seeds = reader.at("seeds").integer(1, 1000);
  SearchJobOptions all = job_from_json(reader.at("job"), folder.recipe());
  all.show_progress = options.show_progress;
  const bool moved = !options.data.empty();
  if (moved) all.data = fs::absolute(options.data).lexically_normal();
  check_data_is_there(all.data, "voxnas search DATA --resume " + folder.text());
  if (moved) write_record(folder, seeds, to_json(all));
  return run_seeds(folder, seeds, all, moved, spent_seconds);
}

}  // namespace nas
