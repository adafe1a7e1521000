// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nas/search/ledger_strategy.h"
#include "nas/search/statistics.h"

namespace nas {

/// What both searches over one trained super-network share (uniform_path_search.h,
/// differentiable_search.h). Three steps:
///  1. One SuperNet trial with the option supernet_share of the budget.
///  2. Inherited trials, which score genotypes with its weights; every batch is sorted by genotype,
///     so that an evaluator can share prefixes. What the other two steps leave of the budget is
///     divided among them.
///  3. Own trainings (as many as the budget gives, rank_trials at most) of genotypes spread evenly
///     over the ranks of step 2, each with an equal part of rank_share. Kendall's tau-b between
///     both scores with a bootstrap interval says whether the super-network ranks at all.
///
/// Where the interval does not lie above 0 and on_unranked is "direct", the best of the own
/// trainings wins. winner().how and story() say which, and when fewer than kWantedRankTrials
/// trainings were paid for. If training the super-network fails, step 3 trains the stage's start
/// and random genotypes, and the best of these wins. The rank check and what follows from it are
/// ours.
class SupernetSearch : public LedgerStrategy {
 public:
  bool finished() const override { return step_ == Step::Over; }
  std::int64_t planned_trials() const override;
  Winner winner() const override;
  std::string story() const override;
  std::string save() const override;
  void load(const std::string& state) override;

 protected:
  explicit SupernetSearch(const StrategyContext& context);
  /// Row 0 is the super-network. \param request what the evaluator shall do, beside the method.
  void begin(Json request);

  /// The candidates of step 2 to begin with.
  virtual std::vector<Genotype> first_candidates() = 0;
  /// The next ones, once all are scored; empty: step 2 is over.
  virtual std::vector<Genotype> next_candidates() { return {}; }
  /// The architecture that the super-network chose by itself; empty where it chooses none.
  virtual const Genotype& decoded() const;

  /// Anchors, then random genotypes up to `wanted`, none twice.
  void fill(std::vector<Genotype>& first, std::int64_t wanted);
  std::int64_t count_of(TrialPurpose purpose) const;

  const std::int64_t rank_trials_;
  std::string search_;           // how candidates are found, for the story
  std::int64_t candidates_ = 0;  // of step 2

 private:
  enum class Step { Supernet, Scoring, Training, Over };

  void go_on() override;
  void score_all(std::vector<Genotype> genotypes);
  void train(const Genotype& genotype);
  void train_spread();
  void train_without_scores();
  std::string label_of(const Genotype& genotype) const;
  std::int64_t count_done(TrialPurpose purpose) const;
  const Ledger::Row* decoded_row() const;
  RankAgreement rank_agreement_now() const;
  std::string agreement_text(const RankAgreement& agreement) const;

  const std::string where_;  // for messages
  const double supernet_share_, rank_share_;
  const std::string on_unranked_;
  Step step_ = Step::Supernet;
};

inline constexpr std::int64_t kWantedRankTrials = 8;
/// What so many own trainings can tell of the ranking: half the 95 % interval of Kendall's tau where
/// there is no ranking; its variance is 2 (2n + 5) / (9n (n - 1)) (Kendall 1938). Infinite below
/// kFewestRanked.
double tau_half_width(std::int64_t trials);

// What the two kinds' rows share.
std::vector<StageOption>
supernet_options();  // supernet_share, rank_share, rank_trials, on_unranked, optional
/// \throws Error(Usage) where nothing is left to score candidates.
void check_supernet_shares(const StageSpec& stage, const std::string& where);
/// Of the stage, what neither the super-network nor own trainings take.
double scoring_share(const StageSpec& stage);
/// supernet_share trains the super-network, rank_share buys the own trainings
/// (StageBudget::trials), each of equal compute, with a clock too (StageBudget::effort); candidates
/// are the kind's.
StageBudget supernet_budget(const BudgetQuestion& question);
double least_supernet(const StageSpec& stage, std::int64_t finals);
std::vector<TrialForecast> supernet_forecast(const StageSpec& stage,
                                             const StageBudget& budget,
                                             const StepsOfShare& steps,
                                             std::int64_t candidates);

}  // namespace nas
