// SPDX-License-Identifier: Apache-2.0
#include "nas/results/results_db.h"

#include <sys/vfs.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <memory>
#include <sstream>
#include <thread>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/results/process.h"
#include "nas/results/results_rows.h"
#include "nas/results/results_schema.h"
#include "nas/results/sqlite.h"

namespace nas {

using namespace results;
using sqlite::Connection;
using sqlite::Statement;
using sqlite::Transaction;

namespace {

/// Where locks of one machine say nothing to another.
void check_local(const std::filesystem::path& file) {
  struct statfs system {};
  const std::filesystem::path folder = std::filesystem::absolute(file).parent_path();
  if (::statfs(folder.c_str(), &system) != 0) return;
  const std::string network = network_file_system(static_cast<std::int64_t>(system.f_type));
  NAS_CHECK_KIND(Usage,
                 network.empty(),
                 file.string(),
                 ": a results database cannot lie on a network file system (",
                 network,
                 "): its locks do not hold between machines; use a local disk");
}

std::int64_t insert_run(Connection& c, const RunRecord& run) {
  Statement insert(c,
                   concat_text("INSERT INTO runs (",
                               kRunColumns,
                               ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"));
  insert.bind(run.folder).bind(run.host);
  insert.bind(run.command).bind(run.data_folder).bind(run.fold).bind(run.recipe_json);
  insert.bind(run.plan_json).bind(run.space_json).bind(run.setup_json);
  insert.bind(run.budget.seconds).bind(run.budget.steps).bind(run.seed);
  insert.bind(run.code_version).bind(run.created_unix).bind(run.budget.effort).run();
  return c.last_id();
}

/// The run that is meant.
std::int64_t choose_run(const Connection& c, std::int64_t wanted) {
  Statement row(c, "SELECT id FROM runs ORDER BY id");
  std::vector<std::int64_t> ids;
  while (row.step()) ids.push_back(row.integer());
  if (wanted == 0 && ids.size() == 1) return ids.front();
  NAS_CHECK_KIND(Usage,
                 wanted != 0,
                 c.file().string(),
                 ": holds ",
                 ids.size(),
                 " runs; say which (`voxnas runs --db` lists them)");
  NAS_CHECK_KIND(Usage,
                 std::ranges::find(ids, wanted) != ids.end(),
                 c.file().string(),
                 ": expected a run ",
                 wanted,
                 ", found ",
                 ids.size(),
                 " others");
  return wanted;
}

/// A new file with one run, built under a temporary name: a kill leaves either a whole database or
/// none.
void make_file(const std::filesystem::path& file, const RunRecord& run) {
  check_local(file);
  write_path_atomic(file, [&](const std::filesystem::path& temporary) {
    Connection c = Connection::open_to_write(temporary, true);
    c.execute("BEGIN");
    create_tables(c);
    insert_run(c, run);
    c.execute("COMMIT");
  });
}

std::unique_ptr<Connection> connect_again(const std::filesystem::path& file) {
  auto c = std::make_unique<Connection>(Connection::open_to_write(file, false));
  // A power cut may lose the last commits, never the file; a kill loses nothing.
  c->execute("PRAGMA synchronous = NORMAL");
  return c;
}

std::unique_ptr<Connection> connect(const std::filesystem::path& file) {
  check_is_sqlite(file);
  check_local(file);
  auto c = connect_again(file);
  {
    const sqlite::WriteLock lock(*c);  // two processes must not change schema or journal at once
    check_is_ours(*c, true);
    c->execute("PRAGMA journal_mode = WAL");
  }
  return c;
}

/// Opens to read. The files beside a database come and go with its writers, also between two looks
/// of ours: then once more.
template <class Look>
auto look_at(const std::filesystem::path& file, Look&& look) {
  check_is_sqlite(file);
  for (int tries = 40;; --tries) {
    try {
      auto c = std::make_unique<Connection>(Connection::open_to_read(file));
      check_is_ours(*c, false);
      return look(std::move(c));
    } catch (const std::filesystem::filesystem_error&) {
      if (tries == 0) throw;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::Io || tries == 0) throw;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

}  // namespace

std::string network_file_system(std::int64_t type) {
  switch (type) {
    case 0x6969:
      return "NFS";
    case 0x517b:
      return "SMB";
    case 0xff534d42:
      return "CIFS";
    case 0xfe534d42:
      return "SMB2";
    case 0x0bd00bd0:
      return "Lustre";
    case 0x47504653:
      return "GPFS";
    case 0x19830326:
      return "BeeGFS";
    case 0xaad7aaea:
      return "PanFS";
    default:
      return "";
  }
}

ResultsDb::ResultsDb(std::unique_ptr<sqlite::Connection> connection, std::int64_t run)
    : connection_(std::move(connection)), run_(run) {}
ResultsDb::ResultsDb(ResultsDb&&) noexcept = default;
ResultsDb& ResultsDb::operator=(ResultsDb&&) noexcept = default;
ResultsDb::~ResultsDb() = default;

ResultsDb ResultsDb::create(const std::filesystem::path& file, const RunRecord& run) {
  NAS_CHECK_KIND(
      Usage, !std::filesystem::exists(file), file.string(), ": exists already; use --resume");
  make_file(file, run);
  return open(file);
}

ResultsDb ResultsDb::add_run(const std::filesystem::path& file, const RunRecord& run) {
  bool made = false;
  {
    // Two searches may begin at once: the second finds the file of the first.
    const FileLock lock(file.string() + ".lock");
    made = !std::filesystem::exists(file);
    if (made) make_file(file, run);
  }
  if (made) return open(file, 1);
  auto c = connect(file);
  Transaction transaction(*c);
  const std::int64_t id = insert_run(*c, run);
  transaction.commit();
  return {std::move(c), id};
}

ResultsDb ResultsDb::open(const std::filesystem::path& file, std::int64_t run) {
  auto c = connect(file);
  const std::int64_t id = choose_run(*c, run);
  return {std::move(c), id};
}

ResultsDb ResultsDb::open_read_only(const std::filesystem::path& file, std::int64_t run) {
  return look_at(file, [&](std::unique_ptr<Connection> c) {
    const std::int64_t id = choose_run(*c, run);
    return ResultsDb(std::move(c), id);
  });
}

std::vector<RunEntry> ResultsDb::runs(const std::filesystem::path& file) {
  const std::shared_ptr<Connection> c =
      look_at(file, [](std::unique_ptr<Connection> opened) { return opened; });
  std::vector<RunEntry> entries;
  {
    Statement row(
        *c,
        select((std::string(kRunColumns) + ", id, state, clock").c_str(), "FROM runs ORDER BY id"));
    while (row.step()) {
      RunEntry entry;
      entry.run = read_run(row);
      entry.id = row.integer();
      entry.state = row.text();
      entry.clock = row.real();
      entries.push_back(std::move(entry));
    }
  }
  for (RunEntry& entry : entries) {
    Statement count(*c,
                    "SELECT COUNT(*), COALESCE(SUM(status = 'done'), 0) FROM trials WHERE run = ?");
    count.bind(entry.id);
    if (count.step()) {
      entry.trials = count.integer();
      entry.done = count.integer();
    }
    std::vector<Trial> finals;
    {
      Statement row(
          *c,
          select(kTrialColumns,
                 "FROM trials WHERE run = ? AND purpose = 'retrain' AND status = 'done'"));
      row.bind(entry.id);
      while (row.step()) finals.push_back(read_trial(row, file));
    }
    const std::string label = delivered_label(finals);
    std::optional<Trial> best;
    for (const Trial& trial : finals) {
      if (trial.label == label) best = trial;
    }
    if (!best) {
      Statement row(*c,
                    select(kTrialColumns,
                           "FROM trials WHERE run = ? AND purpose = 'search' AND status = 'done' "
                           "ORDER BY rung DESC, score DESC, id LIMIT 1"));
      row.bind(entry.id);
      if (row.step()) best = read_trial(row, file);
    }
    if (!best) continue;
    if (std::isfinite(best->evaluation.score)) entry.best = best->evaluation.score;
    entry.best_text = best->genotype_text;
    entry.parameters = best->parameters;
    entry.macs = best->macs;
  }
  return entries;
}

const std::filesystem::path& ResultsDb::file() const { return connection_->file(); }

void ResultsDb::forget_run() {
  Transaction transaction(*connection_);
  std::vector<std::string> tables;  // with a run in every row
  {
    Statement of_runs(*connection_,
                      "SELECT t.name FROM sqlite_master AS t, pragma_table_info(t.name) AS c "
                      "WHERE t.type = 'table' AND c.name = 'run'");
    while (of_runs.step()) tables.push_back(of_runs.text());
  }
  for (const std::string& table : tables) {
    Statement(*connection_, concat_text("DELETE FROM ", table, " WHERE run = ?")).bind(run_).run();
  }
  Statement(*connection_, "DELETE FROM runs WHERE id = ?").bind(run_).run();
  transaction.commit();
}

std::unique_ptr<TrialStore> ResultsDb::again() const {
  // It was checked when this one was opened.
  return std::unique_ptr<ResultsDb>(new ResultsDb(connect_again(file()), run_));
}

std::int64_t ResultsDb::data_version() const {
  Statement row(*connection_, "PRAGMA data_version");
  return row.step() ? row.integer() : 0;
}

RunRecord ResultsDb::run() const {
  Statement row(*connection_, select(kRunColumns, "FROM runs WHERE id = ?"));
  row.bind(run_);
  NAS_CHECK(row.step(), file().string(), ": run ", run_, " is no longer there");
  return read_run(row);
}

std::string ResultsDb::state() const {
  Statement row(*connection_, "SELECT state FROM runs WHERE id = ?");
  row.bind(run_);
  return row.step() ? row.text() : "";
}

void ResultsDb::set_state(const std::string& state) {
  Transaction transaction(*connection_);
  Statement(*connection_, "UPDATE runs SET state = ? WHERE id = ?").bind(state).bind(run_).run();
  transaction.commit();
}

double ResultsDb::clock() const {
  Statement row(*connection_, "SELECT clock FROM runs WHERE id = ?");
  row.bind(run_);
  return row.step() ? row.real() : 0;
}

void ResultsDb::set_clock(double seconds) {
  Transaction transaction(*connection_);
  Statement(*connection_, "UPDATE runs SET clock = MAX(clock, ?) WHERE id = ?")
      .bind(seconds)
      .bind(run_)
      .run();
  transaction.commit();
}

std::string ResultsDb::measured() const {
  Statement row(*connection_, "SELECT measured FROM runs WHERE id = ?");
  row.bind(run_);
  return row.step() ? row.text() : "";
}

void ResultsDb::set_measured(const std::string& json) {
  Transaction transaction(*connection_);
  Statement(*connection_, "UPDATE runs SET measured = ? WHERE id = ?").bind(json).bind(run_).run();
  transaction.commit();
}

void ResultsDb::set_data_folder(const std::string& folder) {
  Transaction transaction(*connection_);
  Statement(*connection_, "UPDATE runs SET data_folder = ? WHERE id = ?")
      .bind(folder)
      .bind(run_)
      .run();
  transaction.commit();
}

std::vector<StageRecord> ResultsDb::stages() const {
  Statement row(*connection_, select(kStageColumns, "FROM stages WHERE run = ? ORDER BY position"));
  row.bind(run_);
  std::vector<StageRecord> result;
  while (row.step()) result.push_back(read_stage(row, connection_->file()));
  return result;
}

std::optional<StageRecord> ResultsDb::stage(const std::string& name) const {
  Statement row(*connection_, select(kStageColumns, "FROM stages WHERE run = ? AND name = ?"));
  row.bind(run_).bind(name);
  if (!row.step()) return std::nullopt;
  return read_stage(row, connection_->file());
}

void ResultsDb::start_stage(const StageRecord& s) {
  Transaction transaction(*connection_);
  Statement insert(
      *connection_,
      concat_text(
          "INSERT INTO stages (run, position, ",
          kStageColumns,
          ", strategy) VALUES (?1, (SELECT COALESCE(MAX(position), 0) + 1 FROM stages WHERE run = "
          "?1), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, '')"));
  insert.bind(run_);
  insert.bind(s.name).bind(s.status).bind(s.budget.seconds).bind(s.budget.steps);
  insert.bind(s.budget.trials).bind(s.budget.rungs).bind(s.budget.ends_at);
  insert.bind(s.budget.cost_limit).bind(s.budget.candidates);
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
            "UPDATE stages SET status = 'done', ended = ?, winner = ?, story = ? "
            "WHERE run = ? AND name = ?")
      .bind(at)
      .bind(winner_text(winner))
      .bind(story)
      .bind(run_)
      .bind(name)
      .run();
  transaction.commit();
}

void ResultsDb::add_event(double at,
                          std::int64_t trial,
                          const std::string& kind,
                          const std::string& text) {
  Transaction transaction(*connection_);
  Statement(*connection_, "INSERT INTO events (run, at, trial, kind, text) VALUES (?, ?, ?, ?, ?)")
      .bind(run_)
      .bind(at)
      .bind(trial)
      .bind(kind)
      .bind(text)
      .run();
  transaction.commit();
}

std::vector<EventRecord> ResultsDb::events() const { return events_after(0); }

std::vector<EventRecord> ResultsDb::events_after(std::int64_t id) const {
  Statement row(
      *connection_,
      "SELECT id, at, trial, kind, text FROM events WHERE run = ? AND id > ? ORDER BY id");
  row.bind(run_).bind(id);
  std::vector<EventRecord> result;
  while (row.step()) {
    EventRecord event;
    event.id = row.integer();
    event.at = row.real();
    event.trial = row.integer();
    event.kind = row.text();
    event.text = row.text();
    result.push_back(event);
  }
  return result;
}

std::string delivered_label(const std::vector<Trial>& trials) {
  std::string label;
  double score = 0;
  for (const Trial& trial : trials) {
    if (trial.purpose != TrialPurpose::Retrain || trial.status != TrialStatus::Done) continue;
    const auto& metrics = trial.evaluation.metrics;
    auto found = metrics.find(kInnerScore);
    if (found == metrics.end()) found = metrics.find("inner_dice");
    const double own = found == metrics.end() ? -INFINITY : found->second;
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
