// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace nas {

/// One successive halving: so many trainings begin at `first`, fewer go on to each rung after it.
struct Bracket {
  int first = 0;                    // rung
  std::vector<std::int64_t> sizes;  // trainings at rungs first, first + 1, ...
  bool operator==(const Bracket&) const = default;
};

/// Brackets over one ladder of rungs: a training at rung k is `eta`^k times that of rung 0.
struct BracketPlan {
  std::int64_t eta = 3;
  int rungs = 1;
  std::vector<Bracket> brackets;

  /// Trainings of rung 0 that take a training from rung `from` (-1: from nothing) to rung `to`.
  double units(int from, int to) const;
  double bracket_units(const Bracket& bracket) const;
  double all_units() const;
  std::int64_t trials() const;  // proposals, continuations among them
  /// Part of the stage that takes a training from one rung to another.
  double share(int from, int to) const { return units(from, to) / all_units(); }
};

/// One bracket that begins with `trials` trainings at rung 0. \param rungs 0: as many as leave one
/// training in the last. Source: Jamieson and Talwalkar, arXiv:1502.07943.
BracketPlan halving_plan(std::int64_t trials, int rungs, std::int64_t eta);

/// Hyperband's brackets, from the one that begins with most trainings at rung 0 to plain full
/// trainings, again and again until `trials` trainings have begun; the last one is cut short.
/// \param rungs 0: as many as one round of all brackets has trainings for.
/// Source: Li et al., JMLR 18 (2018), arXiv:1603.06560.
BracketPlan hyperband_plan(std::int64_t trials, int rungs, std::int64_t eta);

/// Trainings that begin in one round of all of Hyperband's brackets, and in a halving whose last
/// rung has one.
std::int64_t hyperband_round(int rungs, std::int64_t eta);
std::int64_t halving_trials(int rungs, std::int64_t eta);

}  // namespace nas
