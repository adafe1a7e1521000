// SPDX-License-Identifier: Apache-2.0
#include "nas/search/prior.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>

#include "nas/core/error.h"

namespace nas {
namespace {

// Data sets whose features (logarithms and shares) differ by so much say little of each other.
constexpr double kAlike = 1;
constexpr double kLeastWeight = 0.1;  // of a run whose best network comes in
constexpr double kDoubt = 1;          // weight of the run that saw no difference

std::optional<Genotype> read_genotype(const SearchSpace& space, const std::string& text) {
  try {
    Genotype genotype = space.from_text(text);
    if (space.invalid_reason(genotype).empty()) return genotype;
  } catch (const Error&) {  // of another space
  }
  return std::nullopt;
}

}  // namespace

double feature_distance(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size() || a.empty()) return INFINITY;
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return std::sqrt(sum / static_cast<double>(a.size()));
}

std::vector<Starter> informed_portfolio(const SearchSpace& space,
                                        std::vector<Starter> starters,
                                        const std::vector<PriorRun>& runs,
                                        const std::vector<double>& features) {
  struct Sum {
    double weight = kDoubt, difference = 0;
  };
  std::map<Genotype, Sum> known;
  const auto listed = [&](const Genotype& genotype) {
    return std::ranges::any_of(
        starters, [&](const Starter& s) { return s.missing.empty() && s.genotype == genotype; });
  };
  for (const PriorRun& run : runs) {
    const double distance = feature_distance(run.features, features);
    const double weight = std::exp(-0.5 * distance * distance / (kAlike * kAlike));
    if (!(weight > 0)) continue;
    const Genotype* best = nullptr;
    double most = -INFINITY;
    for (const PriorResult& result : run.results) {
      const auto genotype = read_genotype(space, result.genotype_text);
      if (!genotype || !std::isfinite(result.difference)) continue;
      const auto place = known.try_emplace(*genotype).first;
      place->second.weight += weight;
      place->second.difference += weight * result.difference;
      if (result.difference <= most) continue;
      most = result.difference;
      best = &place->first;
    }
    if (best != nullptr && weight >= kLeastWeight && !listed(*best)) {
      starters.push_back({"best of " + run.name, *best});
    }
  }
  for (Starter& starter : starters) {
    const auto sum = known.find(starter.genotype);
    if (!starter.missing.empty() || sum == known.end()) continue;
    starter.shift = sum->second.difference / sum->second.weight;
  }
  const Genotype plan = space.baseline();
  std::ranges::stable_sort(starters, [&](const Starter& a, const Starter& b) {
    const bool first = a.missing.empty() && a.genotype == plan;
    const bool second = b.missing.empty() && b.genotype == plan;
    if (first != second) return first;
    return a.shift > b.shift;
  });
  return starters;
}

}  // namespace nas
