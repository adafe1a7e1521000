// SPDX-License-Identifier: Apache-2.0
#include "nas/search/results_db.h"

#include <sstream>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/search/results_rows.h"
#include "nas/search/results_schema.h"
#include "nas/search/sqlite.h"

namespace nas {

using namespace results;
using sqlite::Connection;
using sqlite::Statement;
using sqlite::Transaction;

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
    create_tables(c);
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

ResultsDb ResultsDb::open(const std::filesystem::path& file) {
  check_is_sqlite(file);
  auto c = std::make_unique<Connection>(Connection::open_to_write(file, false));
  check_is_ours(*c, true);
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
  check_is_ours(*c, false);
  return ResultsDb(std::move(c));
}

const std::filesystem::path& ResultsDb::file() const { return connection_->file(); }

RunRecord ResultsDb::run() const {
  Statement row(*connection_, select(kRunColumns, "FROM run WHERE id = 1"));
  NAS_CHECK(row.step(), file().string(), ": expected one row in table run, found none");
  return read_run(row);
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
