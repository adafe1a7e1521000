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

/// Queued, running or stopped: it may yet go on.
inline bool is_open(TrialStatus status) {
  return status == TrialStatus::Queued || status == TrialStatus::Running ||
         status == TrialStatus::Stopped;
}

/// What became of a stage's strategy: its whole state, or one step on from what is stored. Both
/// empty: nothing.
struct StrategyChange {
  std::string state = {};  // Strategy::save()
  std::string step = {};   // StrategyJournal's
};

/// A stage's strategy: a state and the steps since.
struct StoredStrategy {
  std::string state;
  std::vector<std::string> steps = {};
  bool operator==(const StoredStrategy&) const = default;
};

/// Where the trials of one run are kept, which is also the queue that any number of processes work
/// on. Every trial is a row before it runs. A trial that runs has an owner, a lease and a token:
///   - the lease says until when the owner is believed to live; renew() extends it, and
///     requeue_lost() gives trials back whose owner has died;
///   - the token grows with every claim, and what an earlier owner writes is refused.
/// Each write is one transaction: a kill at any moment leaves the state before or after it.
/// Implementations: ResultsDb (nas/results). All members throw Error(Io|Input) naming the place.
class TrialStore {
 public:
  virtual ~TrialStore() = default;

  /// The same run once more, for another thread: one object is for one thread.
  virtual std::unique_ptr<TrialStore> again() const = 0;

  virtual RunRecord run() const = 0;
  /// "running", "stopping" (somebody asks the leader to stop), "stopped" and "failed" (can go on),
  /// "done".
  virtual std::string state() const = 0;
  virtual void set_state(const std::string& state) = 0;
  /// Seconds that the run has spent, over all sessions. It never goes back.
  virtual double clock() const = 0;
  virtual void set_clock(double seconds) = 0;
  /// What the evaluator has measured (Evaluator::measured), "" if nothing.
  virtual std::string measured() const = 0;
  virtual void set_measured(const std::string& json) = 0;
  /// Where the data set lies now; its contents are what the run began with.
  virtual void set_data_folder(const std::string& folder) = 0;

  virtual std::vector<StageRecord> stages() const = 0;  // in order of their start
  virtual std::optional<StageRecord> stage(const std::string& name) const = 0;
  virtual void start_stage(const StageRecord& stage) = 0;
  virtual StoredStrategy strategy(const std::string& stage) const = 0;
  virtual void end_stage(const std::string& name,
                         double at,
                         const Winner& winner,
                         const std::string& story) = 0;

  /// Appends queued trials (ids are assigned in order) and what asking did to the strategy, in one
  /// transaction. \param taken of trials that somebody enqueued: the ids of these wishes, one a
  /// trial, which are "taken" then.
  virtual std::vector<std::int64_t> add_trials(const std::string& stage,
                                               const std::vector<Trial>& trials,
                                               const StrategyChange& change,
                                               const std::vector<std::int64_t>& taken = {}) = 0;

  /// Somebody wants these genotypes tried, all or none of them are noted. \returns their ids.
  virtual std::vector<std::int64_t> enqueue(const std::vector<std::string>& genotypes,
                                            const std::string& asked_by) = 0;
  /// In order of their ids. \param waiting only those.
  virtual std::vector<EnqueuedRecord> enqueued(bool waiting) const = 0;
  virtual void refuse_enqueued(std::int64_t id, const std::string& why) = 0;
  /// A note about a trial; a second one of the same key replaces the first. \throws Error(Usage) if
  /// the run has no such trial.
  virtual void annotate(const AnnotationRecord& annotation) = 0;
  /// By trial and key. \param trial 0: of all.
  virtual std::vector<AnnotationRecord> annotations(std::int64_t trial = 0) const = 0;
  virtual void set_folder_state(std::int64_t trial, const std::string& state) = 0;
  /// What telling these trials, which get the next numbers of the order of telling, did to the
  /// strategy; one transaction.
  virtual void mark_told(const std::string& stage,
                         const std::vector<std::int64_t>& ids,
                         const StrategyChange& change) = 0;

