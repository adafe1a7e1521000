// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "nas/core/run_folder.h"

namespace nas {

/// Worker processes of a run on this machine: one `voxnas worker` for each device. What they say
/// goes to RUN/workers/NAME.log. One that a signal ended is started again, three times at most; one
/// that ended by itself is not. Destroying the pool asks them to stop, waits for their checkpoints,
/// and ends those that take too long.
class WorkerPool {
 public:
  /// \param devices "cpu", "cuda:0", ... \param threads of each. \param program voxnas-torch.
  WorkerPool(RunFolder run,
             const std::vector<std::string>& devices,
             int threads,
             std::string executor = {},  // program of the user that carries out their trials
             std::filesystem::path program = {});
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  /// Looks after them. \returns how many live. \throws Error(Input) with the end of a log if none is
  /// left.
  std::int64_t tend();

 private:
  struct Process {
    std::string name, device;
    pid_t pid = -1;
    int restarts = 0;
    bool given_up = false;
  };
  void start(Process& process);
  std::filesystem::path log_of(const Process& process) const;

  RunFolder run_;
  int threads_;
  std::string executor_;
  std::filesystem::path program_;
  std::vector<Process> processes_;
};

}  // namespace nas
