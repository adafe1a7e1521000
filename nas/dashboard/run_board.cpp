// SPDX-License-Identifier: Apache-2.0
#include "nas/dashboard/run_board.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "nas/core/error.h"
#include "nas/report/text.h"
#include "nas/results/run_database.h"

namespace nas {

namespace fs = std::filesystem;

RunBoard::RunBoard(fs::path place) : place_(std::move(place)) {
  NAS_CHECK_KIND(Usage,
                 fs::exists(place_),
                 place_.string(),
                 ": expected a run folder, a folder of runs or a results database, found nothing");
  look();
  NAS_CHECK(!runs_.empty(),
            place_.string(),
            ": expected a run folder, a folder of runs or a results database, found a folder "
            "without any run");
}

std::vector<ListedRun> RunBoard::find() const {
  if (!fs::is_directory(place_)) return runs_of_database(place_);
  const RunFolder folder(place_);
  if (!has_database(folder)) return runs_below(place_);
  // A damaged database of the one run that was asked for is an error, not a shorter list.
  const RunDatabase database = find_database(folder);
  std::vector<ListedRun> all = runs_of_database(database.file);
  std::erase_if(
      all, [&](const ListedRun& run) { return database.run != 0 && run.entry.id != database.run; });
  for (ListedRun& run : all) run.folder = place_.string();  // also where it was moved
  return all;
}

void RunBoard::look() {
  std::vector<ListedRun> found = find();
  for (ListedRun& run : found) {
    const auto known = std::ranges::find_if(listed_, [&](const ListedRun& other) {
      return other.file == run.file && other.entry.id == run.entry.id;
    });
    if (known != listed_.end()) {
      *known = std::move(run);
      continue;
    }
    runs_.push_back(std::make_shared<LiveRun>(run.file, run.entry.id, run.folder));
    listed_.push_back(std::move(run));
  }
  looked_ = std::chrono::steady_clock::now();
}

Json RunBoard::list() {
  const std::lock_guard lock(mutex_);
  std::string problem;
  if (std::chrono::steady_clock::now() - looked_ > std::chrono::seconds(2)) {
    try {
      look();
    } catch (const Error& error) {
      problem = error.what();  // the last list stays
    }
  }
  Json runs = Json::array();
  for (std::size_t i = 0; i < listed_.size(); ++i) {
    const ListedRun& run = listed_[i];
    const RunEntry& e = run.entry;
    const fs::path folder(run.folder);
    runs.push_back({{"run", i + 1},
                    {"name",
                     folder.has_filename() ? folder.filename().string()
                                           : folder.parent_path().filename().string()},
                    {"folder", run.folder},
                    {"database", run.file.string()},
                    {"state", e.state},
                    {"data", run.data},
                    {"fold", e.run.fold},
                    {"recipe", run.recipe},
                    {"budget", to_text(e.run.budget)},
                    {"seed", e.run.seed},
                    {"trials", e.trials},
                    {"done", e.done},
                    {"score", e.best ? finite(*e.best) : Json(nullptr)},
                    {"network", e.best_text},
                    {"parameters", e.parameters},
                    {"macs", e.macs},
                    {"clock", e.clock},
                    {"created_unix", e.run.created_unix},
                    {"code_version", e.run.code_version}});
  }
  return {{"runs", std::move(runs)}, {"problem", problem}, {"place", place_.string()}};
}

std::shared_ptr<LiveRun> RunBoard::run(std::int64_t number) {
  const std::lock_guard lock(mutex_);
  if (number < 1 || number > std::ssize(runs_)) return nullptr;
  return runs_[static_cast<std::size_t>(number - 1)];
}

std::size_t RunBoard::size() {
  const std::lock_guard lock(mutex_);
  return runs_.size();
}

}  // namespace nas
