// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "nas/core/error.h"
#include "nas/core/text.h"
#include "nas/results/process.h"
#include "nas/results/results_db.h"
#include "nas/results/results_schema.h"
#include "nas/results/sqlite.h"

/// Workers of a run, what they report and what is wished of them, and trials whose workers have
/// died.
namespace nas {

using namespace results;
using sqlite::Statement;
using sqlite::Transaction;

namespace {

/// A running or stopped trial goes back to the queue, or fails if it was lost too often.
/// \param losses how often its workers ended before this; -1: this is none.
/// \returns why it failed; "" if it did not.
std::string take_back(const sqlite::Connection& c,
                      std::int64_t run,
                      std::int64_t id,
                      std::int64_t losses,
                      double at) {
  const bool poison = losses >= 0 && losses + 1 >= TrialStore::kMostLosses;
  const std::string message =
      poison ? concat_text("lost ", losses + 1, " times: its workers ended while they ran it") : "";
  Statement(
      c,
      "UPDATE trials SET status = ?, owner = '', losses = losses + ?, message = ?, ended = ?, "
      "ended_order = (SELECT COALESCE(MAX(ended_order), 0) + 1 FROM trials t WHERE "
      "t.run = trials.run AND t.stage = trials.stage AND t.told = 0) "
      "WHERE run = ? AND id = ?")
      .bind(poison ? "failed" : "queued")
      .bind(losses >= 0 ? 1 : 0)
      .bind(message)
      .bind(poison ? at : 0.0)
      .bind(run)
      .bind(id)
      .run();
  return message;
}

}  // namespace

void ResultsDb::add_worker(const WorkerRecord& worker) {
  Transaction transaction(*connection_);
  // What an earlier process of this name ran is nobody's now; its lease must not be renewed by this
  // one's heartbeat.
  std::vector<std::pair<std::int64_t, std::int64_t>> left;
  {
    Statement row(
        *connection_,
        "SELECT id, losses FROM trials WHERE run = ? AND status = 'running' AND owner = ?");
    row.bind(run_).bind(worker.name);
    while (row.step()) {
      const std::int64_t id = row.integer();
      left.emplace_back(id, row.integer());
    }
  }
  for (const auto& [id, losses] : left) take_back(*connection_, run_, id, losses, clock());
  Statement insert(
      *connection_,
      "INSERT INTO workers (run, name, host, process, devices, state, wish, heartbeat, "
      "code_version) VALUES (?1, ?2, ?3, ?4, ?5, ?6, '', ?7, ?8) "
      "ON CONFLICT (run, name) DO UPDATE SET host = ?3, process = ?4, devices = ?5, "
      "state = ?6, wish = '', heartbeat = ?7, code_version = ?8");
  insert.bind(run_).bind(worker.name).bind(worker.host).bind(worker.process).bind(worker.devices);
  insert.bind(worker.state).bind(machine_seconds()).bind(worker.code_version).run();
  transaction.commit();
}

std::vector<WorkerRecord> ResultsDb::workers() const {
  Statement row(*connection_, select(kWorkerColumns, "FROM workers WHERE run = ? ORDER BY name"));
  row.bind(run_);
  const std::string here = host_name();
  const double now = machine_seconds();
  std::vector<WorkerRecord> result;
  while (row.step()) {
    WorkerRecord w;
    w.name = row.text();
    w.host = row.text();
    w.process = row.text();
    w.devices = row.text();
    w.state = row.text();
    w.wish = row.text();
    w.heard = now - row.real();
    w.trials_done = row.integer();
    w.code_version = row.text();
    w.alive = w.state != "ended" &&
              (w.host == here ? process_lives(w.process) : w.heard >= 0 && w.heard < kLeaseSeconds);
    result.push_back(std::move(w));
  }
  return result;
}

/// Others that live and share its device.
std::set<std::string> ResultsDb::beside(const std::string& worker) const {
  const std::vector<WorkerRecord> all = workers();
  const auto own = std::ranges::find(all, worker, &WorkerRecord::name);
  std::set<std::string> others;
  if (own == all.end()) return others;
  for (const WorkerRecord& each : all) {
    if (each.alive && each.name != worker && each.host == own->host &&
        each.devices == own->devices) {
      others.insert(each.name);
    }
  }
  return others;
}

void ResultsDb::set_worker_state(const std::string& name, const std::string& state) {
  Transaction transaction(*connection_);
  Statement(*connection_, "UPDATE workers SET state = ?, heartbeat = ? WHERE run = ? AND name = ?")
      .bind(state)
      .bind(machine_seconds())
      .bind(run_)
      .bind(name)
      .run();
  transaction.commit();
}

bool ResultsDb::wish_worker(const std::string& name, const std::string& wish) {
  Transaction transaction(*connection_);
  Statement(*connection_, "UPDATE workers SET wish = ? WHERE run = ? AND name = ?")
      .bind(wish)
      .bind(run_)
      .bind(name)
      .run();
  const bool found = connection_->changes() == 1;
  transaction.commit();
  return found;
}

std::string ResultsDb::renew(const std::string& worker) {
  const double now = machine_seconds();
  Transaction transaction(*connection_);
  Statement(*connection_, "UPDATE workers SET heartbeat = ? WHERE run = ? AND name = ?")
      .bind(now)
      .bind(run_)
      .bind(worker)
      .run();
  Statement(*connection_,
            "UPDATE trials SET lease_until = ? WHERE run = ? AND status = 'running' AND owner = ?")
      .bind(now + kLeaseSeconds)
      .bind(run_)
      .bind(worker)
      .run();
  std::string wish;
  {
    Statement row(*connection_, "SELECT wish FROM workers WHERE run = ? AND name = ?");
    row.bind(run_).bind(worker);
    if (row.step()) wish = row.text();
  }
  transaction.commit();
  return wish;
}

std::vector<std::string> ResultsDb::requeue_lost(double at, bool stopped) {
  std::map<std::string, WorkerRecord> known;
  for (WorkerRecord& worker : workers()) known[worker.name] = std::move(worker);
  const double now = machine_seconds();
  struct Lost {
    std::int64_t id = 0, losses = 0;
    std::string owner, status;
    bool own = false;  // of an earlier leader: its end was seen
  };
  std::vector<Lost> lost;
  Transaction transaction(*connection_);
  {
    Statement row(*connection_,
                  "SELECT id, losses, owner, status, lease_until FROM trials WHERE run = ? AND "
                  "status IN ('running', 'stopped') ORDER BY id");
    row.bind(run_);
    while (row.step()) {
      Lost one;
      one.id = row.integer();
      one.losses = row.integer();
      one.owner = row.text();
      one.status = row.text();
      const double lease = row.real();
      const auto worker = known.find(one.owner);
      one.own = worker == known.end();
      // A lease further away than any lease is of another start of the machine.
      const bool over = lease < now || lease > now + 2 * kLeaseSeconds;
      const bool gone =
          one.own ? stopped || (one.owner != kLeader && over) : !worker->second.alive || over;
      if (one.status == "stopped" ? stopped : gone) lost.push_back(one);
    }
  }
  std::vector<std::string> told;
  for (const Lost& one : lost) {
    const bool counts = one.status == "running" && !one.own;
    const std::string message = take_back(*connection_, run_, one.id, counts ? one.losses : -1, at);
    if (counts) {
      told.push_back(concat_text(
          "trial ", one.id, ": ", message.empty() ? "taken back from " + one.owner : message));
    } else {
      told.push_back(concat_text("trial ", one.id, ": interrupted, goes on"));
    }
  }
  transaction.commit();
  return told;
}

void ResultsDb::add_report(
    const Trial& claimed, std::int64_t step, const std::string& name, double value, double at) {
  Transaction transaction(*connection_);
  Statement(*connection_,
            "INSERT OR REPLACE INTO reports (run, trial, name, step, value, at) "
            "SELECT run, id, ?, ?, ?, ? FROM trials WHERE run = ? AND id = ? AND token = ? AND "
            "status = 'running'")
      .bind(name)
      .bind(step)
      .bind(value)
      .bind(at)
      .bind(run_)
      .bind(claimed.id)
      .bind(claimed.token)
      .run();
  transaction.commit();
}

std::vector<ReportRecord> ResultsDb::reports(std::int64_t trial, const std::string& stage) const {
  Statement row(*connection_,
                "SELECT trial, step, name, value, at FROM reports WHERE run = ?1 AND "
                "(?2 = 0 OR trial = ?2) AND (?3 = '' OR trial IN (SELECT id FROM trials WHERE "
                "run = ?1 AND stage = ?3)) ORDER BY trial, name, step");
  row.bind(run_).bind(trial).bind(stage);
  std::vector<ReportRecord> result;
  while (row.step()) {
    ReportRecord report;
    report.trial = row.integer();
    report.step = row.integer();
    report.name = row.text();
    report.value = row.real();
    report.at = row.real();
    result.push_back(std::move(report));
  }
  return result;
}

bool ResultsDb::wish(std::int64_t trial, const std::string& wish) {
  Transaction transaction(*connection_);
  Statement(*connection_,
            "UPDATE trials SET wish = ? WHERE run = ? AND id = ? AND status IN ('queued', "
            "'running', 'stopped')")
      .bind(wish)
      .bind(run_)
      .bind(trial)
      .run();
  const bool found = connection_->changes() == 1;
  transaction.commit();
  return found;
}

std::string ResultsDb::wish_of(std::int64_t trial) const {
  Statement row(*connection_, "SELECT wish FROM trials WHERE run = ? AND id = ?");
  row.bind(run_).bind(trial);
  return row.step() ? row.text() : "";
}

}  // namespace nas
