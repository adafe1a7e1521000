// SPDX-License-Identifier: Apache-2.0
#include "nas/controllers/rl_search.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "nas/controllers/policy_network.h"
#include "nas/core/error.h"
#include "nas/search/one_by_one.h"
#include "nas/search/unit_space.h"

namespace nas {
namespace {

constexpr Eigen::Index kHidden = 64;
constexpr double kRate = 0.003, kNorm = 1;
constexpr double kBaselineKept = 0.8;
constexpr double kMostAdvantage = 3;
constexpr int kAttempts = 64;  // at a strategy that is new and allowed

class RlSearch : public OneByOne {
 public:
  explicit RlSearch(const StrategyContext& context)
      : OneByOne(context, "rl"), space_(*context_.space, draws_.groups(), context_.start) {
    forget();
    begin();
  }

 protected:
  std::optional<Genotype> next() override {
    const auto number = std::ssize(ledger_.rows());
    const Eigen::VectorXd outputs = look(number);
    events_.push_back(number);
    Rng rng = context_.rng.split("next", number);
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      Genotype genotype = space_.genotype(policy_->draw(outputs, rng));
      if (context_.space->invalid_reason(genotype).empty() && draws_.take(genotype)) {
        return genotype;
      }
    }
    ++fallbacks_;
    auto genotype = draws_.sample(rng);
    if (!genotype) events_.pop_back();
    return genotype;
  }

  void learn(const Outcome& outcome) override {
    events_.push_back(-1 - outcome.number);
    absorb(outcome);
  }

  Json save_more() const override { return {{"events", events_}, {"fallbacks", fallbacks_}}; }

  void load_more(const JsonReader& more) override {
    constexpr std::int64_t kMany = 1 << 30;
    fallbacks_ = more.at("fallbacks").integer(0, kMany);
    const std::vector<std::int64_t> events = more.at("events").integers();
    forget();
    std::vector<char> told(ledger_.size(), 0), looked(ledger_.size(), 0);
    for (const std::int64_t event : events) {
      const std::int64_t number = event >= 0 ? event : -1 - event;
      auto& seen = event >= 0 ? looked : told;
      const bool fits = number < std::ssize(ledger_.rows()) &&
                        !seen[static_cast<std::size_t>(number)] &&
                        (event >= 0 || ledger_.row(number).told);
      NAS_CHECK(fits, more.where(), ".events: ", event, " is no event of the ledger");
      seen[static_cast<std::size_t>(number)] = 1;
      events_.push_back(event);
      if (event >= 0) {
        look(number);
      } else {
        absorb(ledger_.row(number).outcome);
      }
    }
  }

  void tell_more(Json& story) const override {
    story["updates"] = updates_;
    story["fallbacks"] = fallbacks_;
    story["entropy"] = entropies_;
  }

 private:
  struct Seen {
    Eigen::VectorXd input, hidden;
  };

  void forget() {
    policy_.emplace(space_, kHidden, context_.rng.split("policy"));
    adam_.emplace(policy_->parameters().size(), kRate, kNorm);
    hidden_ = Eigen::VectorXd::Zero(kHidden);
    events_.clear();
    seen_.clear();
    entropies_.clear();
    last_.clear();
    told_ = updates_ = 0;
    last_reward_ = baseline_ = mean_ = squares_ = worst_ = 0;
  }

  /// One step of the policy, for the proposal of this number.
  Eigen::VectorXd look(std::int64_t number) {
    Seen seen{policy_->input(last_, last_reward_), hidden_};
    const PolicyNetwork::Step step = policy_->step(seen.input, seen.hidden);
    hidden_ = step.hidden;
    seen_[number] = std::move(seen);
    return step.outputs;
  }

  void absorb(const Outcome& outcome) {
    const bool done = outcome.status == TrialStatus::Done;
    if (!done && told_ == 0) return;  // no score yet to compare with
    const double score = done ? outcome.score : worst_;
    worst_ = told_ == 0 ? score : std::min(worst_, score);
    if (told_ == 0) baseline_ = score;
    ++told_;
    const double off = score - mean_;
    mean_ += off / static_cast<double>(told_);
    squares_ += off * (score - mean_);
    const double deviation = std::sqrt(squares_ / static_cast<double>(told_));
    const double advantage =
        deviation > 0 ? std::clamp((score - baseline_) / deviation, -kMostAdvantage, kMostAdvantage)
                      : 0;
    baseline_ = kBaselineKept * baseline_ + (1 - kBaselineKept) * score;
    const std::vector<double> point = space_.point(ledger_.row(outcome.number).proposal.genotype);
    // The anchors were nobody's choice.
    if (const auto seen = seen_.find(outcome.number); seen != seen_.end()) {
      const double left =
          std::max(0.0, 1 - static_cast<double>(told_) / static_cast<double>(planned_));
      Eigen::VectorXd gradient;
      policy_->loss(seen->second.input,
                    seen->second.hidden,
                    point,
                    advantage,
                    context_.stage.number("entropy") * left,
                    &gradient);
      adam_->step(policy_->parameters(), gradient);
      ++updates_;
      entropies_.push_back(
          policy_->entropy(policy_->step(seen->second.input, seen->second.hidden).outputs));
      seen_.erase(seen);
    }
    last_ = point;
    last_reward_ = advantage;
  }

  const UnitSpace space_;
  // All of this follows from the events.
  std::optional<PolicyNetwork> policy_;
  std::optional<Adam> adam_;
  Eigen::VectorXd hidden_;
  std::map<std::int64_t, Seen> seen_;  // of proposals that are not told
  std::vector<double> last_;
  double last_reward_ = 0, baseline_ = 0, mean_ = 0, squares_ = 0, worst_ = 0;
  std::int64_t told_ = 0, updates_ = 0;
  std::vector<double> entropies_;
  std::vector<std::int64_t> events_;  // number of a proposal, or -1 - number of an outcome
  std::int64_t fallbacks_ = 0;
};

}  // namespace

const StrategyKind& rl_kind() {
  static const StrategyKind kind{
      .name = "rl",
      .words = "recurrent policy trained by REINFORCE",
      .options = {trials_option(),
                  parallel_option(),
                  number_option("entropy", 0.01, {.low = 0, .high = 10})},
      .async = true,
      .budget = trained_once_budget,
      .least_trainings = least_trained_once,
      .forecast = trained_once_forecast,
      .make = [](const StrategyContext& context) -> std::unique_ptr<Strategy> {
        return std::make_unique<RlSearch>(context);
      }};
  return kind;
}

}  // namespace nas
