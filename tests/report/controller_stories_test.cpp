// SPDX-License-Identifier: Apache-2.0
#include "nas/report/controller_stories.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace nas {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(ControllerStories, SentencesSayWhatEachKindDid) {
  EXPECT_EQ(controller_sentence(Json{{"rungs", Json::array()}}), "") << "another kind's story";
  EXPECT_EQ(controller_sentence({{"product", 12}, {"duplicates", 4}, {"invalid", 0}}),
            "All 12 combinations were looked at; 4 are the same as another, 0 are not valid.");
  EXPECT_EQ(
      controller_sentence({{"starts", 6}, {"fallbacks", 2}, {"ended", "nothing left to gain"}}),
      "The first 6 trials spread over the space, and 2 later ones had to be drawn at random; the "
      "others follow from all scores before them. The search ended before its budget: nothing "
      "left to gain.");
  EXPECT_EQ(controller_sentence({{"updates", 30}, {"entropy", {9.5, 4.25}}}),
            "The policy was updated 30 times; its entropy went from 9.50 to 4.25.");
  EXPECT_THAT(
      controller_sentence({{"drawn_from", {{"plan", 5}, {"best", 3}, {"anywhere", 8}}}}),
      HasSubstr("5 settings were drawn around it, 3 around the best of their time, 8 anywhere"));
}

TEST(ControllerStories, TablesShowGenesAndBrackets) {
  const Json story = {
      {"relevance", {{{"gene", "rate"}, {"length_scale", 0.25}, {"share", 0.8}}}},
      {"brackets", {{{"first", 0}, {"sizes", {9, 3, 1}}}, {{"first", 1}, {"sizes", {5, 1}}}}}};
  ASSERT_EQ(relevance_table(story).rows.size(), 1u);
  EXPECT_THAT(relevance_table(story).rows[0], ElementsAre("rate", "0.250", "80 %"));
  ASSERT_EQ(bracket_table(story).rows.size(), 2u);
  EXPECT_THAT(bracket_table(story).rows[0], ElementsAre("1", "1", "9, 3, 1"));
  EXPECT_TRUE(bracket_table(Json{{"brackets", {story["brackets"][0]}}}).rows.empty());
  const Json stage = {
      {"importance",
       {{{"gene", "rate"}, {"share", 0.5}, {"interval", {0.3, 0.7}}, {"relevance", 0.4}},
        {{"gene", "loss"}, {"share", nullptr}, {"interval", {nullptr, nullptr}}}}}};
  const Table table = importance_table(stage);
  ASSERT_EQ(table.rows.size(), 2u);
  EXPECT_THAT(table.rows[0], ElementsAre("rate", "50 %", "30 % to 70 %", "40 %"));
  EXPECT_EQ(table.rows[1][2], "–");
  EXPECT_TRUE(importance_table(Json{{"importance", nullptr}}).rows.empty());
}

}  // namespace
}  // namespace nas
