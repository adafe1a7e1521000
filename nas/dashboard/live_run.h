// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>
#include <vector>

#include "nas/core/json.h"
#include "nas/results/run_watch.h"

namespace nas {

/// One run as the dashboard follows it: its trials in memory in short, each with the number of the
/// change that it came with. An ended trial never changes again, so a look at a database of 10,000
/// reads what is new and what was open. Thread-safe.
class LiveRun {
 public:
  LiveRun(std::filesystem::path file, std::int64_t run, std::string folder);

  /// Looks for changes. \returns what is new for those that know everything before: as changes(),
  /// null if nothing is. What fails is kept for "problem": the last data stay.
  Json refresh();

  /// {"rev", "problem", "state", "clock", "trials": columns of those that changed after `rev`,
  /// "events"}. `rev` of another process, or "": all.
  Json changes(const std::string& rev);
  std::string rev();

  /// Calls `look` with the database, for what is not kept in memory. \throws Error if it cannot be
  /// opened.
  template <class Look>
  auto with_database(Look&& look) {
    const std::lock_guard lock(mutex_);
    if (!opened_) opened_ = (watch_.changed(), true);
    return look(watch_.database());
  }
  /// report_data() of what was last seen; computed at most every few seconds while the run goes on.
  Json report();

  const std::string& folder() const { return folder_; }
  const std::filesystem::path& file() const { return file_; }
  std::int64_t run() const { return run_; }
  std::vector<Trial> trials();  // in short

 private:
  struct Row {
    Trial trial;
    std::int64_t rev = 0;
  };
  void read_changes();
  Json changes_after(std::int64_t number);
  std::string rev_text() const;

  std::filesystem::path file_;
  std::int64_t run_;
  std::string folder_;
  std::mutex mutex_;
  RunWatch watch_;
  bool opened_ = false, loaded_ = false;
  std::vector<Row> rows_;  // by id
  std::vector<EventRecord> events_;
  std::vector<std::int64_t> event_revs_;
  std::string epoch_;  // of this object: a rev of another one says nothing here
  std::int64_t number_ = 0;
  std::string state_, problem_;
  double clock_ = 0;
  Json report_;
  std::int64_t report_number_ = -1;
  std::chrono::steady_clock::time_point report_time_;
};

/// Columns of trials, for tables: {"id": [...], "status": [...], ...}.
Json trial_columns(const std::vector<const Trial*>& trials);

}  // namespace nas
