// SPDX-License-Identifier: Apache-2.0
// Recorded curves: their file, what they say between points, and policies replayed on them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>

#include "experiments/curves/learnt_prior.h"
#include "experiments/curves/replay.h"
#include "nas/core/files.h"
#include "nas/core/rng.h"
#include "nas/jobs/strategies/strategies.h"
#include "nas/search/pruner.h"
#include "tests/support/support.h"
#include "tests/support/synthetic_curves.h"

namespace nas {
namespace {

using test::error_of;
using test::synthetic_curves;
using testing::AllOf;
using testing::HasSubstr;

const std::filesystem::path kData = std::filesystem::path(NAS_SOURCE_DIR) / "tests/experiments";

const std::filesystem::path kRecorded =
    std::filesystem::path(NAS_SOURCE_DIR) / "experiments/curves/task04.json";

CurveTable small_table() {
  return synthetic_curves(
      {.networks = 10, .inner_cases = 6, .held_out_cases = 8, .most_effort = 600, .growth = 2},
      Rng("committed"));
}

Json two_networks() {
  return Json::parse(R"({"format": "voxnas.curves", "version": 1, "data": "d", "command": "c",
    "plan": 0, "inner_cases": ["a", "b"], "held_out_cases": ["x"], "networks": [
      {"name": "plan", "genotype_text": "", "parameters": 10, "macs": 100, "relative_cost": 1,
       "curve": [{"steps": 10, "effort": 10, "inner": [0.4, null], "held_out": [0.5]},
                 {"steps": 40, "effort": 40, "inner": [0.6, 0.8], "held_out": [0.7]}],
       "decayed": [{"steps": 20, "effort": 20, "inner": [0.55, 0.75], "held_out": [0.62]}]}]})");
}

TEST(CurveTable, IsReadAsItIsWritten) {
  const CurveTable table = curve_table_from_json(two_networks(), "curves.json");
  EXPECT_EQ(table.networks[0].curve[1].inner[1], 0.8);
  EXPECT_TRUE(std::isnan(table.networks[0].curve[0].inner[1]));
  EXPECT_EQ(to_json(table), two_networks());
}

TEST(CurveTable, DamageIsAnErrorThatNamesThePlace) {
  const auto message = [](auto&& damage) {
    Json bad = two_networks();
    damage(bad);
    return error_of([&] { curve_table_from_json(bad, "curves.json"); });
  };
  const Json::json_pointer curve("/networks/0/curve");
  EXPECT_THAT(message([](Json& j) { j["format"] = "other"; }), HasSubstr("voxnas.curves"));
  EXPECT_THAT(message([](Json& j) { j["version"] = 2; }), HasSubstr("version"));
  EXPECT_THAT(message([](Json& j) { j["plan"] = 1; }), HasSubstr("plan"));
  EXPECT_THAT(message([](Json& j) { j["pln"] = 1; }), AllOf(HasSubstr("pln"), HasSubstr("plan")));
  EXPECT_THAT(message([](Json& j) { j["networks"] = Json::array(); }), HasSubstr("networks"));
  EXPECT_THAT(message([&](Json& j) { j[curve][1]["effort"] = 10; }),
              HasSubstr("networks[0].curve[1].effort: expected more than 10"));
  EXPECT_THAT(message([&](Json& j) { j[curve][1]["inner"] = {0.5}; }),
              HasSubstr("inner: expected a list of 2 to 2 items"));
  EXPECT_THAT(message([&](Json& j) { j[curve][0]["inner"][0] = nullptr; }), HasSubstr("only null"));
  EXPECT_THAT(message([&](Json& j) { j[curve][0]["held_out"][0] = 1.5; }),
              HasSubstr("held_out[0]: expected a score in [0, 1]"));
  EXPECT_THAT(message([&](Json& j) { j[curve][0]["steps"] = 0; }), HasSubstr("steps"));
  EXPECT_THAT(message([&](Json& j) { j[curve] = Json::array(); }), HasSubstr("curve"));
  EXPECT_THAT(message([](Json& j) { j["networks"][0]["relative_cost"] = -1; }),
              HasSubstr("relative_cost"));
}

TEST(CurveTable, WithoutHeldOutScoresOnTheWayTheFinishedTrainingsCount) {
  Json json = two_networks();
  Json& network = json["networks"][0];
  for (Json& point : network["curve"]) point.erase("held_out");
  network["decayed"].push_back(network["decayed"][0]);
  network["decayed"][1]["effort"] = 80;
  network["decayed"][1]["held_out"] = {0.82};
  const CurveTable table = curve_table_from_json(json, "curves.json");
  EXPECT_EQ(to_json(table), json);
  EXPECT_NEAR(delivered_score(table.networks[0], 40), 0.72, 1e-12);
  network["curve"][0]["held_out"] = {0.5};
  EXPECT_THAT(error_of([&] { curve_table_from_json(json, "curves.json"); }),
              HasSubstr("held_out in all points"));
  network["curve"][0].erase("held_out");
  network["decayed"] = Json::array();
  EXPECT_THAT(error_of([&] { curve_table_from_json(json, "curves.json"); }),
              HasSubstr("decayed: expected a list of 1"));
}

TEST(CurveTable, BetweenPointsByTheLogarithmOfEffort) {
  const CurveTable table = curve_table_from_json(two_networks(), "curves.json");
  const RecordedNetwork& plan = table.networks[0];
  EXPECT_NEAR(inner_scores(plan, 20)[0], 0.5, 1e-12) << "half way from 10 to 40";
  EXPECT_NEAR(inner_scores(plan, 5)[0], 0.2, 1e-12);
  EXPECT_NEAR(inner_scores(plan, 1000)[0], 0.6, 1e-12);
  // Finished at 20 it had 0.62 where the curve has 0.6.
  EXPECT_NEAR(delivered_score(plan, 20), 0.62, 1e-12);
  EXPECT_NEAR(delivered_score(plan, 40), 0.72, 1e-12);
}

TEST(Replay, EveryPolicyKeepsToTheEffortAndIsAFunctionOfItsSeed) {
  const CurveTable table = small_table();
  for (const Policy& policy : replay_policies(strategy_kinds())) {
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
      const Replayed r = replay(table, policy, 300, seed);
      EXPECT_LE(r.search_effort, 300 * policy.share + 1e-6) << policy.name;
      EXPECT_LE(r.final_effort, 300 + 1e-6) << policy.name;
      EXPECT_GE(r.final_effort, 300 * (1 - policy.share) - 1e-6) << policy.name;
      EXPECT_GE(r.regret, -0.01) << policy.name;
      const Replayed again = replay(table, policy, 300, seed);
      EXPECT_EQ(again.network, r.network);
      EXPECT_EQ(again.regret, r.regret);
    }
  }
  const Replayed plan = replay(table, replay_policies(strategy_kinds())[0], 300, 0);
  EXPECT_EQ(plan.network, table.plan);
  EXPECT_EQ(plan.delivered, delivered_score(table.networks[table.plan], 300));
  EXPECT_THAT(error_of([] { policy_named(replay_policies(strategy_kinds()), "rcae"); }),
              HasSubstr("did you mean \"race\""));
}

