// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "nas/search/ledger.h"

namespace nas {

/// Groups that a stage may change: as the recipe says, or all of the space's but the choice of the
/// kind of network itself ("network"). \throws Error(Usage) on a group that the space does not
/// have.
std::vector<std::string> searched_groups(const SearchSpace& space, const StageSpec& stage);

/// Genotypes that a stage may propose: inside its groups, within the hard limits, each once. Every
/// attempt is counted, so that loops end and the story can say what was turned away.
class Draws {
 public:
  explicit Draws(const StrategyContext& context);

  /// The groups that may change: those of the stage, or all but "network".
  const std::vector<std::string>& groups() const { return groups_; }
  /// Individual 0 where it lies within the groups around context.start, then context.start. Which
  /// of them are admissible is not looked at.
  std::vector<Genotype> anchors() const;
  /// Whether the two differ only in genes of the groups.
  bool reachable(const Genotype& a, const Genotype& b) const;

  /// True if `genotype` is admissible and was not taken before; then it is taken.
  bool take(const Genotype& genotype);
  /// take() of a genotype of somebody else, which may lie anywhere. \returns "", or why it is not
  /// taken.
  std::string take_foreign(const Genotype& genotype);
  /// A random genotype of the groups around context.start, or nothing after kRejections attempts in
  /// a row.
  std::optional<Genotype> sample(Rng& rng);
  /// All valid genotypes of the groups around context.start, in the order of their values; nothing
  /// if there are more than `most` of them or too many combinations to look at.
  std::optional<std::vector<Genotype>> enumerate(std::int64_t most) const;
  /// Not taken again: after load(), or because it was proposed some other way.
  void mark(const Genotype& genotype) { known_.insert(genotype); }

  /// \throws Error(Usage) with the smallest network seen, if nothing at all was taken.
  void check_any() const;
  Json counts() const;  // {"attempts", "repeated", "inadmissible"}
  void load(const JsonReader& counts, const Ledger& ledger);  // \throws Error(Input)

  static constexpr int kRejections = 1000;  // in a row: the space is exhausted

 private:
  bool admissible(const Genotype& genotype);
  const StrategyContext* context_;
  std::vector<std::string> groups_;
  std::set<Genotype> known_, refused_;
  std::int64_t attempts_ = 0, repeated_ = 0, inadmissible_ = 0;
};

/// Strategy::adopt of strategies with draws and a ledger.
Adoption adopt_next(Draws& draws, Ledger& ledger, Proposal proposal, const std::string& by);

}  // namespace nas
