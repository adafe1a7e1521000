// SPDX-License-Identifier: Apache-2.0
#include "nas/search/pruner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "nas/jobs/strategies/strategies.h"
#include "nas/results/results_db.h"
#include "nas/search/recipe.h"
#include "nas/search/run_search.h"
#include "tests/support/support.h"
#include "tests/support/toy_search.h"

namespace nas {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// Reports of trials 1, 2, ...: one list of scores each.
std::vector<ReportRecord> reports(const std::vector<std::vector<double>>& scores) {
  std::vector<ReportRecord> all;
  for (std::size_t t = 0; t < scores.size(); ++t) {
    for (std::size_t i = 0; i < scores[t].size(); ++i) {
      // Other steps for every trial: places count.
      all.push_back({static_cast<std::int64_t>(t) + 1,
                     static_cast<std::int64_t>((i + 1) * (10 + t)),
                     "score",
                     scores[t][i],
                     0});
    }
  }
  return all;
}

TEST(Pruner, MedianEndsWhoIsBelowHalfOfTheOthersAtTheSamePlace) {
  PruneRule rule;
  rule.kind = "median";
  rule.startup = 4;
  const auto others = [](double mine) {
    return reports({{0.1, 0.9}, {0.2}, {0.3}, {0.4}, {mine}});
  };
  EXPECT_EQ(reason_to_prune(rule, others(0.25), 5), "");
  EXPECT_THAT(reason_to_prune(rule, others(0.15), 5), HasSubstr("3 of 4 others were better"));
  // Too few have come as far as the second report.
  EXPECT_EQ(reason_to_prune(rule, reports({{0.1, 0.9}, {0.2}, {0.3}, {0.4}, {0.01, 0.02}}), 5), "");
  rule.startup = 5;
  EXPECT_EQ(reason_to_prune(rule, others(0.01), 5), "") << "not yet enough others";
  rule = {.kind = "percentile", .percentile = 25, .startup = 4};
  EXPECT_EQ(reason_to_prune(rule, others(0.15), 5), "") << "a quarter is worse";
  EXPECT_NE(reason_to_prune(rule, others(0.05), 5), "");
  EXPECT_EQ(reason_to_prune(PruneRule{}, others(0), 5), "") << "none";
}

TEST(Pruner, ItsOwnBestCountsNotItsLast) {
  PruneRule rule;
  rule.kind = "median";
  rule.startup = 2;
  EXPECT_EQ(reason_to_prune(rule, reports({{0.1, 0.2}, {0.1, 0.3}, {0.9, 0.0}}), 3), "");
}

TEST(Pruner, AshaLetsTheBestThirdOnAndOneAtLeast) {
  PruneRule rule;
  rule.kind = "asha";
  rule.startup = 2;
  EXPECT_EQ(reason_to_prune(rule, reports({{0.1}, {0.2}, {0.3}}), 3), "");
  EXPECT_NE(reason_to_prune(rule, reports({{0.1}, {0.4}, {0.3}}), 3), "");
  EXPECT_EQ(reason_to_prune(rule, reports({{0.1}, {0.4}, {0.2}, {0.1}, {0.1}, {0.3}}), 6), "");
}

TEST(Pruner, ThresholdAndPatience) {
  PruneRule rule;
  rule.kind = "threshold";
  rule.threshold = 0.5;
  EXPECT_NE(reason_to_prune(rule, reports({{0.4}}), 1), "");
  EXPECT_EQ(reason_to_prune(rule, reports({{0.5}}), 1), "");
  rule.kind = "patient";
  EXPECT_EQ(reason_to_prune(rule, reports({{0.4, 0.3}}), 1), "");
  EXPECT_THAT(reason_to_prune(rule, reports({{0.4, 0.3, 0.4}}), 1), HasSubstr("the last 2"));
}

TEST(Pruner, ScoresAreWantedAfterANinthAndAThird) {
  EXPECT_THAT(report_steps(90), ElementsAre(10, 30));
  EXPECT_THAT(report_steps(30), ElementsAre(10));
  EXPECT_TRUE(report_steps(10).empty());
}

TEST(Pruner, InASearchItSavesStepsAndTheWinnerIsOfWholeTrainings) {
  /// Reports its quality where it is asked.
  struct Reporting : test::FakeEvaluator {
    std::int64_t steps = 0;
    Evaluation evaluate(const Trial& trial, const TrialContext& context) override {
      for (const std::int64_t step : context.report_steps) {
        const double score = test::toy_quality(trial.genotype);
        if (context.report(step, score)) continue;
        steps += step;
        Evaluation e;
        e.status = TrialStatus::Pruned;
        e.score = score;
        e.steps = step;
        return e;
      }
      steps += trial.steps;
      return FakeEvaluator::evaluate(trial, context);
    }
  };
  std::map<std::string, std::int64_t> steps;
  for (const char* kind : {"none", "median"}) {
    test::TempFolder folder;
    const Budget budget{.steps = 2000};
    ResultsDb db = ResultsDb::create(folder / "r.sqlite", test::small_record(budget));
    test::ToySpace space;
    Reporting evaluator;
    SearchSetup setup;
    setup.database = &db;
    setup.space = &space;
    setup.evaluator = &evaluator;
    Json json = to_json(load_recipe("random", strategy_kinds()));
    json["stages"][0]["trials"] = 30;
    json["stages"][0]["rungs"] = 1;
    json["stages"][0]["pruner"] = {{"kind", kind}};
    setup.recipe = recipe_from_json(json, "test", strategy_kinds());
    setup.budget = budget;
    setup.clock = [] { return 0.0; };
    setup.folder = folder.path();
    EXPECT_EQ(run_search(setup), SearchEnd::Finished);
    steps[kind] = evaluator.steps;
    const std::vector<Trial> trials = db.trials("search");
    const auto pruned = std::ranges::count(trials, TrialStatus::Pruned, &Trial::status);
    EXPECT_EQ(pruned > 5, std::string(kind) == "median");
    for (const Trial& trial : trials) {
      if (trial.status != TrialStatus::Pruned) continue;
      EXPECT_THAT(trial.evaluation.message, HasSubstr("others were better"));
      EXPECT_LT(trial.evaluation.steps, trial.steps);
    }
    double best = 0;
    for (const Trial& trial : trials) best = std::max(best, test::toy_quality(trial.genotype));
    EXPECT_GT(test::toy_quality(db.stage("search")->winner.genotype), best - 0.05);
  }
  EXPECT_LT(steps["median"], steps["none"]);
}

}  // namespace
}  // namespace nas