/// The policies are chosen by this: at every effort the race loses less than halving and than no
/// rungs at all.
TEST(Replay, TheRaceLosesLessThanHalvingAndRandomDo) {
  const std::vector<Policy> all = replay_policies(strategy_kinds());
  const std::vector<Policy> compared{policy_named(all, "plan"),
                                     policy_named(all, "random"),
                                     policy_named(all, "halving"),
                                     policy_named(all, "race")};
  struct Case {
    CurveTable table;
    std::vector<double> efforts;
  };
  // The recording ends at 80, where kind random is too small: there the plan is what it has to beat.
  for (const auto& [table, efforts] : {Case{read_curve_table(kRecorded), {30, 40, 60, 80}},
                                       Case{small_table(), {200, 400, 800}}}) {
    const auto summaries = replay_all(table, compared, efforts, 60);
    std::map<double, std::map<std::string, double>> regret;
    for (const ReplaySummary& s : summaries) {
      if (s.seeds > 0) {
        regret[s.effort][s.policy] = s.regret;
      }
    }
    for (const auto& [effort, by] : regret) {
      ASSERT_TRUE(by.contains("race")) << effort;
      EXPECT_EQ(by.size(), effort >= 200 ? 4U : 2U) << effort;
      for (const auto& [policy, value] : by) {
        if (policy == "race") continue;
        EXPECT_LT(by.at("race"), value) << policy << " at " << effort;
      }
    }
  }
}

