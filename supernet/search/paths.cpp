// SPDX-License-Identifier: Apache-2.0
#include "supernet/search/paths.h"

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

PathSampler::Level PathSampler::read(const Graph& graph, std::size_t& next, bool& nested) {
  Level level;
  for (const Node& node : graph.nodes) {
    if (node.alternatives.empty()) continue;
    Choice choice;
    choice.number = next++;
    for (const Graph& alternative : node.alternatives) {
      choice.alternatives.push_back(read(alternative, next, nested));
      nested = nested || !choice.alternatives.back().choices.empty();
    }
    level.choices.push_back(std::move(choice));
  }
  return level;
}

double PathSampler::count(Level& level) {
  double product = 1;
  for (Choice& choice : level.choices) {
    double sum = 0;
    for (Level& alternative : choice.alternatives) {
      choice.counts.push_back(count(alternative));
      sum += choice.counts.back();
    }
    product *= sum;
  }
  return product;
}

void PathSampler::draw(const Level& level, Rng& rng, std::vector<int>& picks) {
  for (const Choice& choice : level.choices) {
    double sum = 0;
    for (const double count : choice.counts) sum += count;
    double place = rng.uniform(0, sum);
    std::size_t k = 0;
    while (k + 1 < choice.counts.size() && place >= choice.counts[k]) place -= choice.counts[k++];
    picks[choice.number] = static_cast<int>(k);
    draw(choice.alternatives[k], rng, picks);
  }
}

PathSampler::PathSampler(const Graph& graph, std::vector<Decision> decisions)
    : decisions_(std::move(decisions)) {
  root_ = read(graph, choice_count_, nested_);
  const double closed = count(root_);
  if (nested_) {
    NAS_CHECK_KIND(Usage,
                   decisions_ == free_decisions(graph),
                   "super-network '",
                   graph.name,
                   "': nested choices must each be a decision of their own");
    count_ = closed;
    return;
  }
  count_ = 1;
  for (const Decision& decision : decisions_) count_ *= decision.options();
}

std::vector<int> PathSampler::draw(
    std::uint64_t seed,
    std::int64_t step,
    const std::function<bool(const std::vector<int>&)>& accept) const {
  Rng rng = Rng(seed).split("path", step);
  constexpr int kAttempts = 1000;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    std::vector<int> picks;
    if (nested_) {
      picks.assign(choice_count_, 0);
      draw(root_, rng, picks);
    } else {
      std::vector<int> options;
      for (const Decision& decision : decisions_) {
        options.push_back(static_cast<int>(rng.integer(0, decision.options())));
      }
      picks = picks_of(decisions_, options, choice_count_);
    }
    if (!accept || accept(picks)) return picks;
  }
  fail(ErrorKind::Usage,
       "super-network: ",
       kAttempts,
       " paths drawn in a row are not valid in the search space");
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
  return reached.rbegin()->second.options;  // the dearest that remains is the most probable
}

}  // namespace nas
