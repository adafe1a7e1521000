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
#include "nas/search/recipe.h"

namespace nas {

/// A wish for one trial.
struct Proposal {
  std::int64_t number = 0;  // the strategy's own, unique within the stage
  Genotype genotype;
  int rung = 0;
  double share = 0;   // of the stage's budget, (0, 1]; the shares of a stage add up to 1 at most
  std::string label;  // "" or a role, e.g. "baseline"
  bool operator==(const Proposal&) const = default;
};

/// What became of a proposal.
struct Outcome {
  std::int64_t number = 0;
  TrialStatus status = TrialStatus::Failed;
  double score = 0;
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
  /// How many trials the whole stage will have (for forecasts and progress).
  virtual std::int64_t planned_trials() const = 0;
  virtual std::string save() const = 0;             // JSON text
  virtual void load(const std::string& state) = 0;  // \throws Error(Input)
};

/// What a strategy is made from.
struct StrategyContext {
  const SearchSpace* space = nullptr;
  StageSpec stage;  // options filled in: `trials` and `rungs` are numbers here
  Rng rng{0};
  std::function<bool(const Genotype&)> admissible;  // hard limits; empty: all are
  Genotype best;           // the best of the stages before, or the baseline
  bool has_clock = false;  // the budget is in seconds
};

using StrategyFactory = std::function<std::unique_ptr<Strategy>(const StrategyContext&)>;

}  // namespace nas