/// What is in use is what the recording tells: near it where one data set can tell, wider where
/// others may be otherwise.
TEST(LearntPrior, TheFiguresInUseAreNearWhatIsRecordedOrWider) {
  std::map<std::string, LearntFigure> recorded;
  for (const LearntFigure& figure : learn_prior({read_curve_table(kRecorded)})) {
    recorded[figure.name] = figure;
  }
  ASSERT_EQ(recorded.size(), 10U);
  for (const char* name : {"deficit", "exponent", "size_effect", "deficit_spread"}) {
    const LearntFigure& figure = recorded.at(name);
    EXPECT_GT(figure.in_use, figure.learnt / 1.3) << name;
    EXPECT_LT(figure.in_use, figure.learnt * 1.3) << name;
  }
  for (const char* name : {"final_spread", "exponent_spread", "wobble", "case_sd", "lasting"}) {
    EXPECT_GE(recorded.at(name).in_use, recorded.at(name).learnt) << name;
  }
  EXPECT_THAT(error_of([] { learn_prior({}); }), HasSubstr("files of recorded curves"));
}

/// The recorded networks, each to be trained to `effort`, one after the other in an order of the
/// seed. \returns share of the effort that pruning saved, and what the best finished network's inner
/// score lies below the best of all.
std::pair<double, double> pruned(const CurveTable& table, double effort, std::uint64_t seed) {
  PruneRule rule;
  rule.kind = "asha";
  std::vector<const RecordedNetwork*> order;
  for (const RecordedNetwork& network : table.networks) order.push_back(&network);
  Rng(seed).shuffle(order);
  const auto score_at = [](const RecordedNetwork& network, double spent) {
    return mean_score(inner_scores(network, spent));
  };
  std::vector<ReportRecord> reports;
  double spent = 0, best_finished = 0, best = 0;
  std::int64_t trial = 0;
  for (const RecordedNetwork* network : order) {
    ++trial;
    const auto steps = static_cast<std::int64_t>(effort / network->relative_cost);
    best = std::max(best, score_at(*network, effort));
    double done = effort;
    for (const std::int64_t step : report_steps(steps)) {
      const double so_far = static_cast<double>(step) * network->relative_cost;
      reports.push_back({trial, step, "inner_dice", score_at(*network, so_far), 0});
      if (!reason_to_prune(rule, reports, trial).empty()) {
        done = so_far;
        break;
      }
    }
    spent += done;
    if (done == effort) best_finished = std::max(best_finished, score_at(*network, effort));
  }
  return {1 - spent / (effort * static_cast<double>(trial)), best - best_finished};
}

TEST(Replay, PruningSavesTwoFifthsAndKeepsTheBest) {
  const CurveTable table = read_curve_table(kRecorded);
  constexpr std::int64_t kSeeds = 200;
  double saved = 0, lost = 0;
  for (std::uint64_t seed = 0; seed < kSeeds; ++seed) {
    const auto [share, below] = pruned(table, 58, seed);
    saved += share / kSeeds;
    lost += below / kSeeds;
  }
  RecordProperty("saved", std::to_string(saved));
  RecordProperty("lost", std::to_string(lost));
  EXPECT_GE(saved, 0.4);
  EXPECT_LE(lost, 0.001) << "of Dice; the mean over cases has a standard error of 0.007";
}

/// The table that lies beside this test; written anew with VOXNAS_WRITE_GOLDEN.
TEST(Replay, GoldenTable) {
  const CurveTable table = small_table();
  const auto file = kData / "synthetic_curves.json", golden = kData / "synthetic_replay.md";
  const bool write = std::getenv("VOXNAS_WRITE_GOLDEN") != nullptr;
  if (write) write_file_atomic(file, to_json(table).dump() + "\n");
  const CurveTable read = read_curve_table(file);
  ASSERT_EQ(read.networks.size(), table.networks.size());
  const auto summaries = replay_all(read, replay_policies(strategy_kinds()), {60, 250, 600}, 20);
  const std::string markdown = replay_markdown(read, summaries);
  if (write) write_file_atomic(golden, markdown);
  EXPECT_EQ(markdown, read_file(golden, 1 << 20));
  const std::string picture = replay_svg(read, summaries);
  EXPECT_THAT(picture, AllOf(HasSubstr("<svg"), HasSubstr(">race<"), HasSubstr(">halving<")));
}

}  // namespace
}  // namespace nas
