// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "nas/search/draws.h"
#include "nas/search/ledger.h"
#include "nas/search/strategy.h"

namespace nas {

/// A strategy that trains every genotype once and decides about the next one with whatever was told
/// until then: the anchors first (individual 0, the stage's start), then what `next` gives, until
/// the stage's trials are proposed or the space is exhausted. Outcomes may come in any order and
/// number. In a stage that is not asynchronous, where everything at once is asked for, it proposes
/// option "parallel" of them, and the next when all are told.
class OneByOne : public Strategy {
 public:
  std::vector<Proposal> ask(std::int64_t count) override;
  void tell(const std::vector<Outcome>& outcomes) override;
  Adoption adopt(const Genotype& genotype, const std::string& by) override;
  bool finished() const override { return ended() && ledger_.complete(); }
  std::int64_t planned_trials() const override {
    return finished() ? static_cast<std::int64_t>(ledger_.size()) : planned_;
  }
  Winner winner() const override { return ledger_.best_training(); }
  std::string story() const override;
  std::string save() const override;
  void load(const std::string& state) override;

 protected:
  OneByOne(StrategyContext context, std::string kind);

  /// To be called at the end of the constructor of the kind.
  void begin();
  /// The next genotype, taken from draws_. Nothing: the space is exhausted, or `end` was called.
  /// Proposals that were not told yet are rows of the ledger without an outcome.
  virtual std::optional<Genotype> next() = 0;
  /// Every outcome, in the order they are told.
  virtual void learn(const Outcome&) {}
  /// Beside the ledger; whatever `next` looks at.
  virtual Json save_more() const { return Json::object(); }
  virtual void load_more(const JsonReader&) {}
  /// Keys of the story beside those of all.
  virtual void tell_more(Json& /*story*/) const {}

  /// No more proposals. \param why for the report.
  void end(std::string why) {
    ended_ = true;
    why_ended_ = std::move(why);
  }
  /// Proposals of the search without those that only start it (see Draws::anchors).
  std::int64_t pending() const { return pending_; }

  const StrategyContext context_;
  Draws draws_;  // looks at context_
  Ledger ledger_;
  std::int64_t planned_ = 1;

 private:
  bool ended() const {
    return ended_ || std::ssize(ledger_.rows()) - ledger_.adopted() >= planned_;
  }
  bool add_next();

  const std::string kind_, where_;
  std::int64_t pending_ = 0;  // asked for, not told
  std::int64_t asked_ = 0;
  bool ended_ = false;
  std::string why_ended_;
};

/// Option "parallel" of these kinds (see OneByOne).
StageOption parallel_option();

}  // namespace nas
