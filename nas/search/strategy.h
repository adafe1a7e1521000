// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nas/core/rng.h"
#include "nas/search/evaluator.h"
#include "nas/search/strategy_kind.h"

namespace nas {

/// A wish for one trial.
struct Proposal {
  std::int64_t number = 0;  // the strategy's own, unique within the stage
  Genotype genotype;
  int rung = 0;
  double share = 0;   // of the stage's budget, (0, 1]; the shares of a stage add up to 1 at most
  std::string label;  // "" or a role, e.g. "baseline"
  TrialPurpose purpose = TrialPurpose::Search;
  std::string request = {};  // JSON text for the evaluator (SuperNet trials)
  std::int64_t source = -1;  // number of the stage's proposal whose weights are used; -1: none
  bool warm_start = false;   // start from the weights of the last super-network before this stage
  /// Number of the stage's proposal whose training goes on; -1: a training of its own. `share` is
  /// what comes on top; the outcome's steps and effort are those of the whole training.
  std::int64_t continues = -1;
  bool all_cases = false;     // of a final training: learns from the inner validation cases too
  std::string asked_by = {};  // adopted: who wanted it (Trial::asked_by)
  bool operator==(const Proposal&) const = default;
};

/// What became of a proposal.
struct Outcome {
  std::int64_t number = 0;
  TrialStatus status = TrialStatus::Failed;
  double score = 0;
  std::int64_t trial = 0;  // id of the row
  Genotype decoded = {};   // of a differentiable super-network; else empty
  std::int64_t steps = 0;  // done
  std::string how = {};    // how the score was obtained
  double effort = 0;       // compute of the whole training so far, in steps of the plan at batch 2
  std::vector<double> cases = {};  // score of each inner validation case, in one order for all
                                   // trials; NaN where a case has none; empty: not known
};

/// What a stage hands to the next.
struct Winner {
  bool found = false;
  Genotype genotype;
  double score = 0;
  std::string how;  // how it was chosen, for people: "best of 8 own trainings, Kendall tau 0.1 ..."
  bool operator==(const Winner&) const = default;
};

/// What a strategy says to a genotype that somebody else wants to have tried.
struct Adoption {
  std::optional<Proposal> proposal;  // asked for by now; its outcome is to be told
  std::string refusal;               // why not, where there is none
};

/// Decides which genotypes to try. Never sees a tensor, a clock or a file. Everything it proposes
/// must follow from its arguments and what it was told, in the order it was told; save/load keep
/// its state exactly.
class Strategy {
 public:
  virtual ~Strategy() = default;
  /// Up to `count` proposals. Empty: either finished() or it waits for outcomes of earlier
  /// proposals.
  virtual std::vector<Proposal> ask(std::int64_t count) = 0;
  virtual void tell(const std::vector<Outcome>& outcomes) = 0;
  virtual bool finished() const = 0;
  /// Takes in a genotype as if it had proposed it, as the next one and beyond its number of trials.
  /// Called only where the kind adopts (StrategyKind) and while the strategy has not finished.
  virtual Adoption adopt(const Genotype& /*genotype*/, const std::string& /*by*/) {
    return {std::nullopt, "the stage takes no genotypes of others"};
  }
  /// Proposals whose training may still go on: their checkpoints are kept. Those of others go.
  virtual std::vector<std::int64_t> resting() const { return {}; }
  /// The stage's time is over: nothing more will be evaluated, winner() decides on what was told.
  virtual void close() {}
  /// How many trials the whole stage will have (for forecasts and progress).
  virtual std::int64_t planned_trials() const = 0;
  /// The stage's choice; `found` is false while (or if) nothing has succeeded.
  virtual Winner winner() const = 0;
  /// What the report tells of the stage: JSON text with the kind's own keys (docs/formats.md).
  virtual std::string story() const { return "{}"; }
  virtual std::string save() const = 0;             // JSON text
  virtual void load(const std::string& state) = 0;  // \throws Error(Input)
};

/// What a strategy is made from.
struct StrategyContext {
  const SearchSpace* space = nullptr;
  StageSpec stage;     // its groups are those of the space where the recipe names none
  StageBudget budget;  // what the kind's rule gave it: trials, rungs, candidates
  Rng rng{0};
  std::function<bool(const Genotype&)> admissible;  // hard limits; empty: all are
  /// Size of a genotype's network; empty where nobody asks. \throws Error if it cannot be built.
  std::function<TrialCost(const Genotype&)> cost;
  Genotype start;  // what the stage starts from: the winner of the stages before, or space->start()
  Genotype baseline;                // individual 0
  Genotype control;                 // of a retrain stage: winner of the control stage, or empty
  std::int64_t max_parameters = 0;  // of the hard limits, for decoding a super-network; 0: none
  /// Contestants of a race that come first, best known first; empty: the space's own.
  std::vector<Starter> portfolio = {};
  bool start_found = false;  // `start` is a winner of a stage before
  bool has_clock = false;    // the budget is in seconds
};

/// As the stage's kind makes it.
inline std::unique_ptr<Strategy> make_strategy(const StrategyContext& context) {
  return context.stage.kind->make(context);
}

}  // namespace nas
