// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/leading/description_listener.h"

#include <map>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/json.h"
#include "nas/core/run_folder.h"
#include "search_spaces/config_space/config_space.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

class DescriptionListener : public SearchListener {
 public:
  DescriptionListener(const ConfigSpace& space, fs::path run_folder)
      : space_(space), folder_(std::move(run_folder)) {}
  std::string name() const override { return "descriptions of trials"; }

  void trial_started(const Trial& trial) override {
    if (trial.purpose == TrialPurpose::SuperNet || trial.genotype.values.empty()) return;
    const fs::path folder = folder_.trial(trial.id);
    fs::create_directories(folder);
    write_json(folder / "training.json", space_.concrete(trial.genotype));
    if (!space_.description().mmar) return;
    write_json(folder / "config_train.json", space_.resolved(trial.genotype));
    const fs::path names = folder_.path() / "automl";
    fs::create_directories(names);
    const std::string worker = worker_of(trial);
    const fs::path link = names / concat_text(worker, "_", ++numbers_[worker], "_J", trial.id);
    std::error_code exists;  // a trial that is repeated after a kill keeps its name
    fs::create_directory_symlink(fs::path("..") / RunFolder::trial_name(trial.id), link, exists);
  }

 private:
  /// Clara's names alone become names of files.
  static std::string worker_of(const Trial& trial) {
    const std::string& owner = trial.owner;
    const bool named = owner.size() > 1 && owner[0] == 'W' &&
                       owner.find_first_not_of("0123456789", 1) == std::string::npos;
    return named ? owner : "W1";
  }

  const ConfigSpace& space_;
  RunFolder folder_;
  std::map<std::string, std::int64_t> numbers_;  // trials by worker
};

}  // namespace

std::unique_ptr<SearchListener> make_description_listener(const SearchSpace& space,
                                                          const fs::path& run_folder) {
  const auto* described = dynamic_cast<const ConfigSpace*>(&space);
  if (described == nullptr) return nullptr;
  return std::make_unique<DescriptionListener>(*described, run_folder);
}

}  // namespace nas
