// SPDX-License-Identifier: Apache-2.0
#include "nas/search/prior.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

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

double alikeness(const PriorRun& run, const std::vector<double>& features) {
  const double distance = feature_distance(run.features, features);
  return std::exp(-0.5 * distance * distance / (kAlike * kAlike));
}

std::string rounded(double value, const char* format) {
  char text[32];
  std::snprintf(text, sizeof text, format, value);
  return text;
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
    const double weight = alikeness(run, features);
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

std::vector<std::string> prior_words(const SearchSpace& space,
                                     const std::vector<Starter>& informed,
                                     const std::vector<PriorRun>& runs,
                                     const std::vector<double>& features) {
  std::vector<std::string> lines;
  for (const PriorRun& run : runs) {
    std::string how = concat_text("counts ", rounded(alikeness(run, features), "%.2f"));
    if (run.features.empty()) how = "recorded nothing of its data (an older version): says nothing";
    lines.push_back(concat_text("run of ",
                                run.name,
                                ": ",
                                run.results.size(),
                                run.results.size() == 1 ? " network" : " networks",
                                " against its plan, ",
                                how));
  }
  const Genotype plan = space.baseline();
  for (const Starter& starter : informed) {
    if (!starter.missing.empty()) continue;
    std::string known = concat_text(rounded(starter.shift, "%+.4f"), " expected against the plan");
    if (starter.shift == 0) known = "nothing known";
    if (starter.genotype == plan) known = "first always";
    lines.push_back(concat_text(starter.name, ": ", known));
  }
  return lines;
}

Json to_json(const std::vector<Starter>& portfolio, const SearchSpace& space) {
  Json list = Json::array();
  for (const Starter& s : portfolio) {
    if (!s.missing.empty()) continue;
    list.push_back({{"name", s.name}, {"genotype", space.to_text(s.genotype)}, {"shift", s.shift}});
  }
  return list;
}

std::vector<Starter> portfolio_from_json(const Json& value,
                                         const SearchSpace& space,
                                         const std::string& where) {
  const JsonReader reader(value, where);
  std::vector<Starter> portfolio;
  for (std::size_t i = 0; i < reader.size(); ++i) {
    const JsonReader item = reader.at(i);
    Starter starter{item.at("name").text(), space.from_text(item.at("genotype").text())};
    starter.shift = item.at("shift").number();
    portfolio.push_back(std::move(starter));
  }
  return portfolio;
}

}  // namespace nas
