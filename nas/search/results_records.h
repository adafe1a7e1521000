// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "nas/search/budget.h"
#include "nas/search/strategy.h"

/// Rows of the results database (nas/search/trial_store.h) that are no trials.
namespace nas {

inline constexpr int kResultsVersion = 5;  // schema version (SQLite's user_version)

/// The row about a whole run. Texts ending in _json are JSON.
struct RunRecord {
  std::string folder;   // RUN, absolute; what a run writes lies there and nowhere else
  std::string host;     // where it began
  std::string command;  // what the user typed, to repeat it
  std::string data_folder;
  std::int64_t fold = 0;
  std::string recipe_json;  // Recipe
  std::string plan_json;    // Plan: individual 0
  std::string space_json;   // SearchSpace::describe()
  std::string
      setup_json;  // everything else that is fixed: cases, device, precision, data fingerprint
  Budget budget;
  std::uint64_t seed = 1;
  std::string code_version;
  std::int64_t created_unix = 0;  // wall clock, informative only
  bool operator==(const RunRecord&) const = default;
};

/// One stage with its recorded budget; its strategy: TrialStore::strategy().
struct StageRecord {
  std::string name;
  std::string status;  // "running", "done"
  StageBudget budget;
  double started = 0, ended = 0;  // seconds on the run's clock
  Winner winner = {};             // once done
  std::string story = "{}";       // Strategy::story(), once done
  bool operator==(const StageRecord&) const = default;
};

/// A process that works on trials.
struct WorkerRecord {
  std::string name;  // "W1"
  std::string host;
  std::string process;  // boot, process id and its start: names one process for ever
  std::string devices;  // "cpu", "cuda:0"
  std::string state = "idle";
  std::string wish = {};
  double heard = 0;  // seconds since it was last heard of
  std::int64_t trials_done = 0;
  bool alive = true;  // as far as can be told from here
  std::string code_version = {};
  bool operator==(const WorkerRecord&) const = default;
};

/// What is said of a trial while it runs.
struct ReportRecord {
  std::int64_t trial = 0, step = 0;
  std::string name;  // "inner_dice"
  double value = 0;
  double at = 0;  // seconds on the run's clock
  bool operator==(const ReportRecord&) const = default;
};

/// A queued or running trial, in short.
struct OpenTrial {
  std::int64_t id = 0;
  bool running = false;
  int attempt = 0;
  std::string owner;
};

/// A genotype that somebody wants to have tried.
struct EnqueuedRecord {
  std::int64_t id = 0;       // in the order of asking
  std::string genotype;      // SearchSpace::to_text
  std::string asked_by;      // kAskedByUser, "listener NAME", "run NAME"
  std::string state;         // "waiting", "taken", "refused"
  std::int64_t trial = 0;    // once taken
  std::string message = {};  // why it was refused
  bool operator==(const EnqueuedRecord&) const = default;
};

/// What a listener noted about a trial.
struct AnnotationRecord {
  std::int64_t trial = 0;
  std::string key, value, by;
  bool operator==(const AnnotationRecord&) const = default;
};

struct EventRecord {
  std::int64_t id = 0;
  double at = 0;           // seconds on the run's clock
  std::int64_t trial = 0;  // 0: of the run
  std::string kind;        // "resumed", "best improved", "stage ended"
  std::string text;
};

}  // namespace nas
