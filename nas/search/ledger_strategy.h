// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "nas/search/draws.h"
#include "nas/search/ledger.h"
#include "nas/search/strategy.h"

namespace nas {

/// A strategy whose proposals lie in a ledger, over genotypes drawn within its stage's groups and
/// limits. Whenever every proposal has its outcome and the search is not finished, `go_on` adds the
/// next ones or ends it.
class LedgerStrategy : public Strategy {
 public:
  std::vector<Proposal> ask(std::int64_t count) override { return ledger_.ask(count); }
  void tell(const std::vector<Outcome>& outcomes) override {
    ledger_.tell(outcomes);
    while (ledger_.complete() && !finished()) go_on();
  }
  bool finished() const override { return finished_; }
  std::int64_t planned_trials() const override {
    return finished() ? static_cast<std::int64_t>(ledger_.size()) : planned_;
  }
  Winner winner() const override { return ledger_.best_training(); }

 protected:
  LedgerStrategy(StrategyContext context, std::string kind)
      : context_(std::move(context)), draws_(context_), ledger_(std::move(kind)) {}

  virtual void go_on() = 0;

  const StrategyContext context_;
  Draws draws_;  // looks at context_
  Ledger ledger_;
  std::int64_t planned_ = 1;  // trials of the whole stage, as long as it runs
  bool finished_ = false;
};

}  // namespace nas
