// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nas/search/strategy.h"

namespace nas {

/// The proposals of a strategy and what became of them: the bookkeeping that strategies share. The
/// number of a proposal is its place here.
class Ledger {
 public:
  struct Row {
    Proposal proposal;
    bool told = false;
    Outcome outcome;  // meaningful if told
    bool done() const { return told && outcome.status == TrialStatus::Done; }
  };

  /// \param kind of the strategy, for messages.
  explicit Ledger(std::string kind) : kind_(std::move(kind)) {}

  /// \returns the number given to the proposal.
  std::int64_t add(Proposal proposal);
  /// Up to `count` rows that were not asked for yet, in order.
  std::vector<Proposal> ask(std::int64_t count);
  /// Puts a proposal before those that were not asked for yet, and counts it as asked for. For
  /// strategies whose proposals do not name each other: those behind it get other numbers.
  std::int64_t adopt(Proposal proposal);
  /// How many rows somebody else wanted.
  std::int64_t adopted() const { return adopted_; }
  /// \throws Error(Internal) on an outcome that nobody waits for.
  void tell(const std::vector<Outcome>& outcomes);
  /// Every row has its outcome.
  bool complete() const { return told_ == rows_.size(); }

  std::size_t size() const { return rows_.size(); }
  const std::vector<Row>& rows() const { return rows_; }
  const Row& row(std::int64_t number) const { return rows_.at(static_cast<std::size_t>(number)); }
  /// The finished row of this purpose with the highest score, the first of equal ones.
  std::optional<std::int64_t> best(TrialPurpose purpose = TrialPurpose::Search) const;
  /// After each outcome, in the order of numbers, the best score so far (null before the first):
  /// JSON list, for stories.
  Json best_after() const;
  /// The best own training as a stage's winner.
  Winner best_training() const;

  Json save() const;
  void load(const JsonReader& reader);  // \throws Error(Input)

 private:
  std::string kind_;
  std::vector<Row> rows_;
  std::size_t asked_ = 0, told_ = 0;
  std::int64_t adopted_ = 0;
};

/// An own training that has an equal share of a stage of `trials` of them; individual 0 is labelled.
Proposal equal_share(const StrategyContext& context, Genotype genotype, std::int64_t trials);

/// Genotypes in a strategy's state.
Json genotypes_to_json(const std::vector<Genotype>& genotypes);
std::vector<Genotype> genotypes_from_json(const JsonReader& reader);  // \throws Error(Input)

/// A score in a story or state: null where there is none.
Json score_to_json(const std::optional<double>& score);

}  // namespace nas
