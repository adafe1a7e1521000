// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/run_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "nas/core/error.h"
#include "nas/core/files.h"

namespace nas {

RunLock::RunLock(const RunFolder& run) {
  create_folder(run.path());
  descriptor_ = ::open(run.lock().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  NAS_CHECK_KIND(Io, descriptor_ >= 0, run.lock().string(), ": cannot open the lock file");
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    ::close(descriptor_);
    fail(ErrorKind::Usage, run.text(), ": another process is working on this run");
  }
}

RunLock::~RunLock() { ::close(descriptor_); }

}  // namespace nas
