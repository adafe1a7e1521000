// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nas/network/graph.h"

namespace nas {

/// What a super-network leaves open: one question with a few options, which closes one or more
/// choices of the graph. (One gene may stand for several choices, e.g. an operation that a cell
/// applies to each of its inputs.)
struct Decision {
  std::string name;                      // of the choice or the gene
  std::vector<std::size_t> choices;      // numbers as in choice_sizes()
  std::vector<std::vector<int>> picks;   // [option][i]: the alternative of choices[i]
  std::optional<std::size_t> gene = {};  // of the search space, if one decides
  int options() const { return static_cast<int>(picks.size()); }
  bool operator==(const Decision&) const = default;
};

/// One decision per choice of the graph.
std::vector<Decision> free_decisions(const Graph& graph);
/// Picks, one per choice, from an option per decision. Choices without a decision are closed with
/// alternative 0. \throws Error(Usage) on a wrong number or an option out of range.
std::vector<int> picks_of(const std::vector<Decision>& decisions,
                          const std::vector<int>& options,
                          std::size_t choice_count);

/// Learnable parameters of the closed graphs: `base` plus the sum of cost[decision][option].
/// Alternatives share nothing, so that this is exact. \throws Error(Usage) for nested choices.
struct ParameterCosts {
  std::int64_t base = 0;
  std::vector<std::vector<std::int64_t>> cost;
};
ParameterCosts parameter_costs(const Graph& graph,
                               const std::vector<Decision>& decisions,
                               const Extent3& patch);

/// The most probable path: for each decision the option with the largest probability (the first on
/// a tie). With `limit` > 0 the path with the largest product of probabilities among those with at
/// most `limit` parameters, exactly (dynamic programming over the costs that are reached).
/// \param log_probabilities [decision][option].
/// \returns an option per decision; nullopt if no path keeps to the limit.
std::optional<std::vector<int>> most_probable_path(
    const std::vector<std::vector<double>>& log_probabilities,
    const ParameterCosts& costs = {},
    std::int64_t limit = 0);

}  // namespace nas
