// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace nas {

/// What `voxnas worker` was asked for.
struct WorkerJob {
  std::filesystem::path run_folder;
  std::string name;                 // unique within the run; "": host and process id
  std::string device;               // "": as the run
  int threads = -1;                 // 0: all; -1: as the run
  std::filesystem::path data = {};  // where the data set lies here; empty: where the run has it
  std::int64_t max_trials = 0;      // ends after so many; 0: never
  double idle_seconds = 0;          // ends after so long without a trial, and waits as long where
                                    // nobody leads the run; 0: ends when that is so
  std::string executor;             // program of the user that carries out search trials; "": none
  std::int64_t parent = 0;          // process that started it: ends with that one; 0: nobody
  std::string code_version;
};

/// Carries out trials of a run that another process leads (or will lead), until the run is over. A
/// stop (Ctrl-C, SIGTERM) leaves a checkpoint, and the trial goes back to the queue. \returns trials
/// that it finished. \throws Error(Input) if the data set is not the run's; Error(Usage) if another
/// worker of that name lives, or the run was begun by another version.
std::int64_t run_worker(const WorkerJob& job);

}  // namespace nas
