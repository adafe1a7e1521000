// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/leading/keep_listener.h"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/run_folder.h"
#include "nas/search/strategy_kind.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

constexpr std::array kKept = {"settings.json", "training.json", "config_train.json", "log.txt"};
constexpr const char* kEvents = "events.out.tfevents.";
constexpr const char* kSettings = "settings.json";
constexpr const char* kKey = "key";

bool stays(const std::string& name) {
  return name.starts_with(kEvents) || std::ranges::find(kKept, name) != kKept.end();
}

class KeepListener : public SearchListener {
 public:
  KeepListener(const fs::path& run_folder, std::int64_t most) : folder_(run_folder), most_(most) {}
  std::string name() const override { return "keeping the best"; }

  void search_started(const SearchSpace&, const Recipe& recipe) override {
    for (const StageSpec& stage : recipe.stages) {
      if (stage.kind->continues || stage.kind->final) untouched_.insert(stage.name);
    }
    for (const Trial& trial : store().trials()) {
      if (trial.source > 0) sources_.insert(trial.source);
      if (!is_open(trial.status)) ended(trial);
    }
  }
  void stage_started(const StageSpec& stage,
                     const StageBudget&,
                     const Genotype&,
                     std::int64_t) override {
    remove_link();
    if (stage.kind->final) return;
    if (const auto best = store().best_trial(stage.name)) link(*best);
  }
  void trial_started(const Trial& trial) override {
    if (trial.source > 0) sources_.insert(trial.source);
  }
  void trial_ended(const Trial& trial) override {
    if (!is_open(trial.status)) ended(trial);
  }
  void best_improved(const Trial& trial) override { link(trial); }

 private:
  // Best last: rung, score, and of equal ones the earlier.
  using Place = std::tuple<int, double, std::int64_t>;

  void ended(const Trial& trial) {
    if (trial.purpose != TrialPurpose::Search || untouched_.contains(trial.stage)) return;
    if (trial.folder_state == kKey) return;
    if (trial.status != TrialStatus::Done) {
      reduce(trial.id);
      return;
    }
    std::set<Place>& kept = kept_[trial.stage];
    kept.emplace(trial.rung, trial.evaluation.score, -trial.id);
    if (std::cmp_less_equal(kept.size(), most_)) return;
    const std::int64_t worst = -std::get<2>(*kept.begin());
    kept.erase(kept.begin());
    reduce(worst);
  }

  /// Files first: after a kill between the two it is done again.
  void reduce(std::int64_t id) {
    if (sources_.contains(id)) return;
    const fs::path folder = folder_.trial(id);
    const auto trial = store().trial(id);
    if (!trial) return;
    if (fs::is_directory(folder) && !fs::is_symlink(folder)) {
      if (!trial->settings.empty()) write_file_atomic(folder / kSettings, trial->settings);
      std::vector<fs::path> away;
      for (const auto& entry : fs::directory_iterator(folder)) {
        if (!stays(entry.path().filename().string())) away.push_back(entry.path());
      }
      for (const fs::path& path : away) fs::remove_all(path);
    }
    store().set_folder_state(id, kKey);
  }

  void link(const Trial& trial) {
    if (!remove_link()) return;  // a model lies there
    const fs::path target = RunFolder::trial_name(trial.id);
    const fs::path place = folder_.final_model("best");
    const fs::path temporary = temporary_name(place);
    fs::create_directory_symlink(target, temporary);
    fs::rename(temporary, place);
  }

  /// \returns whether nothing is there now.
  bool remove_link() const {
    const fs::path place = folder_.final_model("best");
    if (fs::is_symlink(place)) fs::remove(place);
    return !fs::exists(place);
  }

  const RunFolder folder_;
  const std::int64_t most_;
  std::map<std::string, std::set<Place>> kept_;  // by stage
  std::set<std::string> untouched_;              // stages
  std::set<std::int64_t> sources_;
};

}  // namespace

std::unique_ptr<SearchListener> make_keep_listener(const fs::path& run_folder, std::int64_t most) {
  return std::make_unique<KeepListener>(run_folder, most);
}

}  // namespace nas
