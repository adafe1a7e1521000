// SPDX-License-Identifier: Apache-2.0
#include "nas/search/results_schema.h"

#include <fstream>
#include <string_view>

#include "nas/core/error.h"
#include "nas/search/results_records.h"

namespace nas::results {
namespace {

using sqlite::Connection;
using sqlite::Statement;

constexpr int kApplicationId = 0x764e4153;  // "vNAS"

constexpr const char* kSchema = R"sql(
CREATE TABLE run (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  command TEXT NOT NULL, data_folder TEXT NOT NULL, fold INTEGER NOT NULL,
  recipe TEXT NOT NULL, plan TEXT NOT NULL, space TEXT NOT NULL, setup TEXT NOT NULL,
  budget_seconds REAL NOT NULL, budget_steps INTEGER NOT NULL, budget_effort REAL NOT NULL DEFAULT 0,
  seed INTEGER NOT NULL,
  code_version TEXT NOT NULL, created_unix INTEGER NOT NULL, clock REAL NOT NULL DEFAULT 0);
CREATE TABLE stages (
  position INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, status TEXT NOT NULL,
  seconds REAL NOT NULL, steps INTEGER NOT NULL, trials INTEGER NOT NULL, rungs INTEGER NOT NULL,
  ends_at REAL NOT NULL, cost_limit REAL NOT NULL,
  candidates INTEGER NOT NULL, strategy TEXT NOT NULL, started REAL NOT NULL,
  ended REAL NOT NULL DEFAULT 0, winner TEXT NOT NULL DEFAULT 'null', story TEXT NOT NULL DEFAULT '{}',
  effort REAL NOT NULL DEFAULT 0, horizon REAL NOT NULL DEFAULT 0);
CREATE TABLE trials (
  id INTEGER PRIMARY KEY, stage TEXT NOT NULL, purpose TEXT NOT NULL, label TEXT NOT NULL,
  proposal INTEGER NOT NULL, rung INTEGER NOT NULL, share REAL NOT NULL,
  genotype TEXT NOT NULL, genotype_values TEXT NOT NULL, genotype_id TEXT NOT NULL, graph_id TEXT NOT NULL,
  parameters INTEGER NOT NULL, macs INTEGER NOT NULL, memory_bytes INTEGER NOT NULL,
  request TEXT NOT NULL, source INTEGER NOT NULL,
  steps INTEGER NOT NULL, seconds_limit REAL NOT NULL, settings TEXT NOT NULL, seed INTEGER NOT NULL,
  attempt INTEGER NOT NULL DEFAULT 0, status TEXT NOT NULL, told INTEGER NOT NULL DEFAULT 0,
  score REAL, how TEXT NOT NULL DEFAULT '', steps_done INTEGER NOT NULL DEFAULT 0,
  seconds REAL NOT NULL DEFAULT 0, metrics TEXT NOT NULL DEFAULT '{}', details TEXT NOT NULL DEFAULT '',
  decoded TEXT NOT NULL DEFAULT '[]', message TEXT NOT NULL DEFAULT '', checkpoint TEXT NOT NULL DEFAULT '',
  created REAL NOT NULL, started REAL NOT NULL DEFAULT 0, ended REAL NOT NULL DEFAULT 0,
  UNIQUE (stage, proposal));
CREATE INDEX trials_queue ON trials (stage, status, id);
CREATE TABLE events (
  id INTEGER PRIMARY KEY, at REAL NOT NULL, trial INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL);
)sql";

// What version 2 lacks: added to a file that is written to, and shown in a view of one that is not.
constexpr const char* kFromVersion2 = R"sql(
ALTER TABLE run ADD COLUMN budget_effort REAL NOT NULL DEFAULT 0;
ALTER TABLE stages ADD COLUMN effort REAL NOT NULL DEFAULT 0;
ALTER TABLE stages ADD COLUMN horizon REAL NOT NULL DEFAULT 0;
)sql";
constexpr const char* kViewOfVersion2 = R"sql(
CREATE TEMP VIEW run AS SELECT *, 0.0 AS budget_effort FROM main.run;
CREATE TEMP VIEW stages AS SELECT *, 0.0 AS effort, 0.0 AS horizon FROM main.stages;
)sql";

void bring_up_to_date(Connection& c, bool may_write) {
  if (!may_write) {
    c.execute("PRAGMA temp_store = MEMORY");
    c.execute(kViewOfVersion2);
    return;
  }
  sqlite::Transaction transaction(c);
  c.execute(kFromVersion2);
  c.execute(concat_text("PRAGMA user_version = ", kResultsVersion).c_str());
  transaction.commit();
}

}  // namespace

std::string select(const char* columns, const char* rest) {
  return std::string("SELECT ") + columns + " " + rest;
}

void create_tables(Connection& c) {
  c.execute(kSchema);
  c.execute(concat_text("PRAGMA application_id = ", kApplicationId).c_str());
  c.execute(concat_text("PRAGMA user_version = ", kResultsVersion).c_str());
}

void check_is_sqlite(const std::filesystem::path& file) {
  NAS_CHECK(std::filesystem::is_regular_file(file),
            file.string(),
            ": expected a results database, found no such file");
  char magic[16] = {};
  std::ifstream in(file, std::ios::binary);
  in.read(magic, sizeof magic);
  NAS_CHECK(in.gcount() == sizeof magic && std::string_view(magic, 15) == "SQLite format 3",
            file.string(),
            ": expected a results database (SQLite), found something else or a damaged file");
}

void check_is_ours(Connection& c, bool may_write) {
  const auto pragma = [&](const char* sql) {
    Statement statement(c, sql);
    return statement.step() ? statement.text() : std::string{};
  };
  const std::string name = c.file().string();
  const std::string application = pragma("PRAGMA application_id");
  NAS_CHECK(application == std::to_string(kApplicationId),
            name,
            ": expected a results database of VoxNAS, found an SQLite file of another program");
  const std::string version = pragma("PRAGMA user_version");
  NAS_CHECK(version == std::to_string(kResultsVersion) || version == "2",
            name,
            ": expected schema version 2 or ",
            kResultsVersion,
            ", found ",
            version,
            "; use the VoxNAS version that wrote it");
  const std::string intact = pragma("PRAGMA quick_check(1)");
  NAS_CHECK(intact == "ok", name, ": expected an intact database, found: ", intact);
  if (version == "2") bring_up_to_date(c, may_write);
  // Preparing these fails if a table or column is missing.
  for (const std::string& sql :
       {select(kTrialColumns, "FROM trials LIMIT 0"),
        select(kStageColumns, "FROM stages LIMIT 0"),
        std::string("SELECT id, at, trial, kind, text FROM events LIMIT 0")}) {
    const Statement compiled(c, sql);
  }
  Statement run(c, select(kRunColumns, "FROM run"));
  NAS_CHECK(run.step(), name, ": expected one row in table run, found none");
}

}  // namespace nas::results
