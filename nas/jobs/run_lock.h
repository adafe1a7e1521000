// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nas/core/run_folder.h"

namespace nas {

/// One process per run: an advisory lock (flock) on RUN/lock, given back by the kernel however the
/// process ends.
class RunLock {
 public:
  /// Creates the folder if needed. \throws Error(Usage) if another process works on this run.
  explicit RunLock(const RunFolder& run);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  int descriptor_ = -1;
};

}  // namespace nas
