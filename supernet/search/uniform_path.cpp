// SPDX-License-Identifier: Apache-2.0
#include "supernet/search/uniform_path.h"

#include <utility>

#include "nas/core/error.h"

namespace nas {

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

}  // namespace nas
