// SPDX-License-Identifier: Apache-2.0
#include "nas/results/results_schema.h"

#include <fstream>
#include <string_view>

#include "nas/core/error.h"
#include "nas/search/results_records.h"

namespace nas::results {
namespace {

using sqlite::Connection;
using sqlite::Statement;

constexpr int kApplicationId = 0x764e4153;  // "vNAS"

// A run in every row. Trials are numbered within their run, because their folders are.
constexpr const char* kSchema = R"sql(
CREATE TABLE runs (
  id INTEGER PRIMARY KEY, folder TEXT NOT NULL, host TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'running',
  command TEXT NOT NULL, data_folder TEXT NOT NULL, fold INTEGER NOT NULL,
  recipe TEXT NOT NULL, plan TEXT NOT NULL, space TEXT NOT NULL, setup TEXT NOT NULL,
  budget_seconds REAL NOT NULL, budget_steps INTEGER NOT NULL, budget_effort REAL NOT NULL DEFAULT 0,
  seed INTEGER NOT NULL, code_version TEXT NOT NULL, created_unix INTEGER NOT NULL,
  clock REAL NOT NULL DEFAULT 0, measured TEXT NOT NULL DEFAULT '');
CREATE TABLE stages (
  run INTEGER NOT NULL, position INTEGER NOT NULL, name TEXT NOT NULL, status TEXT NOT NULL,
  seconds REAL NOT NULL, steps INTEGER NOT NULL, trials INTEGER NOT NULL, rungs INTEGER NOT NULL,
  ends_at REAL NOT NULL, cost_limit REAL NOT NULL,
  candidates INTEGER NOT NULL, strategy TEXT NOT NULL, started REAL NOT NULL,
  ended REAL NOT NULL DEFAULT 0, winner TEXT NOT NULL DEFAULT 'null', story TEXT NOT NULL DEFAULT '{}',
  effort REAL NOT NULL DEFAULT 0, horizon REAL NOT NULL DEFAULT 0,
  PRIMARY KEY (run, position), UNIQUE (run, name));
CREATE TABLE trials (
  run INTEGER NOT NULL, id INTEGER NOT NULL, stage TEXT NOT NULL, purpose TEXT NOT NULL, label TEXT NOT NULL,
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
  owner TEXT NOT NULL DEFAULT '', token INTEGER NOT NULL DEFAULT 0, lease_until REAL NOT NULL DEFAULT 0,
  losses INTEGER NOT NULL DEFAULT 0, wish TEXT NOT NULL DEFAULT '',
  ended_order INTEGER NOT NULL DEFAULT 0, told_order INTEGER NOT NULL DEFAULT 0,
  asked_by TEXT NOT NULL DEFAULT '', folder_state TEXT NOT NULL DEFAULT 'full',
  PRIMARY KEY (run, id), UNIQUE (run, stage, proposal));
CREATE INDEX trials_queue ON trials (run, stage, status, id);
CREATE INDEX trials_untold ON trials (run, stage, ended_order) WHERE told = 0;
CREATE TABLE reports (
  run INTEGER NOT NULL, trial INTEGER NOT NULL, name TEXT NOT NULL, step INTEGER NOT NULL,
  value REAL NOT NULL, at REAL NOT NULL, PRIMARY KEY (run, trial, name, step)) WITHOUT ROWID;
CREATE TABLE workers (
  run INTEGER NOT NULL, name TEXT NOT NULL, host TEXT NOT NULL, process TEXT NOT NULL, devices TEXT NOT NULL,
  state TEXT NOT NULL, wish TEXT NOT NULL DEFAULT '', heartbeat REAL NOT NULL, trials_done INTEGER NOT NULL DEFAULT 0,
  code_version TEXT NOT NULL DEFAULT '', PRIMARY KEY (run, name)) WITHOUT ROWID;
CREATE TABLE events (
  id INTEGER PRIMARY KEY, run INTEGER NOT NULL, at REAL NOT NULL, trial INTEGER NOT NULL, kind TEXT NOT NULL,
  text TEXT NOT NULL);
CREATE INDEX events_of_run ON events (run, id);
)sql";

// Since version 5.
constexpr const char* kWishes = R"sql(
CREATE INDEX trials_enqueued ON trials (run, stage, id) WHERE asked_by <> '' AND status = 'queued';
CREATE TABLE enqueued (
  id INTEGER PRIMARY KEY, run INTEGER NOT NULL, genotype TEXT NOT NULL, asked_by TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'waiting', trial INTEGER NOT NULL DEFAULT 0, message TEXT NOT NULL DEFAULT '');
CREATE INDEX enqueued_waiting ON enqueued (run, id) WHERE state = 'waiting';
CREATE TABLE annotations (
  run INTEGER NOT NULL, trial INTEGER NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
  asked_by TEXT NOT NULL, PRIMARY KEY (run, trial, key)) WITHOUT ROWID;
)sql";
// What a strategy went through since its state was written, and the index of the order of telling.
constexpr const char* kSteps = R"sql(
CREATE TABLE strategy_steps (
  run INTEGER NOT NULL, stage TEXT NOT NULL, number INTEGER NOT NULL, step TEXT NOT NULL,
  PRIMARY KEY (run, stage, number)) WITHOUT ROWID;
