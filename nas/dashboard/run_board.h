// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "nas/dashboard/live_run.h"
#include "nas/results/run_list.h"

namespace nas {

/// The runs of a dashboard, found in a run folder, a folder of runs, or a results database. Numbered
/// 1, 2, ... as they were found; a number stays. Thread-safe.
class RunBoard {
 public:
  /// \throws Error(Usage|Input|Io) if `place` holds no run, saying what was found.
  explicit RunBoard(std::filesystem::path place);

  /// The list as JSON; looks for new runs at most every two seconds.
  Json list();
  /// Null if there is no such run.
  std::shared_ptr<LiveRun> run(std::int64_t number);
  std::size_t size();

 private:
  std::vector<ListedRun> find() const;
  void look();
  std::filesystem::path place_;
  std::mutex mutex_;
  std::vector<ListedRun> listed_;
  std::vector<std::shared_ptr<LiveRun>> runs_;
  std::chrono::steady_clock::time_point looked_;
};

}  // namespace nas
