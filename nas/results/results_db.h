// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "nas/search/evaluator.h"
#include "nas/search/results_records.h"
#include "nas/search/strategy.h"
#include "nas/search/trial_store.h"

namespace nas {

namespace sqlite {
class Connection;
}

/// A run of a database, for lists.
struct RunEntry {
  std::int64_t id = 0;
  std::string state;
  double clock = 0;
  RunRecord run;
  std::int64_t trials = 0, done = 0;
  std::optional<double> best;  // score of the final training that is delivered, or of the best
                               // trial so far
  std::string best_text;       // its genotype
  std::int64_t parameters = 0, macs = 0;
};

/// The results database, which is also the queue: an SQLite file (WAL) with any number of runs, by
/// default RUN/results.sqlite with one. Each write is one immediate transaction under flock on
/// "<file>.lock": fair between processes. Leases are counted on the machine's clock since its start,
/// which nobody can set: the file serves the processes of one machine, and is refused on network
/// file systems. Schema: docs/formats.md. All members throw Error(Io|Input) naming the file; a row
/// that names a folder other than its own (label, checkpoint) is refused.
class ResultsDb : public TrialStore {
 public:
  /// A new file with one run. \throws Error(Usage) if the file exists.
  static ResultsDb create(const std::filesystem::path& file, const RunRecord& run);
  /// One more run in a file, which is made if it is not there.
  static ResultsDb add_run(const std::filesystem::path& file, const RunRecord& run);
  /// Checks that it is an intact results database; one of an earlier version becomes one of this.
  /// \param run its number; 0: the only one. \throws Error(Input) saying what was found;
  /// Error(Usage) if there is no such run, or several to choose from.
  static ResultsDb open(const std::filesystem::path& file, std::int64_t run = 0);
  /// To look at a run: needs no right to write and writes nothing, also beside the file. Checks as
  /// open(); members that write throw Error(Io).
  static ResultsDb open_read_only(const std::filesystem::path& file, std::int64_t run = 0);
  /// All runs of a file, read only.
  static std::vector<RunEntry> runs(const std::filesystem::path& file);
  ResultsDb(ResultsDb&&) noexcept;
  ResultsDb& operator=(ResultsDb&&) noexcept;
  ~ResultsDb() override;

  const std::filesystem::path& file() const;
  /// Removes the run with all its rows.
  void forget_run();
  std::int64_t run_id() const { return run_; }

  std::unique_ptr<TrialStore> again() const override;
  RunRecord run() const override;
  std::string state() const override;
  void set_state(const std::string& state) override;
  double clock() const override;
  void set_clock(double seconds) override;
  std::string measured() const override;
  void set_measured(const std::string& json) override;
  void set_data_folder(const std::string& folder) override;

  std::vector<StageRecord> stages() const override;
  std::optional<StageRecord> stage(const std::string& name) const override;
  void start_stage(const StageRecord& stage) override;
  StoredStrategy strategy(const std::string& stage) const override;
  void end_stage(const std::string& name,
                 double at,
                 const Winner& winner,
                 const std::string& story) override;

  std::vector<std::int64_t> add_trials(const std::string& stage,
                                       const std::vector<Trial>& trials,
                                       const StrategyChange& change,
                                       const std::vector<std::int64_t>& taken = {}) override;
  std::vector<std::int64_t> enqueue(const std::vector<std::string>& genotypes,
                                    const std::string& asked_by) override;
  std::vector<EnqueuedRecord> enqueued(bool waiting) const override;
  void refuse_enqueued(std::int64_t id, const std::string& why) override;
  void annotate(const AnnotationRecord& annotation) override;
  std::vector<AnnotationRecord> annotations(std::int64_t trial = 0) const override;
  void set_folder_state(std::int64_t trial, const std::string& state) override;
  void mark_told(const std::string& stage,
                 const std::vector<std::int64_t>& ids,
                 const StrategyChange& change) override;
  std::optional<Trial> claim(const std::string& stage,
                             double at,
                             const Trial* like = nullptr,
                             const std::string& owner = kLeader) override;
  void fix_plan(const Trial& claimed, const TrialPlan& plan, double seconds_limit) override;
  bool finish(const Trial& claimed, const Evaluation& evaluation, double at) override;
  void release(const Trial& claimed) override;
  bool retry_alone(const Trial& claimed) override;
  void add_report(const Trial& claimed,
                  std::int64_t step,
                  const std::string& name,
                  double value,
                  double at) override;
  std::vector<ReportRecord> reports(std::int64_t trial = 0,
                                    const std::string& stage = {}) const override;
  bool wish(std::int64_t trial, const std::string& wish) override;
  std::string wish_of(std::int64_t trial) const override;

  void add_worker(const WorkerRecord& worker) override;
  std::vector<WorkerRecord> workers() const override;
  void set_worker_state(const std::string& name, const std::string& state) override;
  bool wish_worker(const std::string& name, const std::string& wish) override;
  std::string renew(const std::string& worker) override;
  std::vector<std::string> requeue_lost(double at, bool stopped) override;

  std::vector<Trial> trials(const std::string& stage = {}) const override;
  std::optional<Trial> trial(std::int64_t id) const override;
  std::vector<Trial> untold_trials(const std::string& stage, bool as_ended = false) const override;
  std::int64_t count_open(const std::string& stage) const override;
  std::vector<OpenTrial> open_trials(const std::string& stage) const override;
  std::optional<Trial> best_trial(const std::string& stage) const override;
  std::int64_t trial_of(const std::string& stage, std::int64_t proposal) const override;
  std::int64_t last_super_network(const std::string& not_of_stage) const override;

  void add_event(double at,
                 std::int64_t trial,
                 const std::string& kind,
                 const std::string& text) override;
  std::vector<EventRecord> events() const override;

  // For those that follow a run (run_watch.h).

  /// Another number after every commit of another connection.
  std::int64_t data_version() const;
  /// The trials after `after` and those of `ids`, by id, without what is long: settings and details
  /// are "".
  std::vector<Trial> trials_in_short(std::int64_t after,
                                     const std::vector<std::int64_t>& ids = {}) const;
  std::vector<EventRecord> events_after(std::int64_t id) const;

 private:
  ResultsDb(std::unique_ptr<sqlite::Connection> connection, std::int64_t run);
  std::vector<Trial> read_trials(const std::string& rest, const std::string& stage) const;
  /// What a trial that is to run alone means for a worker that looks for work.
  struct Alone {
    bool wait = false;      // it begins nothing now
    std::int64_t only = 0;  // it begins this trial; 0: any
  };
  Alone alone_for(const std::string& stage, const std::string& worker) const;
  std::set<std::string> beside(const std::string& worker) const;
  std::unique_ptr<sqlite::Connection> connection_;
  std::int64_t run_ = 0;
};

/// The name of a network file system by its type (statfs); "" for others.
std::string network_file_system(std::int64_t type);

/// Which final training is delivered: "best", "baseline" or "control", the one whose metric
/// `inner_dice` (mean Dice on the inner validation cases, which no final training learns from), or
/// kInnerScore where the search goes by another metric, is higher, "best" on a tie or where it was not measured; "" if none is done. The held-out cases
/// play no part.
std::string delivered_label(const std::vector<Trial>& trials);

/// The results as text without any time: one line a trial. Equal for equal runs.
std::string results_table(const std::vector<Trial>& trials);

}  // namespace nas
