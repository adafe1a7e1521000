// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <vector>

#include "nas/core/error.h"
#include "nas/results/results_db.h"
#include "nas/results/sqlite.h"

/// What others than the search itself want of a run: genotypes to try, notes about trials, and what
/// becomes of trials' folders.
namespace nas {

using sqlite::Statement;
using sqlite::Transaction;

std::vector<std::int64_t> ResultsDb::enqueue(const std::vector<std::string>& genotypes,
                                             const std::string& asked_by) {
  Transaction transaction(*connection_);
  std::vector<std::int64_t> ids;
  for (const std::string& genotype : genotypes) {
    Statement(*connection_, "INSERT INTO enqueued (run, genotype, asked_by) VALUES (?, ?, ?)")
        .bind(run_)
        .bind(genotype)
        .bind(asked_by)
        .run();
    ids.push_back(connection_->last_id());
  }
  transaction.commit();
  return ids;
}

std::vector<EnqueuedRecord> ResultsDb::enqueued(bool waiting) const {
  Statement row(*connection_,
                std::string("SELECT id, genotype, asked_by, state, trial, message FROM enqueued "
                            "WHERE run = ?") +
                    (waiting ? " AND state = 'waiting'" : "") + " ORDER BY id");
  row.bind(run_);
  std::vector<EnqueuedRecord> result;
  while (row.step()) {
    EnqueuedRecord one;
    one.id = row.integer();
    one.genotype = row.text();
    one.asked_by = row.text();
    one.state = row.text();
    one.trial = row.integer();
    one.message = row.text();
    result.push_back(std::move(one));
  }
  return result;
}

void ResultsDb::refuse_enqueued(std::int64_t id, const std::string& why) {
  Transaction transaction(*connection_);
  Statement(*connection_,
            "UPDATE enqueued SET state = 'refused', message = ? WHERE run = ? AND id = ? AND "
            "state = 'waiting'")
      .bind(why)
      .bind(run_)
      .bind(id)
      .run();
  transaction.commit();
}

void ResultsDb::annotate(const AnnotationRecord& annotation) {
  NAS_CHECK_KIND(Usage,
                 !annotation.key.empty() && trial(annotation.trial).has_value(),
                 file().string(),
                 ": expected a note with a key about a trial of the run, found \"",
                 annotation.key.substr(0, 64),
                 "\" about trial ",
                 annotation.trial);
  Transaction transaction(*connection_);
  Statement(*connection_,
            "INSERT OR REPLACE INTO annotations (run, trial, key, value, asked_by) "
            "VALUES (?, ?, ?, ?, ?)")
      .bind(run_)
      .bind(annotation.trial)
      .bind(annotation.key)
      .bind(annotation.value)
      .bind(annotation.by)
      .run();
  transaction.commit();
}

std::vector<AnnotationRecord> ResultsDb::annotations(std::int64_t trial) const {
  Statement row(*connection_,
                "SELECT trial, key, value, asked_by FROM annotations WHERE run = ?1 AND "
                "(?2 = 0 OR trial = ?2) ORDER BY trial, key");
  row.bind(run_).bind(trial);
  std::vector<AnnotationRecord> result;
  while (row.step()) {
    AnnotationRecord one;
    one.trial = row.integer();
    one.key = row.text();
    one.value = row.text();
    one.by = row.text();
    result.push_back(std::move(one));
  }
  return result;
}

void ResultsDb::set_folder_state(std::int64_t trial, const std::string& state) {
  Transaction transaction(*connection_);
  Statement(*connection_, "UPDATE trials SET folder_state = ? WHERE run = ? AND id = ?")
      .bind(state)
      .bind(run_)
      .bind(trial)
      .run();
  transaction.commit();
}

}  // namespace nas
