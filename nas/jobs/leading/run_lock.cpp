// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/leading/run_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>
#include <system_error>

#include "nas/core/error.h"
#include "nas/core/files.h"

namespace nas {

RunLock::RunLock(const RunFolder& run)
    : run_(run), made_folder_(!std::filesystem::exists(run.path())) {
  create_folder(run.path());
  descriptor_ = ::open(run.lock().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  NAS_CHECK_KIND(Io, descriptor_ >= 0, run.lock().string(), ": cannot open the lock file");
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    ::close(descriptor_);
    fail(ErrorKind::Usage, run.text(), ": another process is working on this run");
  }
}

RunLock::~RunLock() {
  std::error_code code;
  std::filesystem::directory_iterator entry(run_.path(), code);
  const bool bare = !code && entry != std::filesystem::directory_iterator() &&
                    entry->path() == run_.lock() &&
                    entry.increment(code) == std::filesystem::directory_iterator() && !code;
  if (bare) {
    std::filesystem::remove(run_.lock(), code);
    if (made_folder_) std::filesystem::remove(run_.path(), code);
  }
  ::close(descriptor_);
}

}  // namespace nas
