// SPDX-License-Identifier: Apache-2.0
// The race on trainings whose curves are power laws.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "nas/jobs/strategies/strategies.h"
#include "nas/report/race.h"
#include "nas/search/strategy.h"
#include "tests/support/support.h"

namespace nas {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;

/// One network: score c - a (steps / 100)^-b; a step costs `cost` of the plan's.
struct Law {
  double c = 0.9, a = 0.05, b = 0.7, cost = 1;
  std::int64_t parameters = 1000;
  double at(double effort) const { return c - a * std::pow(effort / cost / 100, -b); }
};

/// One gene that says which network; the first is the plan.
class LawSpace : public SearchSpace {
 public:
  explicit LawSpace(std::vector<Law> laws) : laws_(std::move(laws)) {
    Gene gene{"which", "topology", {}};
    for (std::size_t i = 0; i < laws_.size(); ++i) gene.values.push_back(std::to_string(i));
    genes_.push_back(std::move(gene));
  }
  std::string name() const override { return "laws"; }
  const std::vector<Gene>& genes() const override { return genes_; }
  std::string invalid_reason(const Genotype& g) const override { return malformed_reason(g); }
  Phenotype build(const Genotype&) const override { return {}; }
  Genotype baseline() const override { return {{0}}; }
  Json describe() const override { return {{"space", "laws"}}; }
  std::vector<Starter> portfolio() const override {
    std::vector<Starter> all{{"unheard of", {}, "there is none"}, {"plan", baseline()}};
    for (int i = 1; i < static_cast<int>(laws_.size()); ++i) {
      all.push_back({"law " + std::to_string(i), {{i}}});
    }
    return all;
  }
  const Law& law(const Genotype& g) const {
    return laws_.at(static_cast<std::size_t>(g.values.at(0)));
  }

 private:
  std::vector<Law> laws_;
  std::vector<Gene> genes_;
};

/// Trains by the laws, on cases that are equally hard for all but for a little.
class Track {
 public:
  Track(std::vector<Law> laws, double effort, double horizon, double own = 0.004)
      : space(std::move(laws)), own_(own) {
    context.space = &space;
    context.stage = make_stage(*find_kind(strategy_kinds(), "race"), "race", 1);
    context.budget.effort = effort;
    context.budget.horizon = horizon;
    context.budget.trials = space.genes()[0].count();
    context.budget.rungs = 1;
    context.rng = Rng(1);
    context.start = context.baseline = space.baseline();
    context.cost = [this](const Genotype& g) {
      TrialCost cost;
      cost.parameters = space.law(g).parameters;
      cost.macs = std::llround(1e6 * space.law(g).cost);
      cost.relative_cost = space.law(g).cost;
      return cost;
    };
  }

  Outcome outcome(const Proposal& p) {
    const double before = p.continues >= 0 ? efforts_.at(p.continues) : 0;
    const double effort = before + p.share * context.budget.effort;
    efforts_[p.number] = effort;
    Outcome o{.number = p.number, .status = TrialStatus::Done, .trial = p.number + 1};
    o.effort = effort;
    o.steps = std::llround(effort / space.law(p.genotype).cost);
    Rng rng = Rng("cases");
    Rng network = Rng("network").split("own", p.genotype.values[0]);
    for (int j = 0; j < 20; ++j) {
      o.cases.push_back(space.law(p.genotype).at(effort) + 0.08 * rng.normal() +
                        own_ * network.normal());
      o.score += o.cases.back() / 20;
    }
    return o;
  }

  /// To the end; the proposals in order.
  std::vector<Proposal> drive(Strategy& strategy) {
    std::vector<Proposal> all;
    while (!strategy.finished()) {
      const auto batch = strategy.ask(1000);
      EXPECT_FALSE(batch.empty());
      if (batch.empty()) break;
      std::vector<Outcome> outcomes;
      for (const Proposal& p : batch) outcomes.push_back(outcome(p));
      strategy.tell(outcomes);
      all.insert(all.end(), batch.begin(), batch.end());
    }
    return all;
  }

  LawSpace space;
  StrategyContext context;

