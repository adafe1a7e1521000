// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "nas/search/strategy.h"
#include "nas/search/trial_store.h"

namespace nas {

/// Keeps where a stage's strategy stands, at a cost that does not grow with the stage.
///
/// A strategy is determined by its arguments and what it was asked and told. So a store need not
/// hold its whole state after each trial, which would make a stage of n trials cost n^2: it holds
/// the state now and then, and every step since. A step is written in the transaction of its effect.
class StrategyJournal {
 public:
  /// \param repeats that the strategy, asked again, proposes the same: the whole state is written
  /// each time where it need not (an external controller, limits that are measured).
  StrategyJournal(std::string stage, bool repeats) : stage_(std::move(stage)), repeats_(repeats) {}

  /// Brings a new strategy to where the stored one stood. \param outcome of a told trial.
  /// \throws Error(Input) if it proposes otherwise than it did: another version began the run.
  void restore(const TrialStore& store,
               const std::function<Outcome(const Trial&)>& outcome,
               Strategy& strategy);

  /// What to store after ask(`count`).
  StrategyChange asked(const Strategy& strategy, std::int64_t count);
  /// What to store after each of `trials` was told in a call of its own. \param closed then.
  StrategyChange told(const Strategy& strategy,
                      const std::vector<std::int64_t>& trials,
                      bool closed);
  /// All of it anew.
  StrategyChange whole(const Strategy& strategy);

 private:
  StrategyChange change(const Strategy& strategy, std::string step);

  std::string stage_;
  bool repeats_ = false;
  std::size_t steps_ = 0, bytes_ = 0;  // since the whole state was written; its size
};

}  // namespace nas
