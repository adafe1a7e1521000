// SPDX-License-Identifier: Apache-2.0
#include "nas/search/draws.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

#include "nas/core/error.h"
#include "nas/core/quantity.h"
#include "nas/core/text.h"
#include "nas/search/grid.h"

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

std::string Draws::take_foreign(const Genotype& genotype) {
  if (!reachable(genotype, context_->start)) {
    return concat_text("differs from the stage's start (",
                       context_->space->to_text(context_->start),
                       ") in genes that the stage does not search");
  }
  if (known_.contains(genotype)) return "the stage has it already";
  return take(genotype) ? "" : "breaks a limit of the search";
}

std::optional<Genotype> Draws::sample(Rng& rng) {
  for (int attempt = 0; attempt < kRejections; ++attempt) {
    Genotype drawn = context_->space->sample(rng, groups_, &context_->start);
    if (take(drawn)) return drawn;
  }
  return std::nullopt;
}

std::optional<std::vector<Genotype>> Draws::enumerate(std::int64_t most) const {
  const std::vector<Gene>& genes = context_->space->genes();
  double product = 1;
  bool too_many = false;
  const Grid grid(*context_->space, groups_, context_->start, [&](std::size_t g) {
    product *= static_cast<double>(genes[g].count());
    too_many = product > kMostCombinations;
    std::vector<int> values(too_many ? 1 : static_cast<std::size_t>(genes[g].count()));
    std::iota(values.begin(), values.end(), 0);
    return values;
  });
  if (too_many || grid.combinations() > kMostCombinations) return std::nullopt;
  std::vector<Genotype> found;
  grid.walk([&](const Genotype& genotype) {
    if (!context_->space->invalid_reason(genotype).empty()) return true;
    too_many = std::ssize(found) == most;
    if (!too_many) found.push_back(genotype);
    return !too_many;
  });
  if (too_many) return std::nullopt;
  return found;
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

Adoption adopt_next(Draws& draws, Ledger& ledger, Proposal proposal, const std::string& by) {
  std::string refusal = draws.take_foreign(proposal.genotype);
  if (!refusal.empty()) return {std::nullopt, std::move(refusal)};
  proposal.asked_by = by;
  return {ledger.row(ledger.adopt(std::move(proposal))).proposal, ""};
}

}  // namespace nas
