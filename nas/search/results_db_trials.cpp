// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <optional>
#include <vector>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/json.h"
#include "nas/core/run_folder.h"
#include "nas/search/results_db.h"
#include "nas/search/results_rows.h"
#include "nas/search/results_schema.h"
#include "nas/search/sqlite.h"

/// Trials of a results database: their way from queued to finished and told.
namespace nas {

using namespace results;
using sqlite::Statement;
using sqlite::Transaction;

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

}  // namespace nas
