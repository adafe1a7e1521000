// SPDX-License-Identifier: Apache-2.0
#include "nas/results/run_watch.h"

#include <sys/stat.h>

#include <utility>

#include "nas/core/error.h"

namespace nas {
namespace {

/// Which file it is, and where nobody follows its writers, how it is.
std::string file_state(const std::string& file, bool contents) {
  struct stat s {};
  if (::stat(file.c_str(), &s) != 0) return "-";
  std::string state = concat_text(s.st_dev, ':', s.st_ino);
  if (contents) state += concat_text(':', s.st_size, ':', s.st_mtim.tv_sec, '.', s.st_mtim.tv_nsec);
  return state;
}

/// A database with log and index is followed through them; else a connection sees what was there
/// when it was opened.
std::string files_state(const std::filesystem::path& file) {
  const std::string name = file.string(), index = file_state(name + "-shm", false);
  const bool followed = index != "-" && file_state(name + "-wal", false) != "-";
  return concat_text(
      file_state(name, !followed), '/', file_state(name + "-wal", !followed), '/', index);
}

}  // namespace

RunWatch::RunWatch(std::filesystem::path file, std::int64_t run)
    : file_(std::move(file)), run_(run) {}

bool RunWatch::changed() {
  const std::string state = files_state(file_);
  if (!database_ || state != state_) {
    database_.reset();
    database_ = ResultsDb::open_read_only(file_, run_);
    version_ = database_->data_version();
    state_ = state;
    return true;
  }
  const std::int64_t version = database_->data_version();
  return std::exchange(version_, version) != version;
}

const ResultsDb& RunWatch::database() const {
  NAS_CHECK_KIND(Internal, database_.has_value(), file_.string(), ": not opened yet");
  return *database_;
}

}  // namespace nas
