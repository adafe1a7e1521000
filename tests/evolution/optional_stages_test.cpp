// SPDX-License-Identifier: Apache-2.0
// Which stages of recipe "auto" run, and what is said of those that do not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "nas/jobs/strategies/strategies.h"
#include "search_spaces/spaces.h"
#include "supernet/search/optional_stages.h"
#include "supernet/search/supernet_search.h"

namespace nas {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::vector<std::string> names_of(const Recipe& recipe) {
  std::vector<std::string> names;
  for (const StageSpec& stage : recipe.stages) names.push_back(stage.name);
  return names;
}

struct Choice {
  Recipe recipe;
  std::vector<std::string> lines;
};

Choice choose(const std::string& space, const Budget& budget, const SearchProbes& probes = {}) {
  Choice choice{load_recipe("auto", strategy_kinds()), {}};
  const auto made = make_space(example_description(space));
  choice.lines = choose_optional_stages(choice.recipe, *made, budget, 0, probes);
  return choice;
}

TEST(OptionalStages, ASpaceWithoutOpenChoicesLeavesThePapersStageOutAndSaysSo) {
  const Choice choice = choose("unet", {.effort = 250});
  EXPECT_THAT(names_of(choice.recipe), testing::ElementsAre("race", "final"));
  ASSERT_EQ(choice.lines.size(), 3U);
  EXPECT_THAT(choice.lines[0],
              AllOf(HasSubstr("stage cells (single-path super-network (C2FNAS, cells)): left out"),
                    HasSubstr("no genes of group operations"),
                    HasSubstr("own trainings would check its ranking")));
  EXPECT_THAT(choice.lines[1], AllOf(HasSubstr("stage race"), HasSubstr(": runs")));
  EXPECT_EQ(without_optional_stages(choice.recipe), choice.recipe);
}

TEST(OptionalStages, ASuperNetworkIsPaidWhereItsRankingCanBeChecked) {
  const Choice small = choose("mixed-unet", {.effort = 250});
  EXPECT_THAT(names_of(small.recipe), testing::ElementsAre("race", "final"));
  EXPECT_THAT(small.lines[0],
              AllOf(HasSubstr("left out: its ranking could not be checked"), HasSubstr("0.5")));
  const Choice large = choose("mixed-unet", {.effort = 4000});
  EXPECT_THAT(names_of(large.recipe), testing::ElementsAre("cells", "race", "final"));
  EXPECT_THAT(large.lines[0], AllOf(HasSubstr("runs; 16 own trainings"), HasSubstr("+/- 0.36")));

  // With a clock by what its seconds buy.
  const Probe probe{.step_seconds = 0.5, .evaluation_seconds = 2, .probe_seconds = 2};
  const SearchProbes probes{probe, probe, 0.01, std::nullopt};
  EXPECT_EQ(choose("mixed-unet", {.seconds = 600}, probes).recipe.stages.size(), 2U);
  EXPECT_EQ(choose("mixed-unet", {.seconds = 36000}, probes).recipe.stages.size(), 3U);
}

TEST(OptionalStages, AControlMaySpendAsMuchAsTheSearchWhicheverStagesRun) {
  for (const double effort : {250.0, 4000.0}) {
    Recipe recipe = load_recipe("auto", strategy_kinds());
    add_random_control(recipe);
    const auto space = make_space(example_description("mixed-unet"));
    choose_optional_stages(recipe, *space, {.effort = effort}, 0, {});
    double search = 0, control = 0;
    for (const StageSpec& stage : recipe.stages) {
      if (!stage.kind->final) (stage.control ? control : search) += stage.share;
    }
    EXPECT_NEAR(control, search, 1e-12) << effort;
  }
}

TEST(OptionalStages, HowWideTausIntervalWillBe) {
  EXPECT_TRUE(std::isinf(tau_half_width(3)));
  // 1.96 sqrt(2 (2n + 5) / (9n (n - 1))) by hand for n = 10: 1.96 sqrt(50 / 810).
  EXPECT_NEAR(tau_half_width(10), 1.96 * std::sqrt(50.0 / 810), 1e-12);
  EXPECT_LT(tau_half_width(16), kWidestTau);
}

/// With a clock the own trainings that check a ranking have equal compute, not equal measured time.
TEST(OptionalStages, OwnTrainingsOfASuperNetworkStageAreCountedInEffortWithAClockToo) {
  const Recipe recipe = load_recipe("vnas", strategy_kinds());
  const Probe probe{.step_seconds = 0.5, .evaluation_seconds = 2, .probe_seconds = 2};
  const StageBudget budget = stage_budget(recipe, 0, {.seconds = 3600}, 30, probe);
  ASSERT_GT(budget.trials, 0);
  const double each = recipe.stages[0].number("rank_share") / static_cast<double>(budget.trials);
  EXPECT_NEAR(
      budget.effort * each, static_cast<double>(steps_in(budget.seconds * each, probe)), 1e-6);
}

}  // namespace
}  // namespace nas