 private:
  double own_;
  std::map<std::int64_t, double> efforts_;  // of the whole training, by proposal
};

/// A small network that leads early, and what overtakes it.
std::vector<Law> overtaken() {
  return {{.c = 0.880, .a = 0.06, .cost = 1, .parameters = 9000},
          {.c = 0.855, .a = 0.05, .cost = 0.08, .parameters = 500},
          {.c = 0.892, .a = 0.06, .cost = 0.8, .parameters = 8000},
          {.c = 0.850, .a = 0.05, .cost = 0.1, .parameters = 600},
          {.c = 0.860, .a = 0.06, .cost = 0.5, .parameters = 4000},
          {.c = 0.845, .a = 0.05, .cost = 0.2, .parameters = 1500}};
}

TEST(Race, TheLateWinnerIsSeenWhereHalvingTakesTheEarlyLeader) {
  Track track(overtaken(), 300, 1500);
  auto race = make_strategy(track.context);
  const auto proposals = track.drive(*race);
  EXPECT_EQ(race->winner().genotype, (Genotype{{2}})) << race->story();
  EXPECT_THAT(race->winner().how, HasSubstr("best expected score of 6 contestants"));

  Track other(overtaken(), 300, 1500);
  other.context.stage = make_stage(*find_kind(strategy_kinds(), "random"), "random", 1);
  other.context.budget.rungs = 2;
  auto halving = make_strategy(other.context);
  other.drive(*halving);
  EXPECT_EQ(other.space.law(halving->winner().genotype).cost, 0.08);
}

TEST(Race, TheReportDrawsEveryCurveAndWhereItLeads) {
  Track track(overtaken(), 300, 1500);
  auto race = make_strategy(track.context);
  track.drive(*race);
  const Json story = Json::parse(race->story());
  const std::string svg = race_svg(story);
  const auto times = [&](const std::string& what) {
    int count = 0;
    for (auto at = svg.find(what); at != std::string::npos; at = svg.find(what, at + 1)) ++count;
    return count;
  };
  EXPECT_EQ(times("<polyline"), 6);
  EXPECT_EQ(times(", expected "), 2) << "of the plan and of the chosen network";
  EXPECT_THAT(svg, testing::AllOf(HasSubstr(">planned network<"), HasSubstr("chosen: ")));
  EXPECT_THAT(svg, testing::Not(HasSubstr("nan")));
  const Table table = race_table(story);
  ASSERT_EQ(table.rows.size(), 6u);
  EXPECT_THAT(text_table(table), testing::AllOf(HasSubstr("chosen"), HasSubstr("rests: ")));
  // Another kind's story has neither.
  EXPECT_EQ(race_svg(Json{{"rungs", Json::array()}}), "");
  EXPECT_TRUE(race_table(Json{{"rungs", Json::array()}}).rows.empty());
}

TEST(Race, ContinuesTrainingsComparesAtEqualComputeAndKeepsWithinTheBudget) {
  Track track(overtaken(), 300, 1500);
  auto race = make_strategy(track.context);
  EXPECT_GE(race->planned_trials(), 6);
  const auto proposals = track.drive(*race);
  ASSERT_GT(proposals.size(), 6U);
  EXPECT_EQ(proposals[0].label, "baseline");
  EXPECT_EQ(proposals[1].label, "law 2") << "after the plan by what cost and horizon let expect";
  double share = 0;
  std::map<int, std::set<double>> efforts;  // by level
  std::map<std::int64_t, double> whole;
  for (const Proposal& p : proposals) {
    share += p.share;
    EXPECT_EQ(p.continues < 0, p.rung == 0);
    if (p.continues >= 0) {
      const Proposal& before = proposals[static_cast<std::size_t>(p.continues)];
      EXPECT_EQ(before.genotype, p.genotype);
      EXPECT_EQ(before.rung + 1, p.rung);
      whole[p.number] = whole[p.continues];
    }
    whole[p.number] += p.share;
    efforts[p.rung].insert(std::round(1e9 * whole[p.number]));
  }
  EXPECT_LE(share, 1 + 1e-9);
  for (const auto& [level, values] : efforts) EXPECT_EQ(values.size(), 1U) << level;
  EXPECT_EQ(race->planned_trials(), std::ssize(proposals));
}

TEST(Race, DropsWhoIsWorseWithConfidenceAndNotWhoIsAHairBehind) {
  std::vector<Law> laws{{.c = 0.8800}, {.c = 0.8795}, {.c = 0.8790}, {.c = 0.70}};
  Track track(laws, 400, 800);
  auto race = make_strategy(track.context);
  track.drive(*race);
  const Json story = parse_json(race->story(), "story");
  const auto why = [&](std::size_t i) { return story["contestants"][i]["why"].get<std::string>(); };
  EXPECT_THAT(why(3), HasSubstr("dropped: worse than the best by more than 0.005"));
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_THAT(why(i), testing::AnyOf(HasSubstr("rests"), HasSubstr("chosen")));
  }
  EXPECT_TRUE(story["contestants"][0]["racing"].get<bool>());
  EXPECT_FALSE(story["contestants"][3]["racing"].get<bool>());
  EXPECT_EQ(story["contestants"][0]["curve"][0]["cases"], 20);
  EXPECT_LT(story["spent"].get<double>(), 400);
}

