// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "nas/results/results_db.h"

namespace nas {

/// Follows one run of a database that others may be writing, without writing anything. Nothing is
/// read from the database while nothing was committed (SQLite's data_version, and the files beside
/// it, which come and go with its writers).
class RunWatch {
 public:
  RunWatch(std::filesystem::path file, std::int64_t run);

  /// Whether something was committed since the last call; true the first time. \throws as
  /// ResultsDb::open_read_only, also where the run is no longer in the file; call it again then.
  bool changed();
  /// As of the last changed(). \throws Error(Internal) before it.
  const ResultsDb& database() const;

 private:
  std::filesystem::path file_;
  std::int64_t run_;
  std::optional<ResultsDb> database_;
  std::string state_;  // of the files
  std::int64_t version_ = 0;
};

}  // namespace nas
