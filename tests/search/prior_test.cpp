// SPDX-License-Identifier: Apache-2.0
#include "nas/search/prior.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/toy_search.h"

namespace nas {
namespace {

std::vector<std::string> names(const std::vector<Starter>& starters) {
  std::vector<std::string> list;
  for (const Starter& s : starters) list.push_back(s.name);
  return list;
}

TEST(Prior, RunsOfAlikeDataOrderThePortfolioAndBringTheirBest) {
  const test::ToySpace space;
  const std::vector<Starter> starters{
      {"plan", {{0, 0, 0}}}, {"wide", {{1, 0, 0}}}, {"gone", {}, "no such"}, {"deep", {{0, 1, 0}}}};
  PriorRun near{"near", {1, 2}, {}};
  near.results = {{space.to_text({{0, 1, 0}}), 0.02},
                  {space.to_text({{3, 1, 2}}), 0.04},
                  {"of=another space=1", 0.5},
                  {space.to_text({{1, 0, 0}}), -0.01}};
  PriorRun far{"far", {9, 9}, {{space.to_text({{2, 2, 0}}), 0.3}}};
  const auto informed = informed_portfolio(space, starters, {near, far}, {1, 2});
  EXPECT_EQ(names(informed),
            (std::vector<std::string>{"plan", "best of near", "deep", "gone", "wide"}));
  EXPECT_DOUBLE_EQ(informed[1].shift, 0.02) << "half: one run, and the one that saw nothing";
  EXPECT_DOUBLE_EQ(informed[4].shift, -0.005);
  EXPECT_EQ(names(informed_portfolio(space, starters, {}, {1, 2})), names(starters));
  EXPECT_EQ(names(informed_portfolio(space, starters, {near}, {1, 2, 3})), names(starters))
      << "features of another kind say nothing";
}

TEST(Prior, DistanceOfFeatures) {
  EXPECT_DOUBLE_EQ(feature_distance({0, 0}, {3, 3}), 3);
  EXPECT_TRUE(std::isinf(feature_distance({0}, {0, 1})));
}

}  // namespace
}  // namespace nas
