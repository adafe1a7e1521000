// SPDX-License-Identifier: Apache-2.0
#include "nas/search/results_db.h"

#include <sqlite3.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string_view>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/json.h"
#include "nas/core/run_folder.h"

namespace nas {
namespace {

constexpr int kApplicationId = 0x764e4153;  // "vNAS"

constexpr const char* kSchema = R"sql(
CREATE TABLE run (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  command TEXT NOT NULL, data_folder TEXT NOT NULL, fold INTEGER NOT NULL,
  recipe TEXT NOT NULL, plan TEXT NOT NULL, space TEXT NOT NULL, setup TEXT NOT NULL,
  budget_seconds REAL NOT NULL, budget_steps INTEGER NOT NULL, seed INTEGER NOT NULL,
  code_version TEXT NOT NULL, created_unix INTEGER NOT NULL, clock REAL NOT NULL DEFAULT 0);
CREATE TABLE stages (
  position INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, status TEXT NOT NULL,
  seconds REAL NOT NULL, steps INTEGER NOT NULL, trials INTEGER NOT NULL, rungs INTEGER NOT NULL,
  ends_at REAL NOT NULL, cost_limit REAL NOT NULL,
  candidates INTEGER NOT NULL, strategy TEXT NOT NULL, started REAL NOT NULL,
  ended REAL NOT NULL DEFAULT 0, winner TEXT NOT NULL DEFAULT 'null', story TEXT NOT NULL DEFAULT '{}');
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

constexpr const char* kRunColumns =
    "command, data_folder, fold, recipe, plan, space, setup, budget_seconds, budget_steps, seed, "
    "code_version, created_unix";
constexpr const char* kStageColumns =
    "name, status, seconds, steps, trials, rungs, ends_at, cost_limit, "
    "candidates, strategy, started, ended, winner, story";
constexpr const char* kTrialColumns =
    "id, stage, purpose, label, proposal, rung, share, genotype, genotype_values, genotype_id, "
    "graph_id, parameters, macs, memory_bytes, request, source, steps, seconds_limit, "
    "settings, seed, attempt, status, score, how, steps_done, seconds, metrics, details, decoded, "
    "message, checkpoint, created, "
    "started, ended";

std::string select(const char* columns, const char* rest) {
  return std::string("SELECT ") + columns + " " + rest;
}

[[noreturn]] void fail_sqlite(sqlite3* db, const std::filesystem::path& file, const char* what) {
  const int code = db == nullptr ? SQLITE_NOMEM : sqlite3_extended_errcode(db) & 0xff;
  const bool damaged = code == SQLITE_CORRUPT || code == SQLITE_NOTADB || code == SQLITE_ERROR;
  fail(damaged ? ErrorKind::Input : ErrorKind::Io,
       file.string(),
       ": ",
       what,
       " failed: ",
       db == nullptr ? "out of memory" : sqlite3_errmsg(db),
       damaged ? "; expected an intact results database of VoxNAS" : "");
}

}  // namespace

struct ResultsDb::Connection {
  std::filesystem::path file, lock;
  sqlite3* db = nullptr;

  ~Connection() { sqlite3_close(db); }

  void open(const std::filesystem::path& path, int flags) {
    file = path;
    lock = path.string() + ".lock";
    if (sqlite3_open_v2(path.c_str(), &db, flags, nullptr) != SQLITE_OK)
      fail_sqlite(db, file, "opening");
    sqlite3_busy_timeout(db, 20000);
  }

  void execute(const char* sql) {
    if (sqlite3_exec(db, sql, nullptr, nullptr, nullptr) != SQLITE_OK) {
      fail_sqlite(db, file, "reading or writing");  // not the statement: a schema is long
    }
  }
};

namespace {

/// One prepared statement. Parameters are bound in order, columns are read in order.
class Statement {
 public:
  Statement(sqlite3* db, const std::filesystem::path& file, const std::string& sql)
      : db_(db), file_(file) {
    if (sqlite3_prepare_v2(db, sql.c_str(), -1, &statement_, nullptr) != SQLITE_OK)
      fail_sqlite(db_, file_, "reading the schema");
  }
  ~Statement() { sqlite3_finalize(statement_); }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& bind(std::int64_t value) {
    return check(sqlite3_bind_int64(statement_, ++bound_, value));
  }
  Statement& bind(int value) { return bind(static_cast<std::int64_t>(value)); }
  Statement& bind(std::uint64_t value) { return bind(std::bit_cast<std::int64_t>(value)); }
  Statement& bind(double value) { return check(sqlite3_bind_double(statement_, ++bound_, value)); }
  Statement& bind(std::string_view value) {
    return check(sqlite3_bind_text64(
        statement_, ++bound_, value.data(), value.size(), SQLITE_TRANSIENT, SQLITE_UTF8));
  }
  Statement& bind_null() { return check(sqlite3_bind_null(statement_, ++bound_)); }

