// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "nas/core/run_folder.h"
#include "nas/jobs/workbench.h"
#include "nas/results/results_db.h"
#include "training/settings/options.h"

namespace nas {

struct ReopenOptions {
  std::filesystem::path data = {};  // where the data set lies now; empty: where it lay
  std::string device = {};          // instead of the run's
  int threads = -1;                 // instead of the run's; -1: as the run
  bool show_progress = true;
};

/// A run that is there, ready to go on: for a resumed search and for its workers.
struct Reopened {
  Workbench bench;
  TrainOptions base;  // device, precision and threads
  // As the search was begun with (`--workers`, `--executor`), "" for none.
  std::string workers, executor;

  /// \throws Error(Input) if the data set is no longer what the run began with, saying what
  /// differs. A data set that lies elsewhere now is recorded.
  void open(ResultsDb& database, const RunFolder& folder, const ReopenOptions& options);
};

TrainOptions base_options(const std::string& device, const std::string& precision, int threads);

}  // namespace nas
