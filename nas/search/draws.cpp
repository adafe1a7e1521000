// SPDX-License-Identifier: Apache-2.0
#include "nas/search/draws.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/quantity.h"
#include "nas/core/text.h"

namespace nas {
namespace {

constexpr double kMostCombinations = 1 << 22;  // looked at one by one

}  // namespace

std::vector<std::string> searched_groups(const SearchSpace& space, const StageSpec& stage) {
  std::vector<std::string> known;
  for (const Gene& gene : space.genes()) {
    if (gene.group != "network" && std::find(known.begin(), known.end(), gene.group) == known.end())
      known.push_back(gene.group);
  }
  if (stage.groups.empty()) return known;
  for (const std::string& group : stage.groups) {
    if (std::find(known.begin(), known.end(), group) != known.end()) continue;
    fail(ErrorKind::Usage,
         "stage \"",
         stage.name,
         "\": space \"",
         space.name(),
         "\" has no genes of group \"",
         group,
         "\"; it has ",
         joined(known));
  }
  return stage.groups;
}

Draws::Draws(const StrategyContext& context)
    : context_(&context), groups_(searched_groups(*context.space, context.stage)) {}

bool Draws::reachable(const Genotype& a, const Genotype& b) const {
  const std::vector<Gene>& genes = context_->space->genes();
  if (a.values.size() != genes.size() || b.values.size() != genes.size()) return false;
  for (std::size_t g = 0; g < genes.size(); ++g) {
    const bool free = std::ranges::find(groups_, genes[g].group) != groups_.end();
    if (!free && a.values[g] != b.values[g]) return false;
  }
  return true;
}

std::vector<Genotype> Draws::anchors() const {
  std::vector<Genotype> anchors;
  if (reachable(context_->start, context_->baseline)) anchors.push_back(context_->baseline);
  if (anchors.empty() || anchors[0] != context_->start) anchors.push_back(context_->start);
  return anchors;
}

bool Draws::admissible(const Genotype& genotype) {
  if (!context_->admissible) return true;
  if (refused_.contains(genotype)) return false;
  if (context_->admissible(genotype)) return true;
  refused_.insert(genotype);
  return false;
}

bool Draws::take(const Genotype& genotype) {
  ++attempts_;
  if (known_.contains(genotype)) {
    ++repeated_;
    return false;
  }
  if (!admissible(genotype)) {
    ++inadmissible_;
    return false;
  }
  known_.insert(genotype);
  return true;
}

std::optional<Genotype> Draws::sample(Rng& rng) {
  for (int attempt = 0; attempt < kRejections; ++attempt) {
    Genotype drawn = context_->space->sample(rng, groups_, &context_->start);
    if (take(drawn)) return drawn;
  }
  return std::nullopt;
}

std::optional<std::vector<Genotype>> Draws::enumerate(std::int64_t most) const {
  // Axes of the grid of all combinations: a gene each, and the linked genes together.
  struct Axis {
    std::size_t first;                     // gene
    std::vector<std::vector<int>> values;  // of genes first, first + 1, ...
  };
  const std::vector<Gene>& genes = context_->space->genes();
  const LinkedGenes* linked = context_->space->linked_genes();
  std::vector<Axis> axes;
  double combinations = 1;
  for (std::size_t g = 0; g < genes.size(); ++g) {
    if (std::ranges::find(groups_, genes[g].group) == groups_.end()) continue;
    Axis axis{g, {}};
    if (linked && g == linked->first) {
      axis.values = linked->combinations;
      std::ranges::sort(axis.values);
      g += axis.values.front().size() - 1;
    } else {
      if (combinations * static_cast<double>(genes[g].count()) > kMostCombinations)
        return std::nullopt;
      for (int v = 0; v < genes[g].count(); ++v) axis.values.push_back({v});
    }
    combinations *= static_cast<double>(axis.values.size());
    axes.push_back(std::move(axis));
  }
  if (combinations > kMostCombinations) return std::nullopt;
  Genotype genotype = context_->start;
  std::vector<std::size_t> at(axes.size(), 0);
  const auto set = [&](std::size_t w) {
    std::ranges::copy(axes[w].values[at[w]],
                      genotype.values.begin() + static_cast<std::ptrdiff_t>(axes[w].first));
  };
  for (std::size_t w = 0; w < axes.size(); ++w) set(w);
  std::vector<Genotype> found;
  while (true) {
    if (context_->space->invalid_reason(genotype).empty()) {
      if (std::ssize(found) == most) return std::nullopt;
      found.push_back(genotype);
    }
    // The next combination: the last axis runs fastest.
    std::size_t w = axes.size();
    while (w > 0) {
      --w;
      at[w] = (at[w] + 1) % axes[w].values.size();
      set(w);
      if (at[w] > 0) break;
      if (w == 0) return found;
    }
    if (axes.empty()) return found;
  }
}

void Draws::check_any() const {
  if (!known_.empty()) return;
  std::string smallest;
  std::optional<TrialCost> least;
  for (const Genotype& genotype : refused_) {
    if (!context_->cost) break;
    TrialCost cost;
    try {
      cost = context_->cost(genotype);
    } catch (const Error&) {
      continue;  // cannot be built: has no size
    }
    if (least && cost.parameters >= least->parameters) continue;
    least = cost;
    smallest = concat_text("; the smallest of them has ",
                           format_count(static_cast<double>(cost.parameters)),
                           " parameters, ",
                           format_count(static_cast<double>(cost.macs)),
                           " MACs, ",
                           format_bytes(static_cast<double>(cost.memory_bytes)),
                           " of training memory (",
                           context_->space->short_text(genotype),
                           ")");
  }
  fail(ErrorKind::Usage,
       "stage \"",
       context_->stage.name,
       "\": none of the ",
       refused_.size(),
       " network(s) tried is within the limits",
       smallest);
}

Json Draws::counts() const {
  return {{"attempts", attempts_}, {"repeated", repeated_}, {"inadmissible", inadmissible_}};
}

void Draws::load(const JsonReader& counts, const Ledger& ledger) {
  constexpr std::int64_t kMany = std::int64_t{1} << 60;
  attempts_ = counts.at("attempts").integer(0, kMany);
  repeated_ = counts.at("repeated").integer(0, kMany);
  inadmissible_ = counts.at("inadmissible").integer(0, kMany);
  known_.clear();
  for (const Ledger::Row& row : ledger.rows()) {
    if (row.proposal.purpose != TrialPurpose::SuperNet) known_.insert(row.proposal.genotype);
  }
}

}  // namespace nas
