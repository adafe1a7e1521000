// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "nas/core/run_folder.h"
#include "nas/results/results_db.h"

namespace nas {

/// Where the rows of a run lie: RUN/results.sqlite, or, of a run begun with `--db`, another file,
/// which RUN/database.json names.
struct RunDatabase {
  std::filesystem::path file;
  std::int64_t run = 0;  // 0: the only one of the file
};

/// Whether a run lies in the folder.
bool has_database(const RunFolder& folder);

/// \throws Error(Input) if the folder has no run, or names a database that is not there.
RunDatabase find_database(const RunFolder& folder);

/// To look at: as ResultsDb::open_read_only.
ResultsDb open_to_read(const RunFolder& folder);

/// To go on. A shared database is written to only if its run says that it lies in this very folder:
/// no file that came with a folder decides on its own where we write. \throws Error(Usage) with the
/// two folders otherwise.
ResultsDb open_to_write(const RunFolder& folder);

/// Processes of one run are of one version. \param so what follows where they are not.
/// \throws Error(Usage) with both.
void check_code_version(const RunFolder& folder,
                        const RunRecord& run,
                        const std::string& ours,
                        const std::string& so);

/// A new run: in RUN/results.sqlite, or with `shared` in that file, beside others.
ResultsDb create_database(const RunFolder& folder,
                          const std::filesystem::path& shared,
                          RunRecord run);

}  // namespace nas
