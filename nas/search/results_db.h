// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nas/search/evaluator.h"
#include "nas/search/results_records.h"
#include "nas/search/strategy.h"

namespace nas {

namespace sqlite {
class Connection;
}

/// The results database, which is also the queue: RUN/results.sqlite (SQLite, WAL). Every trial is
/// a row before it runs. Each write is one immediate transaction under flock on "<file>.lock": fair
/// between processes, and a kill at any moment leaves the state before or after it. Schema:
/// docs/formats.md. All members throw Error(Io|Input) naming the file; a row that names a folder
/// other than its own (label, checkpoint) is refused.
class ResultsDb {
 public:
  /// \throws Error(Usage) if the file exists.
  static ResultsDb create(const std::filesystem::path& file, const RunRecord& run);
  /// Checks that it is an intact results database of this version. \throws Error(Input) saying what
  /// was found.
  static ResultsDb open(const std::filesystem::path& file);
  /// To look at a run: needs no right to write and writes nothing, also beside the file. Checks as
  /// open(); members that write throw Error(Io).
  static ResultsDb open_read_only(const std::filesystem::path& file);
  ResultsDb(ResultsDb&&) noexcept;
  ResultsDb& operator=(ResultsDb&&) noexcept;
  ~ResultsDb();

  const std::filesystem::path& file() const;
  RunRecord run() const;

  /// Seconds that the run has spent, over all sessions.
  double clock() const;
  void set_clock(double seconds);
  /// What the evaluator has measured (Evaluator::measured), "" if nothing or in runs of before.
  std::string measured() const;
  void set_measured(const std::string& json);
  /// Where the data set lies now; its contents are what the run began with.
  void set_data_folder(const std::string& folder);

  std::vector<StageRecord> stages() const;  // in order of their start
  std::optional<StageRecord> stage(const std::string& name) const;
  void start_stage(const StageRecord& stage);
  /// Appends queued trials (ids are assigned in order) and the strategy's state after asking, in
  /// one transaction.
  std::vector<std::int64_t> add_trials(const std::string& stage,
                                       const std::vector<Trial>& trials,
                                       const std::string& strategy_state);
  /// The strategy's state after it was told these trials, which are marked as told; one
  /// transaction.
  void mark_told(const std::string& stage,
                 const std::vector<std::int64_t>& ids,
                 const std::string& strategy_state);
  void end_stage(const std::string& name,
                 double at,
                 const Winner& winner,
                 const std::string& story);

  /// Takes the oldest queued trial of the stage: status running, attempt + 1. Empty if none is
  /// queued. \param like only one of the same purpose and source.
  std::optional<Trial> claim(const std::string& stage, double at, const Trial* like = nullptr);
  /// Fixes what the trial will do. \throws Error(Internal) if it was fixed differently before.
  void fix_plan(std::int64_t id, const TrialPlan& plan, double seconds_limit);
  /// Writes the result. A Stopped trial stays open. \throws Error(Internal) unless the trial is
  /// running.
  void finish(std::int64_t id, const Evaluation& evaluation, double at);
  /// After a crash or a stop: running and stopped trials become queued. Only for the one process
  /// that owns the run.
  std::int64_t requeue_interrupted();

  std::vector<Trial> trials(const std::string& stage = {}) const;  // by id
  std::vector<Trial> untold_trials(
      const std::string& stage) const;  // ended, not yet told to the strategy; by id
  /// The stage's own training with the highest score on its highest rung (ties: the lower id).
  std::optional<Trial> best_trial(const std::string& stage) const;
  /// Id of a proposal's trial; 0 if there is none.
  std::int64_t trial_of(const std::string& stage, std::int64_t proposal) const;
  /// Id of the last super-network that was trained in another stage; 0 if there is none.
  std::int64_t last_super_network(const std::string& not_of_stage) const;

  void add_event(double at, std::int64_t trial, const std::string& kind, const std::string& text);
  std::vector<EventRecord> events() const;

 private:
  explicit ResultsDb(std::unique_ptr<sqlite::Connection> connection);
  std::unique_ptr<sqlite::Connection> connection_;
};

/// Which final training is delivered: "best", "baseline" or "control", the one whose metric
/// `inner_dice` (mean Dice on the inner validation cases, which no final training learns from) is
/// higher, "best" on a tie or where it was not measured; "" if none is done. The held-out cases
/// play no part.
std::string delivered_label(const std::vector<Trial>& trials);

/// The results as text without any time: one line a trial. Equal for equal runs.
std::string results_table(const std::vector<Trial>& trials);

}  // namespace nas
