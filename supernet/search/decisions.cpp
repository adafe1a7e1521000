// SPDX-License-Identifier: Apache-2.0
#include "supernet/search/decisions.h"

#include <algorithm>
#include <limits>
#include <map>

#include "nas/core/error.h"

namespace nas {
namespace {

void collect(const Graph& graph, const std::string& prefix, std::vector<Decision>& decisions) {
  for (const Node& node : graph.nodes) {
    if (node.alternatives.empty()) continue;
    Decision decision;
    decision.name = prefix + node.name;
    decision.choices = {decisions.size()};
    for (int k = 0; k < static_cast<int>(node.alternatives.size()); ++k)
      decision.picks.push_back({k});
    decisions.push_back(std::move(decision));
    for (std::size_t k = 0; k < node.alternatives.size(); ++k) {
      collect(node.alternatives[k], alternative_prefix(prefix + node.name, k), decisions);
    }
  }
}

}  // namespace

std::vector<Decision> free_decisions(const Graph& graph) {
  std::vector<Decision> decisions;
  collect(graph, "", decisions);
  return decisions;
}

std::vector<int> picks_of(const std::vector<Decision>& decisions,
                          const std::vector<int>& options,
                          std::size_t choice_count) {
  NAS_CHECK_KIND(Usage,
                 options.size() == decisions.size(),
                 "path: expected an option for each of ",
                 decisions.size(),
                 " decisions, found ",
                 options.size());
  std::vector<int> picks(choice_count, 0);
  for (std::size_t d = 0; d < decisions.size(); ++d) {
    NAS_CHECK_KIND(Usage,
                   options[d] >= 0 && options[d] < decisions[d].options(),
                   "path: option of ",
                   decisions[d].name,
                   " must be in [0, ",
                   decisions[d].options(),
                   "), found ",
                   options[d]);
    const std::vector<int>& picked = decisions[d].picks[static_cast<std::size_t>(options[d])];
    for (std::size_t i = 0; i < picked.size(); ++i) picks.at(decisions[d].choices[i]) = picked[i];
  }
  return picks;
}

ParameterCosts parameter_costs(const Graph& graph,
                               const std::vector<Decision>& decisions,
                               const Extent3& patch) {
  for (const Node& node : graph.nodes) {
    for (const Graph& alternative : node.alternatives) {
      NAS_CHECK_KIND(Usage,
                     alternative.is_closed(),
                     "super-network '",
                     graph.name,
                     "': a parameter limit needs choices that are not nested; ",
                     node.name,
                     " is");
    }
  }
  const std::size_t choices = choice_sizes(graph).size();
  const auto parameters = [&](const std::vector<int>& options) {
    return total_cost(close_choices(graph, picks_of(decisions, options, choices)), patch)
        .parameters;
  };
  ParameterCosts costs;
  std::vector<int> options(decisions.size(), 0);
  costs.base = parameters(options);
  for (std::size_t d = 0; d < decisions.size(); ++d) {
    costs.cost.emplace_back();
    for (options[d] = 0; options[d] < decisions[d].options(); ++options[d]) {
      costs.cost.back().push_back(parameters(options) - costs.base);
    }
    options[d] = 0;
  }
  return costs;
}

std::optional<std::vector<int>> most_probable_path(
    const std::vector<std::vector<double>>& log_probabilities,
    const ParameterCosts& costs,
    std::int64_t limit) {
  std::vector<int> best;
  if (limit <= 0) {
    for (const std::vector<double>& options : log_probabilities) {
      best.push_back(
          static_cast<int>(std::max_element(options.begin(), options.end()) - options.begin()));
    }
    return best;
  }
  NAS_CHECK_KIND(Internal,
                 costs.cost.size() == log_probabilities.size(),
                 "most probable path: costs of ",
                 costs.cost.size(),
                 " decisions, probabilities of ",
                 log_probabilities.size());
  // What the decisions from d on cost at least: a partial path that cannot keep to the limit goes.
  std::vector<std::int64_t> least(costs.cost.size() + 1, 0);
  for (std::size_t d = costs.cost.size(); d-- > 0;) {
    least[d] = least[d + 1] + *std::min_element(costs.cost[d].begin(), costs.cost[d].end());
  }
  // The best partial path for each sum of costs that is reached; one that costs more than another
  // and is less probable goes too.
  struct Partial {
    double log_probability;
    std::vector<int> options;
  };
  std::map<std::int64_t, Partial> reached;
  if (costs.base + least[0] <= limit) reached[costs.base] = {0, {}};
  for (std::size_t d = 0; d < costs.cost.size(); ++d) {
    std::map<std::int64_t, Partial> next;
    for (const auto& [sum, partial] : reached) {
      for (std::size_t o = 0; o < costs.cost[d].size(); ++o) {
        const std::int64_t cost = sum + costs.cost[d][o];
        if (cost + least[d + 1] > limit) continue;
        const double value = partial.log_probability + log_probabilities[d][o];
        const auto found = next.find(cost);
        if (found != next.end() && found->second.log_probability >= value) continue;
        Partial longer{value, partial.options};
        longer.options.push_back(static_cast<int>(o));
        next.insert_or_assign(cost, std::move(longer));
      }
    }
    reached.clear();
    double highest = -std::numeric_limits<double>::infinity();
    for (auto& [cost, partial] : next) {
      if (!reached.empty() && partial.log_probability <= highest) continue;
      highest = partial.log_probability;
      reached.emplace(cost, std::move(partial));
    }
  }
  if (reached.empty()) return std::nullopt;
  return reached.rbegin()->second.options;  // the costliest that remains is the most probable
}

}  // namespace nas
