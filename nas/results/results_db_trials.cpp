// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <optional>
#include <set>
#include <vector>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/json.h"
#include "nas/core/run_folder.h"
#include "nas/results/process.h"
#include "nas/results/results_db.h"
#include "nas/results/results_rows.h"
#include "nas/results/results_schema.h"
#include "nas/results/sqlite.h"

/// Trials of a results database: their way from queued to finished and told.
namespace nas {

using namespace results;
using sqlite::Statement;
using sqlite::Transaction;

namespace {

void store_strategy(const sqlite::Connection& c,
                    std::int64_t run,
                    const std::string& stage,
                    const StrategyChange& change) {
  if (!change.state.empty()) {
    Statement(c, "UPDATE stages SET strategy = ? WHERE run = ? AND name = ?")
        .bind(change.state)
        .bind(run)
        .bind(stage)
        .run();
    Statement(c, "DELETE FROM strategy_steps WHERE run = ? AND stage = ?")
        .bind(run)
        .bind(stage)
        .run();
  }
  if (!change.step.empty()) {
    Statement(
        c,
        "INSERT INTO strategy_steps (run, stage, number, step) VALUES (?1, ?2, (SELECT "
        "COALESCE(MAX(number), 0) + 1 FROM strategy_steps WHERE run = ?1 AND stage = ?2), ?3)")
        .bind(run)
        .bind(stage)
        .bind(change.step)
        .run();
  }
}

}  // namespace

StoredStrategy ResultsDb::strategy(const std::string& stage) const {
  StoredStrategy stored;
  Statement state(*connection_, "SELECT strategy FROM stages WHERE run = ? AND name = ?");
  state.bind(run_).bind(stage);
  if (state.step()) stored.state = state.text();
  Statement steps(*connection_,
                  "SELECT step FROM strategy_steps WHERE run = ? AND stage = ? ORDER BY number");
  steps.bind(run_).bind(stage);
  while (steps.step()) stored.steps.push_back(steps.text());
  return stored;
}

std::vector<std::int64_t> ResultsDb::add_trials(const std::string& stage,
                                                const std::vector<Trial>& trials,
                                                const StrategyChange& change,
                                                const std::vector<std::int64_t>& taken) {
  Transaction transaction(*connection_);
  std::int64_t id = 0;
  {
    Statement last(*connection_, "SELECT COALESCE(MAX(id), 0) FROM trials WHERE run = ?");
    last.bind(run_);
    if (last.step()) id = last.integer();
  }
  std::vector<std::int64_t> ids;
  for (const Trial& t : trials) {
    check_label(t, concat_text("stage ", stage, ": proposal ", t.proposal));
    ids.push_back(++id);
    Statement insert(
        *connection_,
        "INSERT INTO trials (run, id, checkpoint, stage, purpose, label, proposal, rung, share, "
        "genotype, genotype_values, genotype_id, graph_id, parameters, macs, memory_bytes, "
        "request, source, steps, seconds_limit, settings, seed, status, created, asked_by) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?, "
        "?)");
    insert.bind(run_).bind(id).bind(RunFolder::trial_name(id));
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
    insert.bind(t.created).bind(t.asked_by).run();
  }
  for (std::size_t i = 0; i < taken.size(); ++i) {
    Statement(*connection_, "UPDATE enqueued SET state = 'taken', trial = ? WHERE id = ?")
        .bind(ids.at(i))
        .bind(taken[i])
        .run();
  }
  store_strategy(*connection_, run_, stage, change);
  transaction.commit();
  return ids;
}

void ResultsDb::mark_told(const std::string& stage,
                          const std::vector<std::int64_t>& ids,
                          const StrategyChange& change) {
  Transaction transaction(*connection_);
  std::int64_t order = 0;
  {
    Statement last(*connection_, "SELECT COALESCE(MAX(told_order), 0) FROM trials WHERE run = ?");
    last.bind(run_);
    if (last.step()) order = last.integer();
  }
  for (const std::int64_t id : ids) {
    Statement(*connection_, "UPDATE trials SET told = 1, told_order = ? WHERE run = ? AND id = ?")
        .bind(++order)
        .bind(run_)
        .bind(id)
        .run();
  }
  store_strategy(*connection_, run_, stage, change);
  transaction.commit();
}

ResultsDb::Alone ResultsDb::alone_for(const std::string& stage, const std::string& worker) const {
  std::int64_t queued = 0;
  std::set<std::string> runs_alone;
  {
    Statement row(*connection_,
                  "SELECT id, status = 'running', owner FROM trials INDEXED BY trials_alone WHERE "
                  "run = ? AND stage = ? AND wish = 'alone' AND status IN ('queued', 'running') "
                  "ORDER BY id DESC");
    row.bind(run_).bind(stage);
    while (row.step()) {
      const std::int64_t id = row.integer();
      if (row.integer() != 0) {
        runs_alone.insert(row.text());
      } else {
        queued = id;
      }
    }
  }
  if (queued == 0 && runs_alone.empty()) return {};
  const std::set<std::string> others = beside(worker);
  if (others.empty()) return {};  // whatever it begins runs alone
  const auto is_beside = [&](const std::string& name) { return others.contains(name); };
  if (std::ranges::any_of(runs_alone, is_beside)) return {.wait = true};
  if (queued == 0) return {};
  Statement row(*connection_,
                "SELECT owner FROM trials WHERE run = ? AND stage = ? AND status = 'running'");
  row.bind(run_).bind(stage);
  while (row.step()) {
    if (is_beside(row.text())) return {.wait = true};
  }
  return {.only = queued};
}

std::optional<Trial> ResultsDb::claim(const std::string& stage,
                                      double at,
                                      const Trial* like,
                                      const std::string& owner) {
  Transaction transaction(*connection_);
  const Alone alone = alone_for(stage, owner);
  if (alone.wait) return std::nullopt;
  std::optional<Trial> trial;
  {
    Statement row(
        *connection_,
        select(kTrialColumns,
               "FROM trials WHERE run = ?1 AND stage = ?2 AND status = 'queued' AND "
               "(?3 = '' OR (purpose = ?3 AND source = ?4 AND wish <> 'alone')) AND "
               "CASE ?5 WHEN 0 THEN id >= COALESCE((SELECT MIN(id) FROM trials INDEXED "
               "BY trials_enqueued WHERE run = ?1 AND stage = ?2 AND asked_by <> '' AND "
               "status = 'queued' AND ?3 = ''), 0) ELSE id = ?5 END ORDER BY id LIMIT 1"));
    row.bind(run_)
        .bind(stage)
        .bind(like == nullptr ? std::string() : to_text(like->purpose))
        .bind(like == nullptr ? std::int64_t{0} : like->source)
        .bind(alone.only);
    if (!row.step()) return std::nullopt;
    trial = read_trial(row, connection_->file());
  }
  trial->status = TrialStatus::Running;
  trial->attempt += 1;
  trial->token += 1;
  trial->owner = owner;
  if (trial->attempt == 1) trial->started = at;
  Statement(*connection_,
            "UPDATE trials SET status = 'running', attempt = ?, started = ?, owner = ?, token = ?, "
            "lease_until = ? WHERE run = ? AND id = ?")
      .bind(trial->attempt)
      .bind(trial->started)
      .bind(owner)
      .bind(trial->token)
      .bind(machine_seconds() + kLeaseSeconds)
      .bind(run_)
      .bind(trial->id)
      .run();
  transaction.commit();
  return trial;
}

void ResultsDb::fix_plan(const Trial& claimed, const TrialPlan& plan, double seconds_limit) {
  Transaction transaction(*connection_);
  Statement(*connection_,
            "UPDATE trials SET steps = ?, settings = ?, seconds_limit = ? WHERE run = ? AND id = ? "
            "AND token = ? AND settings = ''")
      .bind(plan.steps)
      .bind(plan.settings)
      .bind(seconds_limit)
      .bind(run_)
      .bind(claimed.id)
      .bind(claimed.token)
      .run();
  NAS_CHECK_KIND(Internal,
                 connection_->changes() == 1,
                 file().string(),
                 ": the plan of trial ",
                 claimed.id,
                 " is fixed already, or the trial is another worker's by now");
  transaction.commit();
}

bool ResultsDb::finish(const Trial& claimed, const Evaluation& e, double at) {
  const bool done = e.status == TrialStatus::Done;
  const bool scored = done || e.status == TrialStatus::Pruned;
  NAS_CHECK_KIND(Internal,
                 !scored || !std::isinf(e.score),
                 "trial ",
                 claimed.id,
                 ": the score of a finished trial is not finite");
  NAS_CHECK_KIND(Internal,
                 e.status != TrialStatus::Queued && e.status != TrialStatus::Running,
                 "trial ",
                 claimed.id,
                 ": cannot finish as ",
                 to_text(e.status));
  Json metrics = Json::object();
  for (const auto& [name, value] : e.metrics) {
    if (std::isfinite(value)) metrics[name] = value;
  }
  Transaction transaction(*connection_);
  Statement update(*connection_,
                   "UPDATE trials SET status = ?, score = ?, how = ?, steps_done = ?, seconds = "
                   "seconds + ?, metrics = ?, details = ?, decoded = ?, message = ?, ended = ?, "
                   "wish = '', ended_order = (SELECT COALESCE(MAX(ended_order), 0) + 1 FROM trials "
                   "WHERE run = ?11 AND stage = ?14 AND told = 0) "
                   "WHERE run = ?11 AND id = ?12 AND token = ?13 AND status = 'running'");
  update.bind(to_text(e.status));
  if (scored && std::isfinite(e.score)) {
    update.bind(e.score);
  } else {
    update.bind_null();
  }
  update.bind(e.how).bind(e.steps).bind(e.seconds).bind(metrics.dump()).bind(e.details);
  update.bind(Json(e.decoded.values).dump());
  update.bind(e.message).bind(at).bind(run_).bind(claimed.id).bind(claimed.token);
  update.bind(claimed.stage).run();
  const bool ours = connection_->changes() == 1;
  transaction.commit();
  return ours;
}

void ResultsDb::release(const Trial& claimed) {
  Transaction transaction(*connection_);
  Statement(
      *connection_,
      "UPDATE trials SET status = 'queued', owner = '' WHERE run = ? AND id = ? AND token = ? "
      "AND status IN ('running', 'stopped')")
      .bind(run_)
      .bind(claimed.id)
      .bind(claimed.token)
      .run();
  transaction.commit();
}

bool ResultsDb::retry_alone(const Trial& claimed) {
  Transaction transaction(*connection_);
  if (claimed.alone || beside(claimed.owner).empty()) return false;
  Statement(*connection_,
            "UPDATE trials SET status = 'queued', owner = '', wish = 'alone' WHERE run = ? AND "
            "id = ? AND token = ? AND status = 'running' AND wish = ''")
      .bind(run_)
      .bind(claimed.id)
      .bind(claimed.token)
      .run();
  const bool ours = connection_->changes() == 1;
  transaction.commit();
  return ours;
}

std::vector<Trial> ResultsDb::read_trials(const std::string& rest, const std::string& stage) const {
  Statement row(*connection_, select(kTrialColumns, rest.c_str()));
  row.bind(run_).bind(stage);
  std::vector<Trial> result;
  while (row.step()) result.push_back(read_trial(row, connection_->file()));
  return result;
}

std::vector<Trial> ResultsDb::trials(const std::string& stage) const {
  return read_trials("FROM trials WHERE run = ?1 AND (?2 = '' OR stage = ?2) ORDER BY id", stage);
}

std::optional<Trial> ResultsDb::trial(std::int64_t id) const {
  Statement row(*connection_, select(kTrialColumns, "FROM trials WHERE run = ? AND id = ?"));
  row.bind(run_).bind(id);
  if (!row.step()) return std::nullopt;
  return read_trial(row, connection_->file());
}

std::vector<Trial> ResultsDb::trials_in_short(std::int64_t after,
                                              const std::vector<std::int64_t>& ids) const {
  Statement row(*connection_,
                select(kShortTrialColumns,
                       "FROM trials WHERE run = ?1 AND (id > ?2 OR id IN (SELECT value FROM "
                       "json_each(?3))) ORDER BY id"));
  row.bind(run_).bind(after).bind(Json(ids).dump());
  std::vector<Trial> result;
  while (row.step()) result.push_back(read_trial(row, connection_->file()));
  return result;
}

std::vector<Trial> ResultsDb::untold_trials(const std::string& stage, bool as_ended) const {
  return read_trials(
      std::string("FROM trials WHERE run = ? AND stage = ? AND told = 0 AND status NOT IN "
                  "('queued', 'running', 'stopped') ORDER BY ") +
          (as_ended ? "ended_order" : "id"),
      stage);
}

std::int64_t ResultsDb::count_open(const std::string& stage) const {
  Statement row(*connection_,
                "SELECT COUNT(*) FROM trials WHERE run = ? AND stage = ? AND status IN ('queued', "
                "'running')");
  row.bind(run_).bind(stage);
  return row.step() ? row.integer() : 0;
}

std::vector<OpenTrial> ResultsDb::open_trials(const std::string& stage) const {
  // One statement, so that a trial that is claimed meanwhile is in one of the states.
  Statement row(*connection_,
                "SELECT id, attempt, owner, status = 'running' FROM trials WHERE run = ? AND "
                "stage = ? AND status IN ('queued', 'running') ORDER BY 4 DESC, id");
  row.bind(run_).bind(stage);
  std::vector<OpenTrial> open;
  while (row.step()) {
    OpenTrial trial;
    trial.id = row.integer();
    trial.attempt = row.small_integer();
    trial.owner = row.text();
    trial.running = row.integer() != 0;
    open.push_back(std::move(trial));
  }
  return open;
}

std::optional<Trial> ResultsDb::best_trial(const std::string& stage) const {
  Statement row(*connection_,
                select(kTrialColumns,
                       "FROM trials WHERE run = ? AND stage = ? AND purpose = ? AND status = ? "
                       "ORDER BY rung DESC, score DESC, id LIMIT 1"));
  row.bind(run_).bind(stage).bind(to_text(TrialPurpose::Search)).bind(to_text(TrialStatus::Done));
  if (!row.step()) return std::nullopt;
  return read_trial(row, connection_->file());
}

std::int64_t ResultsDb::trial_of(const std::string& stage, std::int64_t proposal) const {
  Statement row(*connection_, "SELECT id FROM trials WHERE run = ? AND stage = ? AND proposal = ?");
  row.bind(run_).bind(stage).bind(proposal);
  return row.step() ? row.integer() : 0;
}

std::int64_t ResultsDb::last_super_network(const std::string& not_of_stage) const {
  Statement row(*connection_,
                "SELECT id FROM trials WHERE run = ? AND stage <> ? AND purpose = ? AND status = ? "
                "ORDER BY id DESC LIMIT 1");
  row.bind(run_)
      .bind(not_of_stage)
      .bind(to_text(TrialPurpose::SuperNet))
      .bind(to_text(TrialStatus::Done));
  return row.step() ? row.integer() : 0;
}

}  // namespace nas