  /// Takes the oldest queued trial of the stage, those that somebody enqueued before all others:
  /// status running, attempt and token + 1, owned by `owner`. Empty if none is queued. \param like
  /// only one of the same purpose and source.
  virtual std::optional<Trial> claim(const std::string& stage,
                                     double at,
                                     const Trial* like = nullptr,
                                     const std::string& owner = kLeader) = 0;
  /// Fixes what the claimed trial will do. \throws Error(Internal) if it was fixed before.
  virtual void fix_plan(const Trial& claimed, const TrialPlan& plan, double seconds_limit) = 0;
  /// Writes the result. A Stopped trial stays open. \returns false, and nothing is written, if the
  /// trial is no longer the claimer's: it was given to somebody else meanwhile.
  virtual bool finish(const Trial& claimed, const Evaluation& evaluation, double at) = 0;
  /// A running or stopped trial of the claimer goes back to the queue: another one goes on.
  virtual void release(const Trial& claimed) = 0;
  /// A trial that ran out of memory is queued once more, to run with no other one beside it: until it
  /// has ended claim() gives workers that share a device nothing else to begin with, and those of its
  /// device nothing. \returns false, and nothing is written, where that could not help: its worker
  /// shares its device with none, or it was alone already.
  virtual bool retry_alone(const Trial& claimed) = 0;

  /// A score on the way (higher is better).
  virtual void add_report(const Trial& claimed,
                          std::int64_t step,
                          const std::string& name,
                          double value,
                          double at) = 0;
  /// By trial and step. \param trial 0: of all. \param stage "": of all.
  virtual std::vector<ReportRecord> reports(std::int64_t trial = 0,
                                            const std::string& stage = {}) const = 0;
  /// What somebody wants of a queued or running trial: "stop" ends it as aborted, "alone" is
  /// retry_alone's. \returns whether there is such an open trial.
  virtual bool wish(std::int64_t trial, const std::string& wish) = 0;
  virtual std::string wish_of(std::int64_t trial) const = 0;

  /// A worker of the same name before it is taken for dead, and what it ran is given back.
  virtual void add_worker(const WorkerRecord& worker) = 0;
  virtual std::vector<WorkerRecord> workers() const = 0;
  /// "idle", "busy", "suspended", "ended".
  virtual void set_worker_state(const std::string& name, const std::string& state) = 0;
  /// "", "suspend", "stop". \returns whether there is such a worker.
  virtual bool wish_worker(const std::string& name, const std::string& wish) = 0;
  /// The worker lives: its leases are extended. \returns its wish.
  virtual std::string renew(const std::string& worker) = 0;
  /// Running trials whose owner has ended or whose lease is over are queued again; after
  /// kMostLosses they fail, so that a trial that kills its workers does not kill all of them.
  /// \returns a sentence for each. \param stopped trials that a user stopped are queued too, and
  /// those of the leader, which runs in this process and holds none.
  virtual std::vector<std::string> requeue_lost(double at, bool stopped) = 0;

  virtual std::vector<Trial> trials(const std::string& stage = {}) const = 0;  // by id
  virtual std::optional<Trial> trial(std::int64_t id) const = 0;
  /// Ended, not yet told to the strategy. \param as_ended in the order in which they ended, else by
  /// id.
  virtual std::vector<Trial> untold_trials(const std::string& stage,
                                           bool as_ended = false) const = 0;
  virtual std::int64_t count_open(const std::string& stage) const = 0;  // queued or running
  /// Queued or running trials of a stage, running ones first: enough to follow them.
  virtual std::vector<OpenTrial> open_trials(const std::string& stage) const = 0;
  /// The stage's own training with the highest score on its highest rung (ties: the lower id).
  virtual std::optional<Trial> best_trial(const std::string& stage) const = 0;
  /// Id of a proposal's trial; 0 if there is none.
  virtual std::int64_t trial_of(const std::string& stage, std::int64_t proposal) const = 0;
  /// Id of the last super-network that was trained in another stage; 0 if there is none.
  virtual std::int64_t last_super_network(const std::string& not_of_stage) const = 0;

  virtual void add_event(double at,
                         std::int64_t trial,
                         const std::string& kind,
                         const std::string& text) = 0;
  virtual std::vector<EventRecord> events() const = 0;

  static constexpr const char* kLeader = "leader";  // owner of what the leading process runs itself
  static constexpr double kLeaseSeconds = 60;
  static constexpr std::int64_t kMostLosses = 3;
};

}  // namespace nas