TEST(Race, EndsEarlyWhereNothingIsLeftToDecide) {
  std::vector<Law> laws{{.c = 0.88, .a = 0.001}, {.c = 0.60, .a = 0.001}, {.c = 0.5, .a = 0.001}};
  Track track(laws, 300, 600, 0.001);
  auto race = make_strategy(track.context);
  const auto proposals = track.drive(*race);
  EXPECT_LE(proposals.size(), 5U) << "two looks are enough";
  EXPECT_LT(parse_json(race->story(), "story")["spent"].get<double>(), 0.8 * 300);
  EXPECT_EQ(race->winner().genotype, (Genotype{{0}}));
  // Only the winner's training goes on (it is the plan's too).
  ASSERT_EQ(race->resting().size(), 1U);
  EXPECT_EQ(proposals[static_cast<std::size_t>(race->resting()[0])].genotype, (Genotype{{0}}));
}

TEST(Race, TheGoalSmallestTakesTheCheapestThatIsGoodEnough) {
  std::vector<Law> laws{{.c = 0.880, .a = 0.01, .cost = 1, .parameters = 9000},
                        {.c = 0.879, .a = 0.01, .cost = 0.5, .parameters = 3000},
                        {.c = 0.878, .a = 0.01, .cost = 0.3, .parameters = 700},
                        {.c = 0.850, .a = 0.01, .cost = 0.1, .parameters = 50}};
  for (const auto& [goal, expected] : {std::pair{"smallest", 2}, std::pair{"fastest", 2}}) {
    Track track(laws, 1000, 1000, 0.001);
    track.context.stage.set("goal", goal);
    track.context.stage.set("margin", 0.01);
    auto race = make_strategy(track.context);
    track.drive(*race);
    EXPECT_EQ(race->winner().genotype, (Genotype{{expected}})) << race->story();
    EXPECT_THAT(race->winner().how,
                AllOf(HasSubstr(goal), HasSubstr("good enough"), HasSubstr("%")));
  }
}

TEST(Race, ATrainingThatTheClockCutIsNotRankedByIt) {
  Track track(overtaken(), 300, 1500);
  auto race = make_strategy(track.context);
  std::vector<Outcome> first;
  for (const Proposal& p : race->ask(1000)) first.push_back(track.outcome(p));
  // The fourth never came to its first comparison.
  first[3].status = TrialStatus::Timeout;
  first[3].score = 0.99;
  race->tell(first);
  const auto second = race->ask(1000);
  ASSERT_FALSE(second.empty());
  for (const Proposal& p : second) EXPECT_NE(p.genotype, (Genotype{{3}}));
  std::vector<Outcome> cut;
  for (const Proposal& p : second) {
    Outcome o = track.outcome(p);
    o.status = TrialStatus::Timeout;
    o.score = 0;
    o.cases.clear();
    cut.push_back(o);
  }
  const auto resting = race->resting();
  race->tell(cut);
  if (!race->finished()) race->close();
  EXPECT_TRUE(race->finished());
  const Winner winner = race->winner();
  ASSERT_TRUE(winner.found);
  EXPECT_GT(winner.score, 0.5) << "the score of the last complete comparison";
  EXPECT_NE(winner.genotype, (Genotype{{3}}));
  EXPECT_THAT(parse_json(race->story(), "story")["contestants"][3]["why"].get<std::string>(),
              HasSubstr("clock"));
  for (const std::int64_t number : race->resting()) EXPECT_THAT(resting, Contains(number));
}

TEST(Race, ClosedInTheMiddleItDecidesOnWhatItWasTold) {
  Track track(overtaken(), 300, 1500);
  auto race = make_strategy(track.context);
  const auto batch = race->ask(1000);
  for (std::size_t i = 0; i < 3; ++i) race->tell({track.outcome(batch[i])});
  EXPECT_FALSE(race->winner().found);
  race->close();
  EXPECT_TRUE(race->finished());
  EXPECT_TRUE(race->winner().found);
  auto again = make_strategy(track.context);
  again->load(race->save());
  EXPECT_EQ(again->winner(), race->winner());
  EXPECT_EQ(again->story(), race->story());
  EXPECT_TRUE(again->finished());
}

