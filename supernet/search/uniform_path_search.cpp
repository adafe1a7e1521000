// SPDX-License-Identifier: Apache-2.0
#include "supernet/search/uniform_path_search.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "evolution/regularized.h"
#include "nas/core/error.h"
#include "nas/core/json.h"
#include "supernet/search/supernet_search.h"

namespace nas {
namespace {

constexpr std::int64_t kFewCandidates = 16;  // below: no generations, a random sample
constexpr std::int64_t kDefaultCandidates = 64;
// Without a clock a candidate is scored for each step, though a batch below 4 makes that costlier.
constexpr std::int64_t kFewestCandidates = 4;
constexpr std::int64_t kMostCandidates = 2000;
constexpr double kShortestScoring = 1e-3;  // seconds

class UniformPathSearch : public SupernetSearch {
 public:
  explicit UniformPathSearch(const StrategyContext& context) : SupernetSearch(context) {
    choose_search();
    begin(Json::object());
  }

 private:
  /// Turns "auto" and 0 into a way to search and a number.
  void choose_search() {
    const std::int64_t paid = context_.budget.candidates;
    candidates_ = paid > 0 ? paid : kDefaultCandidates;
    search_ = context_.stage.word("search");
    if (search_ == "random" || search_ == "regularized") return;
    const auto all = admissible_genotypes();
    if (all && std::ssize(*all) <= candidates_) {
      search_ = "exhaustive";
      candidates_ = std::ssize(*all);
      return;
    }
    NAS_CHECK_KIND(
        Usage,
        search_ != "exhaustive",
        "stage \"",
        context_.stage.name,
        "\": search: \"exhaustive\" has to score every genotype of its groups, but there "
        "are more than the ",
        candidates_,
        " that it may score; take \"auto\", or raise candidates or the budget");
    search_ = candidates_ < kFewCandidates ? "random" : "regularized";
  }

  /// Nothing if there are more than could be scored anyway.
  std::optional<std::vector<Genotype>> admissible_genotypes() const {
    // Limits turn genotypes away, so a few more than can be scored are worth looking at.
    auto all = draws_.enumerate(8 * candidates_);
    if (all && context_.admissible) {
      std::erase_if(*all, [&](const Genotype& g) { return !context_.admissible(g); });
    }
    return all;
  }

  std::vector<Genotype> first_candidates() override {
    std::vector<Genotype> first;
    if (search_ == "exhaustive") {
      for (const Genotype& genotype : admissible_genotypes().value_or(std::vector<Genotype>{})) {
        if (draws_.take(genotype)) first.push_back(genotype);
      }
    } else {
      fill(first, search_ == "regularized" ? aging_sizes(candidates_).population : candidates_);
    }
    return first;
  }

  /// The next generation of the evolution over inherited scores.
  std::vector<Genotype> next_candidates() override {
    if (search_ != "regularized") return {};
    AgingSizes sizes = aging_sizes(candidates_);
    // Scores are cheap and come in batches that share prefixes: large generations.
    sizes.batch = std::max<std::int64_t>(1, sizes.population / 2);
    return next_generation(context_,
                           ledger_,
                           TrialPurpose::Inherited,
                           sizes,
                           candidates_ - count_of(TrialPurpose::Inherited),
                           {},
                           draws_);
  }
};

StageBudget uniform_path_budget(const BudgetQuestion& question) {
  StageBudget result = supernet_budget(question);
  result.candidates = question.stage.count("candidates");
  if (result.candidates > 0) return result;
  const double share = scoring_share(question.stage);
  const double affordable = question.has_clock
                                ? result.seconds * share * kStepMargin /
                                      std::max(question.candidate_seconds, kShortestScoring)
                                : static_cast<double>(result.steps) * share;
  result.candidates = std::clamp<std::int64_t>(static_cast<std::int64_t>(affordable),
                                               question.has_clock ? 1 : kFewestCandidates,
                                               kMostCandidates);
  return result;
}

std::vector<StageOption> uniform_path_options() {
  std::vector<StageOption> options = supernet_options();
  options.push_back(count_option("candidates", 0, 0, 10'000'000));  // 0: from the budget
  options.push_back(word_option("search", "auto", {"auto", "random", "regularized", "exhaustive"}));
  return options;
}

}  // namespace

const StrategyKind& single_path_kind() {
  static const StrategyKind kind{
      .name = "single_path",
      .words = "single-path super-network (C2FNAS, cells)",
      .options = uniform_path_options(),
      .check = check_supernet_shares,
      .needs_super_network = true,
      .may_be_control = false,
      .counts_candidates = true,
      .trials_option = "rank_trials",
      .budget = uniform_path_budget,
      .least_trainings = least_supernet,
      .forecast =
          [](const StageSpec& stage, const StageBudget& budget, const StepsOfShare& steps) {
            return supernet_forecast(stage, budget, steps, budget.candidates);
          },
      .make = [](const StrategyContext& context) -> std::unique_ptr<Strategy> {
        return std::make_unique<UniformPathSearch>(context);
      }};
  return kind;
}

}  // namespace nas
