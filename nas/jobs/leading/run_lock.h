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
  /// A run that was refused before it wrote anything leaves nothing: the lock goes if it is all that
  /// the folder holds, and the folder if it was made here.
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  RunFolder run_;
  bool made_folder_ = false;
  int descriptor_ = -1;
};

}  // namespace nas