TEST(Race, FailuresLeaveTheRace) {
  Track track(overtaken(), 300, 1500);
  auto race = make_strategy(track.context);
  std::set<std::int64_t> failed;
  while (!race->finished()) {
    std::vector<Outcome> outcomes;
    for (const Proposal& p : race->ask(1000)) {
      EXPECT_FALSE(failed.contains(p.genotype.values[0]));
      Outcome o = track.outcome(p);
      if (p.genotype.values[0] == 2 && p.rung == 1) o.status = TrialStatus::Nan;
      if (p.genotype.values[0] == 5) o.status = TrialStatus::OutOfMemory;
      if (o.status != TrialStatus::Done) failed.insert(p.genotype.values[0]);
      outcomes.push_back(o);
    }
    race->tell(outcomes);
  }
  EXPECT_THAT(failed, Contains(5));
  EXPECT_TRUE(race->winner().found);
  EXPECT_FALSE(failed.contains(race->winner().genotype.values[0]));
}

TEST(Race, ResumedAnywhereWithCasesItGoesOnExactly) {
  Track track(overtaken(), 300, 1500);
  auto straight = make_strategy(track.context);
  auto resumed = make_strategy(track.context);
  while (!straight->finished()) {
    const auto a = straight->ask(2), b = resumed->ask(2);
    ASSERT_EQ(a, b);
    for (const Proposal& p : a) {
      const Outcome o = track.outcome(p);
      straight->tell({o});
      resumed->tell({o});
      auto next = make_strategy(track.context);
      next->load(resumed->save());
      ASSERT_EQ(next->save(), resumed->save());
      ASSERT_EQ(next->resting(), straight->resting());
      resumed = std::move(next);
    }
  }
  EXPECT_EQ(straight->winner(), resumed->winner());
  EXPECT_EQ(straight->story(), resumed->story());
}

TEST(Race, BudgetForecastAndRefusalInWords) {
  const StrategyKind& kind = *find_kind(strategy_kinds(), "race");
  StageSpec stage = make_stage(kind, "race", 1);
  BudgetQuestion question{.stage = stage, .means = {}};
  question.means.effort = 100;
  question.means.horizon = 300;
  const StageBudget budget = kind.budget(question);
  EXPECT_EQ(budget.trials, 12);
  std::int64_t first = 0;
  const auto forecast =
      kind.forecast(stage, budget, [](double share) { return std::llround(100 * share); });
  ASSERT_GE(forecast.size(), 2U);
  EXPECT_EQ(forecast[0].what, "contestants");
  EXPECT_EQ(forecast[0].count, 12);
  first = forecast[0].steps;
  EXPECT_EQ(first, 3);
  EXPECT_EQ(forecast[1].count, 6);

  question.has_clock = true;
  question.means = {.seconds = 4};
  question.smallest_seconds = 20;
  question.baseline = {.step_seconds = 1};
  question.budget.seconds = 60;
  EXPECT_THAT(test::error_of([&] { kind.budget(question); }),
              HasSubstr("too small for stage \"race\""));
  question.means.seconds = 100;
  EXPECT_EQ(kind.budget(question).trials, 12);
}

TEST(Race, GoldenTranscript) {
  Track track(overtaken(), 300, 1500);
  auto race = make_strategy(track.context);
  std::string text;
  for (const Proposal& p : track.drive(*race)) {
    char line[96];
    std::snprintf(line,
                  sizeof line,
                  "%d %s level %d share %.4f continues %d\n",
                  static_cast<int>(p.number),
                  p.label.c_str(),
                  p.rung,
                  p.share,
                  static_cast<int>(p.continues));
    text += line;
  }
  EXPECT_EQ(text, R"(0 baseline level 0 share 0.0500 continues -1
1 law 2 level 0 share 0.0500 continues -1
2 law 4 level 0 share 0.0500 continues -1
3 law 5 level 0 share 0.0500 continues -1
4 law 3 level 0 share 0.0500 continues -1
5 law 1 level 0 share 0.0500 continues -1
6 law 1 level 1 share 0.0500 continues 5
7 law 2 level 1 share 0.0500 continues 1
8 baseline level 1 share 0.0500 continues 0
9 law 4 level 1 share 0.0500 continues 2
10 law 5 level 1 share 0.0500 continues 3
11 law 3 level 1 share 0.0500 continues 4
12 law 1 level 2 share 0.1000 continues 6
13 law 2 level 2 share 0.1000 continues 7
14 baseline level 2 share 0.1000 continues 8
15 law 4 level 2 share 0.1000 continues 9
)");
}

}  // namespace
}  // namespace nas