CREATE INDEX trials_told ON trials (run, told_order);
)sql";
// Younger than version 5, whose files lack nothing else.
constexpr const char* kAlone =
    "CREATE INDEX IF NOT EXISTS trials_alone ON trials (run, stage, id) WHERE wish = 'alone'";
constexpr const char* kNoWishes =
    "CREATE TEMP TABLE strategy_steps (run, stage, number, step); "
    "CREATE TEMP TABLE enqueued (id, run, genotype, asked_by, state, trial, message); "
    "CREATE TEMP TABLE annotations (run, trial, key, value, asked_by);";

// Versions 2 and 3 had one run in a file, and no run in their rows. What each table of this version
// is made of, where it was there before.
constexpr const char* kOldTrials =
    "id, stage, purpose, label, proposal, rung, share, genotype, genotype_values, genotype_id, "
    "graph_id, parameters, macs, memory_bytes, request, source, steps, seconds_limit, settings, "
    "seed, attempt, status, told, score, how, steps_done, seconds, metrics, details, decoded, "
    "message, checkpoint, created, started, ended";
constexpr const char* kOldStages =
    "position, name, status, seconds, steps, trials, rungs, ends_at, cost_limit, candidates, "
    "strategy, started, ended, winner, story";
constexpr const char* kOldRun =
    "command, data_folder, fold, recipe, plan, space, setup, budget_seconds, budget_steps, seed, "
    "code_version, created_unix, clock";

/// Nothing may be written: views in the place of the tables.
void show_as_new(Connection& c, const std::string& version) {
  c.execute("PRAGMA temp_store = MEMORY");
  c.execute(kNoWishes);
  if (version == "4") {
    c.execute(
        "CREATE TEMP VIEW trials AS SELECT *, '' AS asked_by, 'full' AS folder_state "
        "FROM main.trials");
    return;
  }
  const bool version_2 = version == "2";
  const std::string effort = version_2 ? "0.0 AS " : "";
  c.execute(
      concat_text("CREATE TEMP VIEW runs AS SELECT 1 AS id, '' AS folder, '' AS host, "
                  "'' AS state, ",
                  kOldRun,
                  ", ",
                  effort,
                  "budget_effort, '' AS measured FROM main.run; "
                  "CREATE TEMP VIEW stages AS SELECT 1 AS run, ",
                  kOldStages,
                  ", ",
                  effort,
                  "effort, ",
                  effort,
                  "horizon FROM main.stages; "
                  "CREATE TEMP VIEW trials AS SELECT 1 AS run, ",
                  kOldTrials,
                  ", '' AS owner, 0 AS token, 0.0 AS lease_until, 0 AS losses, '' AS wish, "
                  "id AS ended_order, CASE told WHEN 0 THEN 0 ELSE id END AS told_order, "
                  "'' AS asked_by, 'full' AS folder_state FROM main.trials; "
                  "CREATE TEMP VIEW events AS SELECT id, 1 AS run, at, trial, kind, text "
                  "FROM main.events; "
                  "CREATE TEMP TABLE reports (run, trial, name, step, value, at); "
                  "CREATE TEMP TABLE workers (run, name, host, process, devices, state, wish, "
                  "heartbeat, trials_done, code_version);")
          .c_str());
}

