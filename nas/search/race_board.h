// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "nas/core/json.h"
#include "nas/search/evaluator.h"
#include "nas/search/ledger.h"
#include "nas/search/race_ladder.h"
#include "nas/search/search_space.h"

namespace nas {

struct Contestant {
  std::string name;
  Genotype genotype;
  double shift = 0;             // known beforehand
  double relative_cost = 1;     // effort of a step
  std::int64_t left_wave = -1;  // when it was dropped
  // What the last comparison says of its score at the horizon, if it took part.
  bool compared = false;
  double mean = 0, sd = 0, best = 0, within = 0;
};

/// One comparison: what it found.
struct Comparison {
  std::int64_t rows = 0;    // of the ledger, until then
  std::int64_t leader = 0;  // contestant
  double gain = 0, price = 0;
};

/// Where a contestant's training stands.
struct Standing {
  int level = -1;                            // last complete one
  std::int64_t number = -1;                  // proposal that reached it
  std::int64_t last = -1;                    // last proposal
  TrialStatus status = TrialStatus::Queued;  // of that
  bool failed() const {
    return last >= 0 && status != TrialStatus::Done && status != TrialStatus::Timeout &&
           status != TrialStatus::Queued;
  }
  bool cut() const { return last >= 0 && status == TrialStatus::Timeout; }
};

/// All that a race knows beside its ledger.
struct RaceBoard {
  RaceLadder ladder;
  std::string goal;
  double margin = 0, confidence = 0;
  std::vector<Contestant> contestants;
  std::vector<Comparison> comparisons;
  double spent = 0;  // shares

  /// Its place, or how many there are.
  std::size_t contestant_of(const Genotype& genotype) const;
  std::vector<Standing> standings(const Ledger& ledger) const;
  bool racing(std::size_t i, const Standing& standing) const {
    return standing.number >= 0 && !standing.failed() && contestants[i].left_wave < 0;
  }
  /// Of those that still race: what would be chosen now. \param price what the goal wants little of.
  std::optional<std::size_t> choice(const Ledger& ledger,
                                    const std::function<double(const Genotype&)>& price) const;
  /// Effort of the training that a row is told of.
  double effort_of(const Ledger::Row& row) const;

  /// Contestants, comparisons and `spent` into and from a state. \throws Error(Input) naming `state`.
  void save_into(Json& state) const;
  void load_from(const JsonReader& state);
  /// That every row of the ledger is of a contestant and of a level. \throws Error(Input).
  void check(const Ledger& ledger, const std::string& where) const;
};

}  // namespace nas
