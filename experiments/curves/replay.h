// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/curves/curve_table.h"
#include "nas/search/strategy_kind.h"

namespace nas {

/// One way to spend an effort.
struct Policy {
  std::string name;
  const StrategyKind* kind = nullptr;  // of the search; nullptr: what `name` says (plan, asha)
  Json options = Json::object();       // of the stage, where they differ from the standard
  double share = 0;                    // of the effort, for the search
  /// The winner's final training is its search training, continued; else it begins anew.
  bool continues = false;
};

/// The policies that are compared: "plan" (no search), "random" (no rungs), "halving" (kind random
/// as it is), "asha", "regularized", "race".
std::vector<Policy> replay_policies(const StrategyKinds& kinds);
/// \throws Error(Usage) with the nearest known name.
const Policy& policy_named(const std::vector<Policy>& policies, const std::string& name);

/// What became of one replay.
struct Replayed {
  std::size_t network = 0;  // of the table
  double delivered = 0;     // mean score of the held-out cases
  double regret = 0;        // of `delivered`, against the table's best with the whole effort
  double search_effort = 0;
  double final_effort = 0;  // of the delivered training in all
  std::int64_t trials = 0;
};

/// Runs a policy on the table as if it trained: a function of its arguments. The seed decides which
/// of the networks are offered (the plan and kOffered of the others), in which order, and which
/// inner cases are there (drawn with replacement). \param effort of everything, in training steps
/// of the plan at batch 2. \throws Error(Usage) if the policy needs more than that.
Replayed replay(const CurveTable& table, const Policy& policy, double effort, std::uint64_t seed);

inline constexpr double kOffered = 0.7;

/// One line of the benchmark: a policy at an effort, over seeds 0, 1, ...
struct ReplaySummary {
  std::string policy;
  double effort = 0;
  std::int64_t seeds = 0;                // 0: the effort is too small for the policy
  double regret = 0, low = 0, high = 0;  // mean and its 95 % interval (bootstrap over seeds)
  double delivered = 0, search_share = 0, relative_cost = 0, trials = 0;  // means
};
std::vector<ReplaySummary> replay_all(const CurveTable& table,
                                      const std::vector<Policy>& policies,
                                      const std::vector<double>& efforts,
                                      std::int64_t seeds);

/// Mean regret by effort (rows) and policy, for Markdown.
std::string replay_markdown(const CurveTable& table, const std::vector<ReplaySummary>& summaries);
/// The same as a picture.
std::string replay_svg(const CurveTable& table, const std::vector<ReplaySummary>& summaries);

}  // namespace nas
