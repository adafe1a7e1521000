// SPDX-License-Identifier: Apache-2.0
#include "supernet/search/differentiable_search.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/json.h"
#include "supernet/search/supernet_search.h"

namespace nas {
namespace {

class DifferentiableSearch : public SupernetSearch {
 public:
  explicit DifferentiableSearch(const StrategyContext& context) : SupernetSearch(context) {
    search_ = "decoded";
    candidates_ = std::max<std::int64_t>(1, rank_trials_);
    Json request = {{"merge", context.stage.word("merge")},
                    {"order", context.stage.count("order")},
                    {"warmup", context.stage.number("warmup")}};
    if (context.max_parameters > 0) request["max_parameters"] = context.max_parameters;
    begin(std::move(request));
  }

 private:
  const Genotype& decoded() const override { return ledger_.row(0).outcome.decoded; }

  std::vector<Genotype> first_candidates() override {
    NAS_CHECK_KIND(Internal,
                   !decoded().values.empty(),
                   "stage \"",
                   context_.stage.name,
                   "\": the differentiable super-network decoded nothing");
    std::vector<Genotype> first;
    if (draws_.take(decoded())) first.push_back(decoded());
    fill(first, candidates_);
    return first;
  }
};

std::vector<StageOption> differentiable_options() {
  std::vector<StageOption> options = supernet_options();
  // "exact" (branches), or "mixed" (one convolution; needs norms after the choice).
  options.push_back(word_option("merge", "none", {"none", "exact", "mixed"}));
  options.push_back(count_option("order", 1, 1, 2));  // 2: unrolled step
  // Share of the steps before alpha moves.
  options.push_back(number_option("warmup", 0.3, {.high_open = true}));
  return options;
}

}  // namespace

const StrategyKind& differentiable_kind() {
  static const StrategyKind kind{
      .name = "differentiable",
      .words = "differentiable super-network (V-NAS)",
      .options = differentiable_options(),
      .check = check_supernet_shares,
      .needs_super_network = true,
      .may_be_control = false,
      .trials_option = "rank_trials",
      .budget = supernet_budget,
      .least_trainings = least_supernet,
      .forecast =
          [](const StageSpec& stage, const StageBudget& budget, const StepsOfShare& steps) {
            return supernet_forecast(
                stage, budget, steps, std::max<std::int64_t>(1, budget.trials));
          },
      .make = [](const StrategyContext& context) -> std::unique_ptr<Strategy> {
        return std::make_unique<DifferentiableSearch>(context);
      }};
  return kind;
}

}  // namespace nas
