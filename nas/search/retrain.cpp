// SPDX-License-Identifier: Apache-2.0
#include "nas/search/retrain.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/json.h"
#include "nas/search/curve.h"

namespace nas {
namespace {

constexpr const char* kWhere = "state of strategy \"retrain\"";

// The plan is trained beside the found network where halving the compute costs less than this of
// the expected score.
constexpr double kComparisonCost = 0.001;

/// Whether the plan is trained too, for the paired comparison. Where the choice was not made before
/// (the search never saw the plan) it always is.
bool compares(const StageSpec& stage, const StageBudget& budget) {
  const std::string asked = stage.word("compare");
  if (asked != "auto") return asked == "yes";
  const double effort = budget.effort > 0 ? budget.effort : budget.horizon;
  if (effort <= 0) return true;
  const CurvePrior prior;
  return expected_score(prior, 1, effort) - expected_score(prior, 1, effort / 2) < kComparisonCost;
}

class Retrain : public Strategy {
 public:
  explicit Retrain(const StrategyContext& c) {
    const Genotype best = c.start_found ? c.start : c.baseline;
    std::vector<std::pair<Genotype, std::string>> wanted;
    if (best != c.baseline) wanted.emplace_back(best, "best");
    if (best == c.baseline || compares(c.stage, c.budget))
      wanted.emplace_back(c.baseline, "baseline");
    if (!c.control.values.empty() && c.control != best && c.control != c.baseline) {
      wanted.emplace_back(c.control, "control");
    }
    // With steps a training has budget.steps whatever the others do.
    const bool divided = c.has_clock || c.budget.effort > 0;
    const std::int64_t parts = divided ? std::ssize(wanted) : c.budget.trials;
    for (const auto& [genotype, label] : wanted) {
      Proposal p;
      p.number = std::ssize(proposals_);
      p.genotype = genotype;
      p.share = 1.0 / static_cast<double>(parts);
      p.label = label;
      p.purpose = TrialPurpose::Retrain;
      p.all_cases = c.stage.flag("all_cases");
      proposals_.push_back(std::move(p));
    }
    if (best != c.baseline) proposals_.front().warm_start = c.stage.flag("warm_start");
  }

  std::vector<Proposal> ask(std::int64_t count) override {
    std::vector<Proposal> result;
    for (; asked_ < proposals_.size() && count > 0; ++asked_, --count) {
      result.push_back(proposals_[asked_]);
    }
    return result;
  }
  void tell(const std::vector<Outcome>& outcomes) override { told_ += outcomes.size(); }
  bool finished() const override { return told_ == proposals_.size(); }
  Winner winner() const override { return {}; }  // delivered_label decides, by inner validation
  std::int64_t planned_trials() const override { return std::ssize(proposals_); }

  std::string save() const override { return Json{{"asked", asked_}, {"told", told_}}.dump(); }
  void load(const std::string& state) override {
    const Json value = parse_json(state, kWhere);
    const JsonReader reader(value, kWhere);
    const std::int64_t size = std::ssize(proposals_);
    asked_ = static_cast<std::size_t>(reader.at("asked").integer(0, size));
    told_ = static_cast<std::size_t>(reader.at("told").integer(0, size));
  }

 private:
  std::vector<Proposal> proposals_;
  std::size_t asked_ = 0, told_ = 0;
};

StageBudget final_budget(const BudgetQuestion& question) {
  StageBudget result = question.means;
  result.trials = question.finals;
  const double needed = static_cast<double>(question.finals) * question.smallest_seconds;
  if (question.has_clock && result.seconds < needed) question.refuse(question.finals);
  return result;
}

std::vector<TrialForecast> final_forecast(const StageSpec& stage,
                                          const StageBudget& budget,
                                          const StepsOfShare& steps) {
  const std::int64_t finals = std::max<std::int64_t>(1, budget.trials);
  const bool compared = compares(stage, budget);
  const std::int64_t trials = std::max<std::int64_t>(1, compared ? finals : finals - 1);
  const bool divided = budget.seconds > 0 || budget.effort > 0;
  const char* what = compared ? (trials > 2 ? "best, baseline and control" : "best and baseline")
                              : (trials > 1 ? "best and control" : "final training");
  return {{.what = what,
           .count = trials,
           .steps = steps(1.0 / static_cast<double>(divided ? trials : finals)),
           .named = true}};
}

}  // namespace

const StrategyKind& retrain_kind() {
  static const StrategyKind kind{
      .name = "retrain",
      .words = "final trainings",
      .options = {flag_option("warm_start", false),  // from the last super-network's weights
                  // Learns from the inner validation cases too: only where the stages before have
                  // compared their winner with the plan.
                  flag_option("all_cases", false),
                  word_option("compare", "yes", {"yes", "no", "auto"})},
      .final = true,
      .may_be_control = false,
      .counts_with_baseline = true,
      .budget = final_budget,
      .least_trainings = [](const StageSpec&,
                            std::int64_t finals) { return static_cast<double>(finals); },
      .forecast = final_forecast,
      .make = [](const StrategyContext& context) -> std::unique_ptr<Strategy> {
        return std::make_unique<Retrain>(context);
      }};
  return kind;
}

}  // namespace nas
