// SPDX-License-Identifier: Apache-2.0
#include "nas/results/run_database.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/json.h"
#include "nas/results/process.h"

namespace nas {

namespace fs = std::filesystem;

bool has_database(const RunFolder& folder) {
  return fs::exists(folder.database()) || fs::exists(folder.database_pointer());
}

RunDatabase find_database(const RunFolder& folder) {
  if (fs::exists(folder.database()) || !fs::exists(folder.database_pointer())) {
    return {.file = folder.database()};
  }
  const std::string where = folder.database_pointer().string();
  const Json pointer = read_json(where);
  const JsonReader reader(pointer, where);
  RunDatabase found{.file = reader.at("file").text(),
                    .run = reader.at("run").integer(1, INT64_MAX)};
  NAS_CHECK(fs::is_regular_file(found.file),
            where,
            ": the rows of this run lie in ",
            found.file.string(),
            ", and there is no such file");
  return found;
}

ResultsDb open_to_read(const RunFolder& folder) {
  const RunDatabase found = find_database(folder);
  return ResultsDb::open_read_only(found.file, found.run);
}

ResultsDb open_to_write(const RunFolder& folder) {
  const RunDatabase found = find_database(folder);
  if (found.run == 0) return ResultsDb::open(found.file);
  const std::string recorded = ResultsDb::open_read_only(found.file, found.run).run().folder;
  const std::string here = fs::weakly_canonical(fs::absolute(folder.path())).string();
  NAS_CHECK_KIND(Usage,
                 recorded == here,
                 folder.text(),
                 ": run ",
                 found.run,
                 " of ",
                 found.file.string(),
                 " lies in ",
                 recorded,
                 ", not here: it can be looked at, but not gone on with");
  return ResultsDb::open(found.file, found.run);
}

void check_code_version(const RunFolder& folder,
                        const RunRecord& run,
                        const std::string& ours,
                        const std::string& so) {
  NAS_CHECK_KIND(Usage,
                 run.code_version == ours,
                 folder.text(),
                 ": the run was begun by version ",
                 run.code_version,
                 ", this is ",
                 ours,
                 so);
}

ResultsDb create_database(const RunFolder& folder, const fs::path& shared, RunRecord run) {
  run.folder = fs::weakly_canonical(fs::absolute(folder.path())).string();
  run.host = host_name();
  if (shared.empty()) return ResultsDb::create(folder.database(), run);
  ResultsDb database = ResultsDb::add_run(shared, run);
  write_json(
      folder.database_pointer(),
      {{"file", fs::weakly_canonical(fs::absolute(shared)).string()}, {"run", database.run_id()}});
  return database;
}

}  // namespace nas
