// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

namespace nas {

/// The layout of a run folder: where `search` and `train` put what, by name. Names alone: it opens
/// and creates nothing. docs/formats.md describes the contents.
class RunFolder {
 public:
  explicit RunFolder(std::filesystem::path folder) : folder_(std::move(folder)) {}
  const std::filesystem::path& path() const { return folder_; }
  std::string text() const { return folder_.string(); }

  // Every run.
  std::filesystem::path lock() const { return folder_ / kLock; }
  std::filesystem::path model() const { return folder_ / "model"; }
  std::filesystem::path predictions() const { return folder_ / "predictions"; }

  // A search.
  std::filesystem::path database() const { return folder_ / kDatabase; }
  std::filesystem::path workers() const { return folder_ / "workers"; }  // their logs
  /// Instead of the database: says which file of several runs has this one's rows.
  std::filesystem::path database_pointer() const { return folder_ / "database.json"; }
  std::filesystem::path trial(std::int64_t id) const { return folder_ / trial_name(id); }
  /// The model of a final training: label "best", "baseline" or "control".
  std::filesystem::path final_model(const std::string& label) const { return folder_ / label; }
  std::filesystem::path predictions(const std::string& label) const {
    return predictions() / label;
  }
  std::filesystem::path report() const { return folder_ / "report.html"; }
  std::filesystem::path recipe() const { return folder_ / "recipe.json"; }
  /// The training over folds of what was delivered.
  std::filesystem::path folds() const { return folder_ / "folds"; }

  // A search of several seeds.
  std::filesystem::path seeds_record() const { return folder_ / "seeds.json"; }
  RunFolder seed(std::uint64_t seed) const {
    return RunFolder(folder_ / (std::string(kSeedPrefix) + std::to_string(seed)));
  }
  std::filesystem::path summary() const { return folder_ / "summary.json"; }

  // A training.
  std::filesystem::path training_record() const { return folder_ / "training.json"; }
  std::filesystem::path fingerprint() const { return folder_ / "fingerprint.json"; }
  std::filesystem::path network() const { return folder_ / "network.json"; }
  std::filesystem::path metrics() const { return folder_ / "metrics.json"; }

  // A training over folds.
  std::filesystem::path folds_record() const { return folder_ / "folds.json"; }
  RunFolder fold(std::size_t index) const {
    return RunFolder(folder_ / ("fold_" + std::to_string(index)));
  }

  /// Of a trial's folder, relative to the run folder, as the results database records it.
  static std::string trial_name(std::int64_t id) { return "trials/" + std::to_string(id); }
  /// Where a training that was interrupted goes on from; `folder` is a run's or a trial's.
  static std::filesystem::path checkpoint(const std::filesystem::path& folder) {
    return folder / "checkpoint.pt";
  }

  static constexpr const char* kDatabase = "results.sqlite";
  static constexpr const char* kLock = "lock";
  static constexpr std::string_view kSeedPrefix = "seed_";

 private:
  std::filesystem::path folder_;
};

}  // namespace nas
