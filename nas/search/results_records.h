// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "nas/search/budget.h"
#include "nas/search/strategy.h"

/// Rows of the results database (results_db.h) that are no trials.
namespace nas {

inline constexpr int kResultsVersion = 3;  // schema version (SQLite's user_version)

/// The one row about the whole run. Texts ending in _json are JSON.
struct RunRecord {
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

/// One stage with its recorded budget and the state of its strategy.
struct StageRecord {
  std::string name;
  std::string status;  // "running", "done"
  StageBudget budget;
  std::string strategy;           // Strategy::save()
  double started = 0, ended = 0;  // seconds on the run's clock
  Winner winner = {};             // once done
  std::string story = "{}";       // Strategy::story(), once done
  bool operator==(const StageRecord&) const = default;
};

struct EventRecord {
  std::int64_t id = 0;
  double at = 0;           // seconds on the run's clock
  std::int64_t trial = 0;  // 0: of the run
  std::string kind;        // "resumed", "best improved", "stage ended"
  std::string text;
};

}  // namespace nas
