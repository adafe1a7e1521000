// SPDX-License-Identifier: Apache-2.0
#include "nas/search/results_db.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string_view>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/json.h"
#include "nas/core/run_folder.h"
#include "nas/search/sqlite.h"

namespace nas {
namespace {

using sqlite::Connection;
using sqlite::Statement;
using sqlite::Transaction;

constexpr int kApplicationId = 0x764e4153;  // "vNAS"
constexpr std::size_t kShown = 64;          // of a wrong value in a message
const std::vector<std::string> kFinalRoles = {"best", "baseline", "control"};
constexpr std::size_t kLongestName = 100;  // of a contestant

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

constexpr const char* kRunColumns =
    "command, data_folder, fold, recipe, plan, space, setup, budget_seconds, budget_steps, seed, "
    "code_version, created_unix, budget_effort";
constexpr const char* kStageColumns =
    "name, status, seconds, steps, trials, rungs, ends_at, cost_limit, "
    "candidates, strategy, started, ended, winner, story, effort, horizon";
constexpr const char* kTrialColumns =
    "id, stage, purpose, label, proposal, rung, share, genotype, genotype_values, genotype_id, "
    "graph_id, parameters, macs, memory_bytes, request, source, steps, seconds_limit, "
    "settings, seed, attempt, status, score, how, steps_done, seconds, metrics, details, decoded, "
    "message, checkpoint, created, "
    "started, ended";

std::string select(const char* columns, const char* rest) {
  return std::string("SELECT ") + columns + " " + rest;
}

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

/// Folders are named by the label of a final training: only the known roles. Others name a
/// contestant for people.
void check_label(const Trial& trial, const std::string& where) {
  const std::vector<std::string>& known = kFinalRoles;
  if (trial.purpose == TrialPurpose::Retrain) {
    if (std::ranges::find(known, trial.label) != known.end()) return;
  } else if (trial.label.size() <= kLongestName && trial.label != "best" &&
             trial.label != "control" &&
             std::ranges::none_of(trial.label, [](unsigned char c) { return c < ' '; })) {
    return;
  }
  std::string words;
  for (const std::string& role : known) words += (words.empty() ? "\"" : ", \"") + role + "\"";
  fail(ErrorKind::Input,
       where,
       ": label: expected ",
       words,
       "; found \"",
       trial.label.substr(0, kShown),
       "\"");
}

Trial read_trial(Statement& row, const std::filesystem::path& file) {
  Trial t;
  t.id = row.integer();
  const std::string where = concat_text(file.string(), ": trial ", t.id);
  t.stage = row.text();
  t.purpose = in_row(where, [&] { return trial_purpose_from_text(row.text()); });
  t.label = row.text();
  check_label(t, where);
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
  NAS_CHECK(t.checkpoint == RunFolder::trial_name(t.id),
            where,
            ": checkpoint: expected \"",
            RunFolder::trial_name(t.id),
            "\", found \"",
            t.checkpoint.substr(0, kShown),
            "\"");
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
  s.budget.effort = row.real();
  s.budget.horizon = row.real();
  return s;
}

}  // namespace

ResultsDb::ResultsDb(std::unique_ptr<sqlite::Connection> connection)
    : connection_(std::move(connection)) {}
ResultsDb::ResultsDb(ResultsDb&&) noexcept = default;
ResultsDb& ResultsDb::operator=(ResultsDb&&) noexcept = default;
ResultsDb::~ResultsDb() = default;

ResultsDb ResultsDb::create(const std::filesystem::path& file, const RunRecord& run) {
  NAS_CHECK_KIND(
      Usage, !std::filesystem::exists(file), file.string(), ": exists already; use --resume");
  // Built under a temporary name: a kill leaves either a whole database or none.
  write_path_atomic(file, [&](const std::filesystem::path& temporary) {
    Connection c = Connection::open_to_write(temporary, true);
    c.execute("BEGIN");
    c.execute(kSchema);
    c.execute(concat_text("PRAGMA application_id = ", kApplicationId).c_str());
    c.execute(concat_text("PRAGMA user_version = ", kResultsVersion).c_str());
    Statement insert(c,
                     concat_text("INSERT INTO run (id, ",
                                 kRunColumns,
                                 ") VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"));
    insert.bind(run.command).bind(run.data_folder).bind(run.fold).bind(run.recipe_json);
    insert.bind(run.plan_json).bind(run.space_json).bind(run.setup_json);
    insert.bind(run.budget.seconds).bind(run.budget.steps).bind(run.seed);
    insert.bind(run.code_version).bind(run.created_unix).bind(run.budget.effort).run();
    c.execute("COMMIT");
  });
  return open(file);
}

namespace {

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

/// Whether it is an intact database of ours in this version.
void check_is_ours(Connection& c, const std::function<void(Connection&)>& update) {
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
  if (version == "2") update(c);
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

}  // namespace

ResultsDb ResultsDb::open(const std::filesystem::path& file) {
  check_is_sqlite(file);
  auto c = std::make_unique<Connection>(Connection::open_to_write(file, false));
  check_is_ours(*c, [](Connection& old) {
    Transaction transaction(old);
    old.execute(kFromVersion2);
    old.execute(concat_text("PRAGMA user_version = ", kResultsVersion).c_str());
    transaction.commit();
  });
  {
    const FileLock lock(c->lock());  // two processes must not switch the journal at once
    c->execute("PRAGMA journal_mode = WAL");
  }
  // A power cut may lose the last commits, never the file; a kill loses nothing.
  c->execute("PRAGMA synchronous = NORMAL");
  return ResultsDb(std::move(c));
}

ResultsDb ResultsDb::open_read_only(const std::filesystem::path& file) {
  check_is_sqlite(file);
  auto c = std::make_unique<Connection>(Connection::open_to_read(file));
  check_is_ours(*c, [](Connection& old) {
    old.execute("PRAGMA temp_store = MEMORY");
    old.execute(kViewOfVersion2);
  });
  return ResultsDb(std::move(c));
}

const std::filesystem::path& ResultsDb::file() const { return connection_->file(); }

RunRecord ResultsDb::run() const {
  Statement row(*connection_, select(kRunColumns, "FROM run WHERE id = 1"));
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
  run.budget.effort = row.real();
  return run;
}

double ResultsDb::clock() const {
  Statement row(*connection_, "SELECT clock FROM run WHERE id = 1");
  return row.step() ? row.real() : 0;
}

void ResultsDb::set_clock(double seconds) {
  Transaction transaction(*connection_);
  Statement(*connection_, "UPDATE run SET clock = MAX(clock, ?)").bind(seconds).run();
  transaction.commit();
}

std::string ResultsDb::measured() const {
  {
    Statement table(*connection_,
                    "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'measured'");
    if (!table.step()) return "";
  }
  Statement row(*connection_, "SELECT json FROM measured WHERE id = 1");
  return row.step() ? row.text() : "";
}

void ResultsDb::set_measured(const std::string& json) {
  Transaction transaction(*connection_);
  // A table of its own, made when it is needed: databases of before stay readable, and this one by
  // programs of before.
  connection_->execute(
      "CREATE TABLE IF NOT EXISTS measured (id INTEGER PRIMARY KEY CHECK (id = 1), json TEXT NOT "
      "NULL)");
  Statement(*connection_, "INSERT OR REPLACE INTO measured (id, json) VALUES (1, ?)")
      .bind(json)
      .run();
  transaction.commit();
}

void ResultsDb::set_data_folder(const std::string& folder) {
  Transaction transaction(*connection_);
  Statement(*connection_, "UPDATE run SET data_folder = ?").bind(folder).run();
  transaction.commit();
}

std::vector<StageRecord> ResultsDb::stages() const {
  Statement row(*connection_, select(kStageColumns, "FROM stages ORDER BY position"));
  std::vector<StageRecord> result;
  while (row.step()) result.push_back(read_stage(row, connection_->file()));
  return result;
}

std::optional<StageRecord> ResultsDb::stage(const std::string& name) const {
  Statement row(*connection_, select(kStageColumns, "FROM stages WHERE name = ?"));
  row.bind(name);
  if (!row.step()) return std::nullopt;
  return read_stage(row, connection_->file());
}

void ResultsDb::start_stage(const StageRecord& s) {
  Transaction transaction(*connection_);
  Statement insert(*connection_,
                   concat_text("INSERT INTO stages (",
                               kStageColumns,
                               ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"));
  insert.bind(s.name).bind(s.status).bind(s.budget.seconds).bind(s.budget.steps);
  insert.bind(s.budget.trials).bind(s.budget.rungs).bind(s.budget.ends_at);
  insert.bind(s.budget.cost_limit).bind(s.budget.candidates).bind(s.strategy);
  insert.bind(s.started).bind(s.ended).bind(winner_text(s.winner)).bind(s.story);
  insert.bind(s.budget.effort).bind(s.budget.horizon).run();
  transaction.commit();
}

std::vector<std::int64_t> ResultsDb::add_trials(const std::string& stage,
                                                const std::vector<Trial>& trials,
                                                const std::string& strategy_state) {
  Transaction transaction(*connection_);
  std::vector<std::int64_t> ids;
  for (const Trial& t : trials) {
    check_label(t, concat_text("stage ", stage, ": proposal ", t.proposal));
    Statement insert(
        *connection_,
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
    ids.push_back(connection_->last_id());
    Statement(*connection_, "UPDATE trials SET checkpoint = ? WHERE id = ?")
        .bind(RunFolder::trial_name(ids.back()))
        .bind(ids.back())
        .run();
  }
  Statement(*connection_, "UPDATE stages SET strategy = ? WHERE name = ?")
      .bind(strategy_state)
      .bind(stage)
      .run();
  transaction.commit();
  return ids;
}

void ResultsDb::mark_told(const std::string& stage,
                          const std::vector<std::int64_t>& ids,
                          const std::string& strategy_state) {
  Transaction transaction(*connection_);
  for (const std::int64_t id : ids) {
    Statement(*connection_, "UPDATE trials SET told = 1 WHERE id = ?").bind(id).run();
  }
  Statement(*connection_, "UPDATE stages SET strategy = ? WHERE name = ?")
      .bind(strategy_state)
      .bind(stage)
      .run();
  transaction.commit();
}

void ResultsDb::end_stage(const std::string& name,
                          double at,
                          const Winner& winner,
                          const std::string& story) {
  Transaction transaction(*connection_);
  Statement(*connection_,
            "UPDATE stages SET status = 'done', ended = ?, winner = ?, story = ? WHERE name = ?")
      .bind(at)
      .bind(winner_text(winner))
      .bind(story)
      .bind(name)
      .run();
  transaction.commit();
}

std::optional<Trial> ResultsDb::claim(const std::string& stage, double at, const Trial* like) {
  Transaction transaction(*connection_);
  std::optional<Trial> trial;
  {
    Statement row(*connection_,
                  select(kTrialColumns,
                         "FROM trials WHERE stage = ?1 AND status = 'queued' AND "
                         "(?2 = '' OR (purpose = ?2 AND source = ?3)) ORDER BY id LIMIT 1"));
    row.bind(stage)
        .bind(like == nullptr ? std::string() : to_text(like->purpose))
        .bind(like == nullptr ? std::int64_t{0} : like->source);
    if (!row.step()) return std::nullopt;
    trial = read_trial(row, connection_->file());
  }
  trial->status = TrialStatus::Running;
  trial->attempt += 1;
  if (trial->attempt == 1) trial->started = at;
  Statement(*connection_,
            "UPDATE trials SET status = 'running', attempt = ?, started = ? WHERE id = ?")
      .bind(trial->attempt)
      .bind(trial->started)
      .bind(trial->id)
      .run();
  transaction.commit();
  return trial;
}

void ResultsDb::fix_plan(std::int64_t id, const TrialPlan& plan, double seconds_limit) {
  Transaction transaction(*connection_);
  Statement(*connection_,
            "UPDATE trials SET steps = ?, settings = ?, seconds_limit = ? WHERE id = ? AND "
            "settings = ''")
      .bind(plan.steps)
      .bind(plan.settings)
      .bind(seconds_limit)
      .bind(id)
      .run();
  NAS_CHECK_KIND(Internal,
                 connection_->changes() == 1,
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
  Transaction transaction(*connection_);
  Statement update(*connection_,
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
  NAS_CHECK_KIND(
      Internal, connection_->changes() == 1, file().string(), ": trial ", id, " is not running");
  transaction.commit();
}

std::int64_t ResultsDb::requeue_interrupted() {
  Transaction transaction(*connection_);
  Statement(*connection_,
            "UPDATE trials SET status = 'queued' WHERE status IN ('running', 'stopped')")
      .run();
  const std::int64_t changed = connection_->changes();
  transaction.commit();
  return changed;
}

std::vector<Trial> ResultsDb::trials(const std::string& stage) const {
  Statement row(*connection_,
                select(kTrialColumns, "FROM trials WHERE ?1 = '' OR stage = ?1 ORDER BY id"));
  row.bind(stage);
  std::vector<Trial> result;
  while (row.step()) result.push_back(read_trial(row, connection_->file()));
  return result;
}

std::vector<Trial> ResultsDb::untold_trials(const std::string& stage) const {
  Statement row(*connection_,
                select(kTrialColumns,
                       "FROM trials WHERE stage = ? AND told = 0 AND status NOT IN ('queued', "
                       "'running', 'stopped') ORDER BY id"));
  row.bind(stage);
  std::vector<Trial> result;
  while (row.step()) result.push_back(read_trial(row, connection_->file()));
  return result;
}

std::optional<Trial> ResultsDb::best_trial(const std::string& stage) const {
  Statement row(*connection_,
                select(kTrialColumns,
                       "FROM trials WHERE stage = ? AND purpose = ? AND status = ? "
                       "ORDER BY rung DESC, score DESC, id LIMIT 1"));
  row.bind(stage).bind(to_text(TrialPurpose::Search)).bind(to_text(TrialStatus::Done));
  if (!row.step()) return std::nullopt;
  return read_trial(row, connection_->file());
}

std::int64_t ResultsDb::trial_of(const std::string& stage, std::int64_t proposal) const {
  Statement row(*connection_, "SELECT id FROM trials WHERE stage = ? AND proposal = ?");
  row.bind(stage).bind(proposal);
  return row.step() ? row.integer() : 0;
}

std::int64_t ResultsDb::last_super_network(const std::string& not_of_stage) const {
  Statement row(*connection_,
                "SELECT id FROM trials WHERE stage <> ? AND purpose = ? AND status = ? "
                "ORDER BY id DESC LIMIT 1");
  row.bind(not_of_stage).bind(to_text(TrialPurpose::SuperNet)).bind(to_text(TrialStatus::Done));
  return row.step() ? row.integer() : 0;
}

void ResultsDb::add_event(double at,
                          std::int64_t trial,
                          const std::string& kind,
                          const std::string& text) {
  Transaction transaction(*connection_);
  Statement(*connection_, "INSERT INTO events (at, trial, kind, text) VALUES (?, ?, ?, ?)")
      .bind(at)
      .bind(trial)
      .bind(kind)
      .bind(text)
      .run();
  transaction.commit();
}

std::vector<EventRecord> ResultsDb::events() const {
  Statement row(*connection_, "SELECT id, at, trial, kind, text FROM events ORDER BY id");
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