/// The caller holds the file's lock.
void bring_up_to_date(Connection& c, const std::string& version) {
  c.execute("BEGIN IMMEDIATE");
  if (version == "4") {
    c.execute(
        "ALTER TABLE trials ADD COLUMN asked_by TEXT NOT NULL DEFAULT ''; "
        "ALTER TABLE trials ADD COLUMN folder_state TEXT NOT NULL DEFAULT 'full'");
    c.execute(kWishes);
    c.execute(kSteps);
    c.execute(concat_text("PRAGMA user_version = ", kResultsVersion).c_str());
    c.execute("COMMIT");
    return;
  }
  const bool version_2 = version == "2";
  bool measured = false;
  {
    Statement table(c, "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'measured'");
    measured = table.step();
  }
  const std::string effort = version_2 ? "0.0" : "effort", horizon = version_2 ? "0.0" : "horizon";
  c.execute(
      "DROP INDEX IF EXISTS trials_queue; ALTER TABLE trials RENAME TO old_trials; "
      "ALTER TABLE stages RENAME TO old_stages; ALTER TABLE events RENAME TO old_events");
  c.execute(kSchema);
  c.execute(kWishes);
  c.execute(kSteps);
  c.execute(concat_text("INSERT INTO runs (id, folder, host, ",
                        kOldRun,
                        ", budget_effort, measured) SELECT 1, '', '', ",
                        kOldRun,
                        version_2 ? ", 0.0, " : ", budget_effort, ",
                        measured ? "COALESCE((SELECT json FROM measured), '')" : "''",
                        " FROM run; INSERT INTO stages (run, ",
                        kOldStages,
                        ", effort, horizon) SELECT 1, ",
                        kOldStages,
                        ", ",
                        effort,
                        ", ",
                        horizon,
                        " FROM old_stages; INSERT INTO trials (run, ",
                        kOldTrials,
                        ", ended_order, told_order) SELECT 1, ",
                        kOldTrials,
                        ", id, CASE told WHEN 0 THEN 0 ELSE id END FROM old_trials; "
                        "INSERT INTO events (id, run, at, trial, kind, text) SELECT id, 1, at, "
                        "trial, kind, text FROM old_events; "
                        "DROP TABLE old_trials; DROP TABLE old_stages; DROP TABLE old_events; "
                        "DROP TABLE run; DROP TABLE IF EXISTS measured")
                .c_str());
  c.execute(concat_text("PRAGMA user_version = ", kResultsVersion).c_str());
  c.execute("COMMIT");
}

}  // namespace

std::string select(const char* columns, const char* rest) {
  return std::string("SELECT ") + columns + " " + rest;
}

void create_tables(Connection& c) {
  c.execute(kSchema);
  c.execute(kWishes);
  c.execute(kSteps);
  c.execute(kAlone);
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
  const bool old = version == "2" || version == "3" || version == "4";
  NAS_CHECK(old || version == std::to_string(kResultsVersion),
            name,
            ": expected schema version 2 to ",
            kResultsVersion,
            ", found ",
            version,
            "; use the VoxNAS version that wrote it");
  const std::string intact = pragma("PRAGMA quick_check(1)");
  NAS_CHECK(intact == "ok", name, ": expected an intact database, found: ", intact);
  if (old && may_write) bring_up_to_date(c, version);
  if (old && !may_write) show_as_new(c, version);
  if (may_write) c.execute(kAlone);
  // Preparing these fails if a table or column is missing.
  for (const std::string& sql :
       {select(kTrialColumns, "FROM trials LIMIT 0"),
        select(kStageColumns, "FROM stages LIMIT 0"),
        select(kWorkerColumns, "FROM workers LIMIT 0"),
        std::string("SELECT run, stage, number, step FROM strategy_steps LIMIT 0"),
        std::string("SELECT trial, step, name, value, at FROM reports LIMIT 0"),
        std::string("SELECT id, run, genotype, asked_by, state, trial, message FROM enqueued "
                    "LIMIT 0"),
        std::string("SELECT run, trial, key, value, asked_by FROM annotations LIMIT 0"),
        std::string("SELECT id, run, at, trial, kind, text FROM events LIMIT 0")}) {
    const Statement compiled(c, sql);
  }
  Statement run(c, select(kRunColumns, "FROM runs"));
  NAS_CHECK(run.step(), name, ": expected a row in table runs, found none");
}

}  // namespace nas::results