  bool step() {
    column_ = -1;
    const int code = sqlite3_step(statement_);
    if (code == SQLITE_ROW) return true;
    if (code != SQLITE_DONE) fail_sqlite(db_, file_, "reading or writing a row");
    return false;
  }
  void run() { step(); }

  std::int64_t integer() { return sqlite3_column_int64(statement_, ++column_); }
  std::uint64_t unsigned_integer() { return std::bit_cast<std::uint64_t>(integer()); }
  int small_integer() {
    return static_cast<int>(std::clamp<std::int64_t>(integer(), -1'000'000, 1'000'000));
  }
  double real() { return sqlite3_column_double(statement_, ++column_); }
  /// `otherwise` for NULL.
  double real_or(double otherwise) {
    const double value = real();
    return sqlite3_column_type(statement_, column_) == SQLITE_NULL ? otherwise : value;
  }
  std::string text() {
    const auto* data = sqlite3_column_text(statement_, ++column_);
    const int size = sqlite3_column_bytes(statement_, column_);
    return data == nullptr
               ? std::string{}
               : std::string(reinterpret_cast<const char*>(data), static_cast<std::size_t>(size));
  }

 private:
  Statement& check(int code) {
    if (code != SQLITE_OK) fail_sqlite(db_, file_, "binding a value");
    return *this;
  }
  sqlite3* db_;
  const std::filesystem::path& file_;
  sqlite3_stmt* statement_ = nullptr;
  int bound_ = 0, column_ = -1;
};

/// An immediate transaction under the file lock; rolled back unless committed. The flock makes
/// writers queue in the kernel: SQLite's own busy handler starves some of them.
class Transaction {
 public:
  Transaction(sqlite3* db, const std::filesystem::path& file, const std::filesystem::path& lock)
      : db_(db), file_(file), lock_(lock) {
    execute("BEGIN IMMEDIATE");
  }
  ~Transaction() {
    if (!committed_) sqlite3_exec(db_, "ROLLBACK", nullptr, nullptr, nullptr);
  }
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  void commit() {
    execute("COMMIT");
    committed_ = true;
  }

 private:
  void execute(const char* sql) {
    if (sqlite3_exec(db_, sql, nullptr, nullptr, nullptr) != SQLITE_OK)
      fail_sqlite(db_, file_, sql);
  }
  sqlite3* db_;
  const std::filesystem::path& file_;
  FileLock lock_;
  bool committed_ = false;
};

Genotype genotype_from(const std::string& text, const std::string& where) {
  const Json value = parse_json(text, where);
  Genotype genotype;
  for (const std::int64_t gene : JsonReader(value, where).integers()) {
    NAS_CHECK(gene >= 0 && gene < 1'000'000, where, ": gene value out of range: ", gene);
    genotype.values.push_back(static_cast<int>(gene));
  }
  return genotype;
}

/// Errors of a value name the row that it stands in.
template <class Read>
auto in_row(const std::string& where, Read&& read) {
  try {
    return read();
  } catch (const Error& error) {
    fail(ErrorKind::Input, where, ": ", error.what());
  }
}

Trial read_trial(Statement& row, const std::filesystem::path& file) {
  Trial t;
  t.id = row.integer();
  const std::string where = concat_text(file.string(), ": trial ", t.id);
  t.stage = row.text();
  t.purpose = in_row(where, [&] { return trial_purpose_from_text(row.text()); });
  t.label = row.text();
  t.proposal = row.integer();
  t.rung = row.small_integer();
  t.share = row.real();
  t.genotype_text = row.text();
  t.genotype = genotype_from(row.text(), where);
  t.genotype_id = row.text();
  t.graph_id = row.text();
  t.parameters = row.integer();
  t.macs = row.integer();
  t.memory_bytes = row.integer();
  t.request = row.text();
  t.source = row.integer();
  t.steps = row.integer();
  t.seconds_limit = row.real();
  t.settings = row.text();
  t.seed = row.unsigned_integer();
  t.attempt = row.small_integer();
  t.status = in_row(where, [&] { return trial_status_from_text(row.text()); });
  t.evaluation.status = t.status;
  // Done without a score: of the held-out cases none has a class, and none was predicted.
  t.evaluation.score = row.real_or(t.status == TrialStatus::Done ? NAN : 0);
  t.evaluation.how = row.text();
  t.evaluation.steps = row.integer();
  t.evaluation.seconds = row.real();
  const Json metrics = parse_json(row.text(), where);
  const JsonReader reader(metrics, where);
  for (const std::string& key : reader.keys()) t.evaluation.metrics[key] = reader.at(key).number();
  t.evaluation.details = row.text();
  t.evaluation.decoded = genotype_from(row.text(), where);
  t.evaluation.message = row.text();
  t.checkpoint = row.text();
  t.created = row.real();
  t.started = row.real();
  t.ended = row.real();
  return t;
}

std::string winner_text(const Winner& winner) {
  if (!winner.found) return "null";
  return Json{{"genotype", winner.genotype.values}, {"score", winner.score}, {"how", winner.how}}
      .dump();
}

Winner winner_from(const std::string& text, const std::string& where) {
  const Json value = parse_json(text, where);
  Winner winner;
  if (value.is_null()) return winner;
  const JsonReader reader(value, where);
  winner.found = true;
  winner.genotype = genotype_from(reader.at("genotype").json().dump(), where);
  winner.score = reader.at("score").number();
  winner.how = reader.at("how").text();
  return winner;
}

StageRecord read_stage(Statement& row, const std::filesystem::path& file) {
  StageRecord s;
  s.name = row.text();
  s.status = row.text();
  s.budget.seconds = row.real();
  s.budget.steps = row.integer();
  s.budget.trials = row.integer();
  s.budget.rungs = row.integer();
  s.budget.ends_at = row.real();
  s.budget.cost_limit = row.real();
  s.budget.candidates = row.integer();
  s.strategy = row.text();
  s.started = row.real();
  s.ended = row.real();
  s.winner = winner_from(row.text(), concat_text(file.string(), ": winner of stage ", s.name));
  s.story = row.text();
  return s;
}

}  // namespace

ResultsDb::ResultsDb(std::unique_ptr<Connection> connection) : connection_(std::move(connection)) {}
ResultsDb::ResultsDb(ResultsDb&&) noexcept = default;
ResultsDb& ResultsDb::operator=(ResultsDb&&) noexcept = default;
ResultsDb::~ResultsDb() = default;

ResultsDb ResultsDb::create(const std::filesystem::path& file, const RunRecord& run) {
  NAS_CHECK_KIND(
      Usage, !std::filesystem::exists(file), file.string(), ": exists already; use --resume");
  // Built under a temporary name: a kill leaves either a whole database or none.
  write_path_atomic(file, [&](const std::filesystem::path& temporary) {
    Connection c;
    c.open(temporary, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
    c.execute("BEGIN");
    c.execute(kSchema);
    c.execute(concat_text("PRAGMA application_id = ", kApplicationId).c_str());
    c.execute(concat_text("PRAGMA user_version = ", kResultsVersion).c_str());
    Statement insert(c.db,
                     c.file,
                     concat_text("INSERT INTO run (id, ",
                                 kRunColumns,
                                 ") VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"));
    insert.bind(run.command).bind(run.data_folder).bind(run.fold).bind(run.recipe_json);
    insert.bind(run.plan_json).bind(run.space_json).bind(run.setup_json);
    insert.bind(run.budget.seconds).bind(run.budget.steps).bind(run.seed);
    insert.bind(run.code_version).bind(run.created_unix).run();
    c.execute("COMMIT");
  });
  return open(file);
}

ResultsDb ResultsDb::open(const std::filesystem::path& file) {
  NAS_CHECK(std::filesystem::is_regular_file(file),
            file.string(),
            ": expected a results database, found no such file");
  {
    char magic[16] = {};
    std::ifstream in(file, std::ios::binary);
    in.read(magic, sizeof magic);
    NAS_CHECK(in.gcount() == sizeof magic && std::string_view(magic, 15) == "SQLite format 3",
              file.string(),
              ": expected a results database (SQLite), found something else or a damaged file");
  }
  auto c = std::make_unique<Connection>();
  c->open(file, SQLITE_OPEN_READWRITE);
  auto pragma = [&](const char* sql) {
    Statement statement(c->db, c->file, sql);
    return statement.step() ? statement.text() : std::string{};
  };
  const std::string application = pragma("PRAGMA application_id");
  NAS_CHECK(application == std::to_string(kApplicationId),
            file.string(),
            ": expected a results database of VoxNAS, found an SQLite file of another program");
  const std::string version = pragma("PRAGMA user_version");
  NAS_CHECK(version == std::to_string(kResultsVersion),
            file.string(),
            ": expected schema version ",
            kResultsVersion,
            ", found ",
            version,
            "; use the VoxNAS version that wrote it");
  const std::string intact = pragma("PRAGMA quick_check(1)");
  NAS_CHECK(intact == "ok", file.string(), ": expected an intact database, found: ", intact);
  // Preparing these fails if a table or column is missing.
  for (const std::string& sql :
       {select(kTrialColumns, "FROM trials LIMIT 0"),
        select(kStageColumns, "FROM stages LIMIT 0"),
        std::string("SELECT id, at, trial, kind, text FROM events LIMIT 0")}) {
    const Statement compiled(c->db, c->file, sql);
  }
  {
    Statement run(c->db, c->file, select(kRunColumns, "FROM run"));
    NAS_CHECK(run.step(), file.string(), ": expected one row in table run, found none");
  }
  {
    const FileLock lock(c->lock);  // two processes must not switch the journal at once
    c->execute("PRAGMA journal_mode = WAL");
  }
  // A power cut may lose the last commits, never the file; a kill loses nothing.
  c->execute("PRAGMA synchronous = NORMAL");
  return ResultsDb(std::move(c));
}

const std::filesystem::path& ResultsDb::file() const { return connection_->file; }

RunRecord ResultsDb::run() const {
  Statement row(connection_->db, connection_->file, select(kRunColumns, "FROM run WHERE id = 1"));
  NAS_CHECK(row.step(), file().string(), ": expected one row in table run, found none");
  RunRecord run;
  run.command = row.text();
  run.data_folder = row.text();
  run.fold = row.integer();
  run.recipe_json = row.text();
  run.plan_json = row.text();
  run.space_json = row.text();
  run.setup_json = row.text();
  run.budget.seconds = row.real();
  run.budget.steps = row.integer();
  run.seed = row.unsigned_integer();
  run.code_version = row.text();
  run.created_unix = row.integer();
  return run;
}

double ResultsDb::clock() const {
  Statement row(connection_->db, connection_->file, "SELECT clock FROM run WHERE id = 1");
  return row.step() ? row.real() : 0;
}

void ResultsDb::set_clock(double seconds) {
  Transaction transaction(connection_->db, connection_->file, connection_->lock);
  Statement(connection_->db, connection_->file, "UPDATE run SET clock = MAX(clock, ?)")
      .bind(seconds)
      .run();
  transaction.commit();
}

std::string ResultsDb::measured() const {
  {
    Statement table(connection_->db,
                    connection_->file,
                    "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'measured'");
    if (!table.step()) return "";
  }
  Statement row(connection_->db, connection_->file, "SELECT json FROM measured WHERE id = 1");
  return row.step() ? row.text() : "";
}

void ResultsDb::set_measured(const std::string& json) {
  Transaction transaction(connection_->db, connection_->file, connection_->lock);
  // A table of its own, made when it is needed: databases of before stay readable, and this one by
  // programs of before.
  connection_->execute(
      "CREATE TABLE IF NOT EXISTS measured (id INTEGER PRIMARY KEY CHECK (id = 1), json TEXT NOT "
      "NULL)");
  Statement(connection_->db,
            connection_->file,
            "INSERT OR REPLACE INTO measured (id, json) VALUES (1, ?)")
      .bind(json)
      .run();
  transaction.commit();
}

void ResultsDb::set_data_folder(const std::string& folder) {
  Transaction transaction(connection_->db, connection_->file, connection_->lock);
  Statement(connection_->db, connection_->file, "UPDATE run SET data_folder = ?")
      .bind(folder)
      .run();
  transaction.commit();
}

std::vector<StageRecord> ResultsDb::stages() const {
  Statement row(
      connection_->db, connection_->file, select(kStageColumns, "FROM stages ORDER BY position"));
  std::vector<StageRecord> result;
  while (row.step()) result.push_back(read_stage(row, connection_->file));
  return result;
}

std::optional<StageRecord> ResultsDb::stage(const std::string& name) const {
  Statement row(
      connection_->db, connection_->file, select(kStageColumns, "FROM stages WHERE name = ?"));
  row.bind(name);
  if (!row.step()) return std::nullopt;
  return read_stage(row, connection_->file);
}

void ResultsDb::start_stage(const StageRecord& s) {
  Transaction transaction(connection_->db, connection_->file, connection_->lock);
  Statement insert(connection_->db,
                   connection_->file,
                   concat_text("INSERT INTO stages (",
                               kStageColumns,
                               ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"));
  insert.bind(s.name).bind(s.status).bind(s.budget.seconds).bind(s.budget.steps);
  insert.bind(s.budget.trials).bind(s.budget.rungs).bind(s.budget.ends_at);
  insert.bind(s.budget.cost_limit).bind(s.budget.candidates).bind(s.strategy);
  insert.bind(s.started).bind(s.ended).bind(winner_text(s.winner)).bind(s.story).run();
  transaction.commit();
}

std::vector<std::int64_t> ResultsDb::add_trials(const std::string& stage,
                                                const std::vector<Trial>& trials,
                                                const std::string& strategy_state) {
  Transaction transaction(connection_->db, connection_->file, connection_->lock);
  std::vector<std::int64_t> ids;
  for (const Trial& t : trials) {
    Statement insert(
        connection_->db,
        connection_->file,
        "INSERT INTO trials (stage, purpose, label, proposal, rung, share, genotype, "
        "genotype_values, genotype_id, graph_id, parameters, macs, memory_bytes, "
        "request, source, steps, seconds_limit, settings, seed, status, created) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?)");
    insert.bind(stage).bind(to_text(t.purpose)).bind(t.label).bind(t.proposal).bind(t.rung);
    insert.bind(t.share).bind(t.genotype_text).bind(Json(t.genotype.values).dump());
    insert.bind(t.genotype_id).bind(t.graph_id).bind(t.parameters).bind(t.macs);
    insert.bind(t.memory_bytes)
        .bind(t.request)
        .bind(t.source)
        .bind(t.steps)
        .bind(t.seconds_limit)
        .bind(t.settings)
        .bind(t.seed);
    insert.bind(t.created).run();
    ids.push_back(sqlite3_last_insert_rowid(connection_->db));
    Statement(connection_->db, connection_->file, "UPDATE trials SET checkpoint = ? WHERE id = ?")
        .bind(RunFolder::trial_name(ids.back()))
        .bind(ids.back())
        .run();
  }
  Statement(connection_->db, connection_->file, "UPDATE stages SET strategy = ? WHERE name = ?")
      .bind(strategy_state)
      .bind(stage)
      .run();
  transaction.commit();
  return ids;
}

void ResultsDb::mark_told(const std::string& stage,
                          const std::vector<std::int64_t>& ids,
                          const std::string& strategy_state) {
  Transaction transaction(connection_->db, connection_->file, connection_->lock);
  for (const std::int64_t id : ids) {
    Statement(connection_->db, connection_->file, "UPDATE trials SET told = 1 WHERE id = ?")
        .bind(id)
        .run();
  }
  Statement(connection_->db, connection_->file, "UPDATE stages SET strategy = ? WHERE name = ?")
      .bind(strategy_state)
      .bind(stage)
      .run();
  transaction.commit();
}

void ResultsDb::end_stage(const std::string& name,
                          double at,
                          const Winner& winner,
                          const std::string& story) {
  Transaction transaction(connection_->db, connection_->file, connection_->lock);
  Statement(connection_->db,
            connection_->file,
            "UPDATE stages SET status = 'done', ended = ?, winner = ?, story = ? WHERE name = ?")
      .bind(at)
      .bind(winner_text(winner))
      .bind(story)
      .bind(name)
      .run();
  transaction.commit();
}

std::optional<Trial> ResultsDb::claim(const std::string& stage, double at, const Trial* like) {
  Transaction transaction(connection_->db, connection_->file, connection_->lock);
  std::optional<Trial> trial;
  {
    Statement row(connection_->db,
                  connection_->file,
                  select(kTrialColumns,
                         "FROM trials WHERE stage = ?1 AND status = 'queued' AND "
                         "(?2 = '' OR (purpose = ?2 AND source = ?3)) ORDER BY id LIMIT 1"));
    row.bind(stage)
        .bind(like == nullptr ? std::string() : to_text(like->purpose))
        .bind(like == nullptr ? std::int64_t{0} : like->source);
    if (!row.step()) return std::nullopt;
    trial = read_trial(row, connection_->file);
  }
  trial->status = TrialStatus::Running;
  trial->attempt += 1;
  if (trial->attempt == 1) trial->started = at;
  Statement(connection_->db,
            connection_->file,
            "UPDATE trials SET status = 'running', attempt = ?, started = ? WHERE id = ?")
      .bind(trial->attempt)
      .bind(trial->started)
      .bind(trial->id)
      .run();
  transaction.commit();
  return trial;
}

void ResultsDb::fix_plan(std::int64_t id, const TrialPlan& plan, double seconds_limit) {
  Transaction transaction(connection_->db, connection_->file, connection_->lock);
  Statement(connection_->db,
            connection_->file,
            "UPDATE trials SET steps = ?, settings = ?, seconds_limit = ? WHERE id = ? AND "
            "settings = ''")
      .bind(plan.steps)
      .bind(plan.settings)
      .bind(seconds_limit)
      .bind(id)
      .run();
  NAS_CHECK_KIND(Internal,
                 sqlite3_changes(connection_->db) == 1,
                 file().string(),
                 ": the plan of trial ",
                 id,
                 " is fixed already");
  transaction.commit();
}

void ResultsDb::finish(std::int64_t id, const Evaluation& e, double at) {
  const bool done = e.status == TrialStatus::Done;
  NAS_CHECK_KIND(Internal,
                 !done || !std::isinf(e.score),
                 "trial ",
                 id,
                 ": the score of a finished trial is not finite");
  NAS_CHECK_KIND(Internal,
                 e.status != TrialStatus::Queued && e.status != TrialStatus::Running,
                 "trial ",
                 id,
                 ": cannot finish as ",
                 to_text(e.status));
  Json metrics = Json::object();
  for (const auto& [name, value] : e.metrics) {
    if (std::isfinite(value)) metrics[name] = value;
  }
  Transaction transaction(connection_->db, connection_->file, connection_->lock);
  Statement update(connection_->db,
                   connection_->file,
                   "UPDATE trials SET status = ?, score = ?, how = ?, steps_done = ?, seconds = "
                   "seconds + ?, metrics = ?, details = ?, decoded = ?, message = ?, ended = ? "
                   "WHERE id = ? AND status = 'running'");
  update.bind(to_text(e.status));
  if (done && std::isfinite(e.score)) {
    update.bind(e.score);
  } else {
    update.bind_null();
  }
  update.bind(e.how).bind(e.steps).bind(e.seconds).bind(metrics.dump()).bind(e.details);
  update.bind(Json(e.decoded.values).dump());
  update.bind(e.message).bind(at).bind(id).run();
  NAS_CHECK_KIND(Internal,
                 sqlite3_changes(connection_->db) == 1,
                 file().string(),
                 ": trial ",
                 id,
                 " is not running");
  transaction.commit();
}

std::int64_t ResultsDb::requeue_interrupted() {
  Transaction transaction(connection_->db, connection_->file, connection_->lock);
  Statement(connection_->db,
            connection_->file,
            "UPDATE trials SET status = 'queued' WHERE status IN ('running', 'stopped')")
      .run();
  const std::int64_t changed = sqlite3_changes(connection_->db);
  transaction.commit();
  return changed;
}

std::vector<Trial> ResultsDb::trials(const std::string& stage) const {
  Statement row(connection_->db,
                connection_->file,
                select(kTrialColumns, "FROM trials WHERE ?1 = '' OR stage = ?1 ORDER BY id"));
  row.bind(stage);
  std::vector<Trial> result;
  while (row.step()) result.push_back(read_trial(row, connection_->file));
  return result;
}

std::vector<Trial> ResultsDb::untold_trials(const std::string& stage) const {
  Statement row(connection_->db,
                connection_->file,
                select(kTrialColumns,
                       "FROM trials WHERE stage = ? AND told = 0 AND status NOT IN ('queued', "
                       "'running', 'stopped') ORDER BY id"));
  row.bind(stage);
  std::vector<Trial> result;
  while (row.step()) result.push_back(read_trial(row, connection_->file));
  return result;
}

std::int64_t ResultsDb::count(const std::string& stage, TrialStatus status) const {
  Statement row(connection_->db,
                connection_->file,
                "SELECT COUNT(*) FROM trials WHERE stage = ? AND status = ?");
  row.bind(stage).bind(to_text(status));
  return row.step() ? row.integer() : 0;
}

void ResultsDb::add_event(double at,
                          std::int64_t trial,
                          const std::string& kind,
                          const std::string& text) {
  Transaction transaction(connection_->db, connection_->file, connection_->lock);
  Statement(connection_->db,
            connection_->file,
            "INSERT INTO events (at, trial, kind, text) VALUES (?, ?, ?, ?)")
      .bind(at)
      .bind(trial)
      .bind(kind)
      .bind(text)
      .run();
  transaction.commit();
}

std::vector<EventRecord> ResultsDb::events() const {
  Statement row(connection_->db,
                connection_->file,
                "SELECT id, at, trial, kind, text FROM events ORDER BY id");
  std::vector<EventRecord> result;
  while (row.step()) {
    EventRecord event;
    event.id = row.integer();
    event.at = row.real();
    event.trial = row.integer();
    event.kind = row.text();
    event.text = row.text();
    result.push_back(std::move(event));
  }
  return result;
}

std::optional<Trial> best_search_trial(const std::vector<Trial>& trials) {
  std::optional<Trial> best;
  for (const Trial& trial : trials) {
    if (trial.purpose != TrialPurpose::Search || trial.status != TrialStatus::Done) continue;
    const bool better =
        !best || trial.rung > best->rung ||
        (trial.rung == best->rung &&
         (trial.evaluation.score > best->evaluation.score ||
          (trial.evaluation.score == best->evaluation.score && trial.id < best->id)));
    if (better) best = trial;
  }
  return best;
}

std::string delivered_label(const std::vector<Trial>& trials) {
  std::string label;
  double score = 0;
  for (const Trial& trial : trials) {
    if (trial.purpose != TrialPurpose::Retrain || trial.status != TrialStatus::Done) continue;
    const auto found = trial.evaluation.metrics.find("inner_dice");
    const double own = found == trial.evaluation.metrics.end() ? 0 : found->second;
    if (label.empty() || own > score || (own == score && trial.label == "best")) {
      label = trial.label;
      score = own;
    }
  }
  return label;
}

std::string results_table(const std::vector<Trial>& trials) {
  std::ostringstream out;
  out.precision(17);
  for (const Trial& t : trials) {
    out << t.id << '\t' << t.stage << '\t' << (t.label.empty() ? "-" : t.label) << "\trung "
        << t.rung << '\t' << t.genotype_text << '\t' << t.genotype_id << '\t' << t.graph_id << '\t'
        << t.parameters << '\t' << t.macs << '\t' << to_text(t.purpose) << " of " << t.source
        << '\t' << t.steps << '\t' << t.seed << '\t' << to_text(t.status) << '\t'
        << t.evaluation.steps << '\t';
    if (t.status == TrialStatus::Done) out << t.evaluation.score;
    for (const auto& [name, value] : t.evaluation.metrics) {
      // Times are measured, not computed: they differ between equal runs.
      if (name.ends_with("_seconds")) continue;
      out << ' ' << name << '=' << value;
    }
    out << '\n';
  }
  return out.str();
}

}  // namespace nas
