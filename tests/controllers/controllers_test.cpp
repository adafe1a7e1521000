// SPDX-License-Identifier: Apache-2.0
// Controllers driven by hand over small problems; what all of them keep is in EveryStrategy.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "experiments/bench/controllers/problems.h"
#include "nas/controllers/brackets.h"
#include "nas/controllers/importance.h"
#include "nas/core/error.h"
#include "nas/jobs/strategies/strategies.h"
#include "nas/search/budget.h"
#include "nas/search/strategy.h"
#include "tests/support/support.h"

namespace nas {
namespace {

using test::error_of;
using testing::HasSubstr;

Problem problem_named(const std::string& name) {
  for (const Problem& problem : controller_problems()) {
    if (problem.name == name) return problem;
  }
  ADD_FAILURE() << name;
  return {};
}

/// A stage of a kind over a problem.
struct Bench {
  Problem problem;
  ProblemSpace space;
  explicit Bench(const std::string& name) : problem(problem_named(name)), space(problem) {}
  explicit Bench(Problem p) : problem(std::move(p)), space(problem) {}

  StrategyContext context(const std::string& kind, std::int64_t trials, int seed = 0) const {
    StrategyContext c;
    c.space = &space;
    c.stage = make_stage(*find_kind(strategy_kinds(), kind), "bench", 1);
    c.budget.trials = trials;
    c.rng = Rng("controllers").split("seed", seed);
    c.start = c.baseline = space.baseline();
    return c;
  }
  double score(const Genotype& g) const { return problem.minimum - problem.value(space, g); }
  Outcome outcome(const Proposal& p) const {
    return {.number = p.number, .status = TrialStatus::Done, .score = score(p.genotype)};
  }
  /// One at a time to the end; the best score after each.
  std::vector<double> drive(Strategy& strategy) const {
    std::vector<double> best;
    while (!strategy.finished()) {
      const std::vector<Proposal> proposals = strategy.ask(1);
      EXPECT_EQ(proposals.size(), 1u);
      if (proposals.empty()) break;
      strategy.tell({outcome(proposals[0])});
      const double now = score(proposals[0].genotype);
      best.push_back(best.empty() ? now : std::max(best.back(), now));
    }
    return best;
  }
};

std::string golden(const Bench& bench, const StrategyContext& context) {
  auto strategy = make_strategy(context);
  std::string text;
  while (!strategy->finished()) {
    for (const Proposal& p : strategy->ask(1)) {
      char score[32];
      std::snprintf(score, sizeof score, " %.4f", bench.score(p.genotype));
      text += std::to_string(p.number) + " " + bench.space.to_text(p.genotype) + score + "\n";
      strategy->tell({bench.outcome(p)});
    }
  }
  return text;
}

std::string golden(const Bench& bench, const std::string& kind, std::int64_t trials) {
  return golden(bench, bench.context(kind, trials));
}

// ---- one by one: any order, any number ----

class EveryController : public testing::TestWithParam<const char*> {};

TEST_P(EveryController, PendingProposalsAreNotProposedAgainAndOutcomesComeInAnyOrder) {
  const Bench bench("mixed");
  auto strategy = make_strategy(bench.context(GetParam(), 24));
  Rng rng("any order");
  std::vector<Proposal> waiting;
  std::set<Genotype> seen;
  int total = 0;
  while (!strategy->finished()) {
    for (const Proposal& p : strategy->ask(rng.integer(0, 5))) {
      EXPECT_TRUE(seen.insert(p.genotype).second);
      waiting.push_back(p);
      ++total;
    }
    if (waiting.empty()) {
      ASSERT_TRUE(strategy->finished() || !strategy->ask(0).size());
      continue;
    }
    rng.shuffle(waiting);
    const auto told = rng.integer(0, std::ssize(waiting) + 1);
    std::vector<Outcome> outcomes;
    for (std::int64_t i = 0; i < told; ++i) {
      outcomes.push_back(bench.outcome(waiting.back()));
      if (rng.chance(0.1)) outcomes.back().status = TrialStatus::OutOfMemory;
      waiting.pop_back();
    }
    strategy->tell(outcomes);
  }
  EXPECT_EQ(total, 24);
  EXPECT_EQ(strategy->planned_trials(), 24);
  EXPECT_TRUE(strategy->winner().found);
}

TEST_P(EveryController, ASmallSpaceIsTriedWholeAndThenItEnds) {
  Gene a{.name = "a", .group = "training", .values = {"0", "1", "2"}};
  const Gene b = number_gene("b", Gene::Kind::Integer, 1, 3);
  const Bench bench(Problem{"small", {a, b}, 0, [](const SearchSpace&, const Genotype& g) {
                              return 1.0 * g.values[0] + g.values[1];
                            }});
  auto strategy = make_strategy(bench.context(GetParam(), 30));
  const std::vector<double> best = bench.drive(*strategy);
  EXPECT_EQ(best.size(), 9u);
  EXPECT_EQ(strategy->planned_trials(), 9);
  EXPECT_THAT(Json::parse(strategy->story())["ended"], "every genotype that is allowed was tried");
}

TEST_P(EveryController, ABatchIsAsLargeAsAskedFor) {
  const Bench bench("mixed");
  StrategyContext context = bench.context(GetParam(), 24);
  context.stage.set("parallel", 4);
  EXPECT_EQ(make_strategy(context)->ask(3).size(), 3u) << "three workers are idle";
  context.stage.async = false;
  auto strategy = make_strategy(context);
  const auto round = strategy->ask(256);
  EXPECT_EQ(round.size(), 4u) << "everything is wanted: one round";
  EXPECT_TRUE(strategy->ask(256).empty());
  for (const Proposal& p : round) strategy->tell({bench.outcome(p)});
  EXPECT_EQ(strategy->ask(256).size(), 4u);
}

INSTANTIATE_TEST_SUITE_P(OneByOne, EveryController, testing::Values("gp", "tpe", "rl", "nsga2"));

// ---- enum ----

TEST(EnumSearch, TriesTheProductOnceWithoutWhatIsTheSame) {
  Gene on{.name = "on", .group = "training", .values = {"no", "yes"}};
  Gene rate = number_gene("rate", Gene::Kind::Real, 0, 1);
  rate.parent = 0;
  rate.active_for = {1};
  rate.planned = 5000;
  Gene layers = number_gene("layers", Gene::Kind::Integer, 2, 3);
  layers.planned = 0;
  const Bench bench(
      Problem{"product", {on, rate, layers}, 0, [](const SearchSpace&, const Genotype& g) {
                return 1.0 * g.values[0];
              }});
  EXPECT_EQ(golden(bench, "enum", 1),
            "0 on=no rate=0.5 layers=2 0.0000\n"
            "1 on=no rate=0.5 layers=3 0.0000\n"
            "2 on=yes rate=0 layers=2 -1.0000\n"
            "3 on=yes rate=0 layers=3 -1.0000\n"
            "4 on=yes rate=0.5 layers=2 -1.0000\n"
            "5 on=yes rate=0.5 layers=3 -1.0000\n"
            "6 on=yes rate=1 layers=2 -1.0000\n"
            "7 on=yes rate=1 layers=3 -1.0000\n");
  auto strategy = make_strategy(bench.context("enum", 1));
  EXPECT_EQ(strategy->planned_trials(), 8);
  const Json story = Json::parse(strategy->story());
  EXPECT_EQ(story["product"], 12);
  EXPECT_EQ(story["duplicates"], 4);
  StrategyContext shuffled = bench.context("enum", 1);
  shuffled.stage.set("shuffled", true);
  const auto order = make_strategy(shuffled)->ask(100);
  EXPECT_EQ(order.size(), 8u);
  EXPECT_NE(order, strategy->ask(100));
  EXPECT_EQ(order[0].label, "baseline");
}

TEST(EnumSearch, RefusesALargeProductWithItsSize) {
  const Bench bench("hartmann6");
  StrategyContext context = bench.context("enum", 1);
  context.stage.set("points", 10);
  ErrorKind kind{};
  EXPECT_THAT(error_of([&] { make_strategy(context); }, &kind),
              testing::AllOf(HasSubstr("combinations"), HasSubstr("10000"), HasSubstr("random")));
  EXPECT_EQ(kind, ErrorKind::Usage);
}

// ---- gp, tpe ----

TEST(GpSearch, FindsTheMinimumOfBranin) {
  const Bench bench("branin");
  auto strategy = make_strategy(bench.context("gp", 40));
  const std::vector<double> best = bench.drive(*strategy);
  EXPECT_GT(best.back(), -0.01);
  const Json story = Json::parse(strategy->story());
  EXPECT_EQ(story["fallbacks"], 0);
  EXPECT_EQ(story["starts"], 6);
  EXPECT_EQ(story["relevance"].size(), 2u);
  EXPECT_EQ(story["log_improvement"].size(), 34u);
}

TEST(TpeSearch, GetsCloseOnTheMixedProblem) {
  const Bench bench("mixed");
  std::vector<double> random, tpe;
  for (int seed = 0; seed < 5; ++seed) {
    StrategyContext plain = bench.context("random", 60, seed);
    plain.budget.rungs = 1;
    random.push_back(bench.drive(*make_strategy(plain)).back());
    tpe.push_back(bench.drive(*make_strategy(bench.context("tpe", 60, seed))).back());
  }
  std::ranges::sort(random);
  std::ranges::sort(tpe);
  EXPECT_GT(tpe[2], 0.5 * random[2]) << "half the median regret";
}

TEST(GpSearch, EndsWhenNothingIsLeftToGainThatTheCasesCouldShow) {
  const Bench bench("branin");
  StrategyContext context = bench.context("gp", 60);
  context.stage.set("stop_when_settled", true);
  auto strategy = make_strategy(context);
  Rng rng("cases");
  int trials = 0;
  while (!strategy->finished()) {
    const std::vector<Proposal> p = strategy->ask(1);
    ASSERT_EQ(p.size(), 1u);
    Outcome o = bench.outcome(p[0]);
    // Cases differ a lot between networks: an interval of about 3 to either side.
    for (int i = 0; i < 20; ++i) o.cases.push_back(o.score + 5 * rng.normal());
    strategy->tell({o});
    ++trials;
  }
  EXPECT_LT(trials, 60);
  EXPECT_GT(trials, 6);
  EXPECT_THAT(std::string(Json::parse(strategy->story())["ended"]),
              HasSubstr("nothing left to gain"));
  EXPECT_GT(strategy->winner().score, -3);
}

TEST(GpSearch, ACostlyNetworkMustPromiseMore) {
  const Gene size = number_gene("size", Gene::Kind::Real, 1, 100, true);
  const Bench bench(Problem{"sized", {size}, 0, [](const SearchSpace& s, const Genotype& g) {
                              return 0.01 * std::cos(6 * s.genes()[0].unit(g.values[0]));
                            }});
  const auto mean_size = [&](bool aware) {
    StrategyContext context = bench.context("gp", 20);
    context.stage.set("cost_aware", aware);
    context.cost = [&](const Genotype& g) {
      TrialCost cost;
      cost.relative_cost = bench.space.genes()[0].value(g.values[0]);
      return cost;
    };
    auto strategy = make_strategy(context);
    double sum = 0;
    while (!strategy->finished()) {
      for (const Proposal& p : strategy->ask(1)) {
        sum += std::log(context.cost(p.genotype).relative_cost);
        strategy->tell({bench.outcome(p)});
      }
    }
    return sum;
  };
  EXPECT_LT(mean_size(true), mean_size(false));
}

TEST(Controllers, WhatAnEarlierRunFoundIsUsedWhateverItsScoresAreOffBy) {
  const Bench bench("mixed");
  for (const char* kind : {"gp", "tpe"}) {
    std::vector<double> cold, warm;
    for (int seed = 0; seed < 7; ++seed) {
      StrategyContext context = bench.context(kind, 12, seed);
      cold.push_back(bench.drive(*make_strategy(context)).back());
      Json trials = Json::array();
      Rng rng = Rng("earlier").split("seed", seed);
      for (int i = 0; i < 60; ++i) {
        const Genotype g = bench.space.sample(rng);
        trials.push_back({{"genotype", bench.space.to_text(g)}, {"score", bench.score(g) + 7}});
      }
      context.stage.set("earlier", {{{"run", "before"}, {"trials", trials}}});
      context.stage.set("start", 2);
      warm.push_back(bench.drive(*make_strategy(context)).back());
    }
    std::ranges::sort(cold);
    std::ranges::sort(warm);
    EXPECT_GT(warm[3], cold[3]) << kind;
  }
}

TEST(Controllers, AnEarlierRunOfAnotherSpaceIsRefusedByName) {
  const Bench bench("mixed");
  StrategyContext context = bench.context("tpe", 12);
  const auto with = [&](const Json& trial) {
    context.stage.set("earlier",
                      Json::array({{{"run", "before"}, {"trials", Json::array({trial})}}}));
    make_strategy(context);
  };
  EXPECT_THAT(error_of([&] {
                with({{"genotype", "ratte=0.1"}, {"score", 1}});
              }),
              testing::AllOf(HasSubstr("ratte"), HasSubstr("rate")));
  EXPECT_THAT(error_of([&] { with({{"genotype", "rate=0.1"}}); }), HasSubstr("score"));
  EXPECT_THAT(error_of([&] {
                with({{"genotype", "rate=0.1"}, {"skore", 1}});
              }),
              HasSubstr("score"));
}

// ---- rl ----

/// Six numbers and three choices; the best is 0, and every gene counts on its own.
Problem policy_problem() {
  Problem problem{"policy", {}, 0, {}};
  for (int i = 0; i < 6; ++i) {
    problem.genes.push_back(number_gene("x" + std::to_string(i), Gene::Kind::Real, 0, 1));
  }
  for (int i = 0; i < 3; ++i) {
    problem.genes.push_back(
        {.name = "c" + std::to_string(i), .group = "training", .values = {"a", "b", "c", "d"}});
  }
  problem.value = [](const SearchSpace& s, const Genotype& g) {
    double loss = 0;
    for (std::size_t i = 0; i < 6; ++i) {
      const double wanted = 0.2 + 0.1 * static_cast<double>(i);
      loss += std::pow(s.genes()[i].unit(g.values[i]) - wanted, 2);
    }
    for (std::size_t i = 6; i < 9; ++i) loss += g.values[i] == static_cast<int>(i) - 5 ? 0 : 0.15;
    return loss;
  };
  return problem;
}

TEST(RlSearch, LearnsToProposeBetterThanTheBestOfFiftyAtRandom) {
  const Bench bench(policy_problem());
  Rng rng("best of fifty");
  double best_of_50 = 0;
  for (int i = 0; i < 200; ++i) {
    double best = -100;
    for (int k = 0; k < 50; ++k) best = std::max(best, bench.score(bench.space.sample(rng)));
    best_of_50 += best / 200;
  }
  int better = 0;
  for (int seed = 0; seed < 10; ++seed) {
    auto strategy = make_strategy(bench.context("rl", 300, seed));
    double last = 0;
    while (!strategy->finished()) {
      for (const Proposal& p : strategy->ask(1)) {
        if (p.number >= 250) last += bench.score(p.genotype) / 50;
        strategy->tell({bench.outcome(p)});
      }
    }
    better += last > best_of_50;
  }
  EXPECT_GE(better, 9);
}

// ---- nsga2 ----

TEST(Nsga2, TheFrontSpreadsFromCheapToGood) {
  Gene width = number_gene("width", Gene::Kind::Integer, 1, 64);
  Gene knob = number_gene("knob", Gene::Kind::Real, 0, 1);
  const Bench bench(Problem{"front", {width, knob}, 0, [](const SearchSpace& s, const Genotype& g) {
                              return 1 / s.genes()[0].value(g.values[0]) +
                                     std::pow(s.genes()[1].unit(g.values[1]) - 0.3, 2);
                            }});
  StrategyContext context = bench.context("nsga2", 80);
  context.stage.set("objectives", Json::array({"parameters"}));
  context.cost = [&](const Genotype& g) {
    TrialCost cost;
    cost.parameters = std::llround(bench.space.genes()[0].value(g.values[0]));
    return cost;
  };
  auto strategy = make_strategy(context);
  bench.drive(*strategy);
  const Json story = Json::parse(strategy->story());
  std::set<std::int64_t> widths;
  for (const Json& each : story["front"]) widths.insert(each["parameters"].get<std::int64_t>());
  EXPECT_GE(widths.size(), 6u);
  EXPECT_LE(*widths.begin(), 6);
  EXPECT_GT(strategy->winner().score, -0.1);
}

// ---- brackets ----

TEST(Brackets, HalvingAndHyperbandHaveThePapersSizes) {
  EXPECT_EQ(halving_plan(27, 0, 3).brackets, (std::vector<Bracket>{{0, {27, 9, 3, 1}}}));
  EXPECT_EQ(halving_plan(10, 2, 3).brackets, (std::vector<Bracket>{{0, {10, 3}}}));
  // Table 1 of arXiv:1603.06560 for R = 81, eta = 3.
  const BracketPlan plan = hyperband_plan(81 + 34 + 15 + 8 + 5, 5, 3);
  EXPECT_EQ(
      plan.brackets,
      (std::vector<Bracket>{
          {0, {81, 27, 9, 3, 1}}, {1, {34, 11, 3, 1}}, {2, {15, 5, 1}}, {3, {8, 2}}, {4, {5}}}));
  EXPECT_DOUBLE_EQ(plan.units(-1, 4), 81);
  EXPECT_DOUBLE_EQ(plan.units(3, 4), 54);
  EXPECT_EQ(hyperband_plan(14, 0, 3).rungs, 2);
}

TEST(Brackets, AutoNnunetsBudgetGivesItsRungsAndASmallOneFewer) {
  const Recipe recipe = load_recipe("auto-nnunet", strategy_kinds());
  const auto plan = [&](std::int64_t steps) {
    const StageBudget budget = stage_budget(recipe, 0, {.steps = steps}, 0, {});
    const auto forecast =
        recipe.stages[0].kind->forecast(recipe.stages[0], budget, [&](double share) {
          return std::llround(share * static_cast<double>(budget.steps));
        });
    for (const TrialForecast& trials : forecast) {
      EXPECT_LE(trials.steps, steps) << "no training is longer than the final one";
    }
    return std::pair{budget.rungs, forecast.front().steps};
  };
  // 1000 epochs of 250 steps, and 22 times that for the search: from 12 epochs to all of them.
  EXPECT_EQ(plan(250000).first, 5);
  EXPECT_NEAR(static_cast<double>(plan(250000).second) / 250, 12.3, 0.1);
  EXPECT_LT(plan(200).first, 5);
  EXPECT_GE(plan(200).second, 20);
}

/// Runs a bracket kind; a training that is longer shows less noise. Effort in full trainings until
/// the first full training whose true score is at least `wanted`; infinity if there is none.
struct Ladder {
  const Bench& bench;
  std::string transcript;
  double effort = 0, reached = INFINITY;
  double wanted = INFINITY;

  void run(Strategy& strategy, int rungs, double eta = 3) {
    std::map<std::int64_t, double> effort_of;
    while (!strategy.finished()) {
      const std::vector<Proposal> asked = strategy.ask(1);
      ASSERT_EQ(asked.size(), 1u);
      const Proposal& p = asked[0];
      const double full = std::pow(eta, rungs - 1);
      const double before = p.continues >= 0 ? effort_of.at(p.continues) : 0;
      const double now = std::pow(eta, p.rung) / full;
      effort_of[p.number] = now;
      effort += now - before;
      const double score = bench.score(p.genotype);
      if (p.rung == rungs - 1 && score >= wanted) reached = std::min(reached, effort);
      char line[96];
      std::snprintf(line,
                    sizeof line,
                    "%2d rung %d share %.4f %s%d %.4f\n",
                    static_cast<int>(p.number),
                    p.rung,
                    p.share,
                    p.continues >= 0 ? "goes on from " : "begins ",
                    static_cast<int>(p.continues),
                    score);
      transcript += line;
      // Shorter trainings end lower, and not all by as much.
      Outcome o = bench.outcome(p);
      o.score = score - 0.02 * (1 - now) * (1 + 0.2 * std::sin(1.0 * p.genotype.values[1]));
      strategy.tell({o});
    }
  }
};

TEST(Asha, PromotesTheBestThirdOfARungAsItFills) {
  const Bench bench("mixed");
  auto strategy = make_strategy(bench.context("asha", 9));
  Ladder ladder{bench, "", 0, INFINITY, INFINITY};
  ladder.run(*strategy, 3);
  EXPECT_EQ(ladder.transcript,
            " 0 rung 0 share 0.0476 begins -1 -0.1455\n"
            " 1 rung 0 share 0.0476 begins -1 -0.1501\n"
            " 2 rung 0 share 0.0476 begins -1 -0.0746\n"
            " 3 rung 1 share 0.0952 goes on from 2 -0.0746\n"
            " 4 rung 0 share 0.0476 begins -1 -0.0281\n"
            " 5 rung 1 share 0.0952 goes on from 4 -0.0281\n"
            " 6 rung 0 share 0.0476 begins -1 -0.3584\n"
            " 7 rung 0 share 0.0476 begins -1 -0.1510\n"
            " 8 rung 0 share 0.0476 begins -1 -0.0762\n"
            " 9 rung 0 share 0.0476 begins -1 -0.1452\n"
            "10 rung 0 share 0.0476 begins -1 -0.1126\n"
            "11 rung 1 share 0.0952 goes on from 8 -0.0762\n"
            "12 rung 2 share 0.2857 goes on from 5 -0.0281\n");
  EXPECT_EQ(strategy->planned_trials(), 13);
  EXPECT_EQ(Json::parse(strategy->story())["rungs"].size(), 3u);
}

TEST(Asha, NineWorkersAskAtOnceAndNobodyIsPromotedTwice) {
  const Bench bench("mixed");
  auto strategy = make_strategy(bench.context("asha", 27));
  Rng rng("workers");
  std::vector<Proposal> running;
  std::set<std::int64_t> continued;
  double share = 0;
  while (!strategy->finished()) {
    for (const Proposal& p : strategy->ask(9 - std::ssize(running))) {
      running.push_back(p);
      share += p.share;
      EXPECT_TRUE(p.continues < 0 || continued.insert(p.continues).second);
    }
    ASSERT_FALSE(running.empty());
    rng.shuffle(running);
    strategy->tell({bench.outcome(running.back())});
    running.pop_back();
    const auto resting = strategy->resting();
    std::set<std::int64_t> needed;
    for (const Proposal& p : running) needed.insert(p.continues);
    for (const std::int64_t number : resting) {
      EXPECT_TRUE(!continued.contains(number) || needed.contains(number)) << number;
    }
    for (const std::int64_t number : needed) {
      EXPECT_TRUE(number < 0 || std::ranges::find(resting, number) != resting.end()) << number;
    }
  }
  EXPECT_NEAR(share, 1, 1e-9);
  EXPECT_LE(strategy->resting().size(), 2u) << "the winner and the plan";
}

TEST(Hyperband, ARungIsPromotedWhenAllOfItIsTold) {
  const Bench bench("mixed");
  auto strategy = make_strategy(bench.context("hyperband", 5));
  const auto first = strategy->ask(3);  // the first bracket: 3, then 1
  ASSERT_EQ(first.size(), 3u);
  strategy->tell({bench.outcome(first[0]), bench.outcome(first[1])});
  const auto meanwhile = strategy->ask(1);
  ASSERT_EQ(meanwhile.size(), 1u);
  EXPECT_LT(meanwhile[0].continues, 0) << "the next bracket begins";
  EXPECT_EQ(meanwhile[0].rung, 1);
  strategy->tell({bench.outcome(first[2])});
  const auto promoted = strategy->ask(1);
  ASSERT_EQ(promoted.size(), 1u);
  EXPECT_GE(promoted[0].continues, 0);
}

TEST(Hyperband, GoldenTranscript) {
  const Bench bench("mixed");
  auto strategy = make_strategy(bench.context("hyperband", 17));
  Ladder ladder{bench, "", 0, INFINITY, INFINITY};
  ladder.run(*strategy, 3);
  EXPECT_EQ(ladder.transcript,
            " 0 rung 0 share 0.0145 begins -1 -0.1455\n"
            " 1 rung 0 share 0.0145 begins -1 -0.1501\n"
            " 2 rung 0 share 0.0145 begins -1 -0.0746\n"
            " 3 rung 0 share 0.0145 begins -1 -0.6196\n"
            " 4 rung 0 share 0.0145 begins -1 -0.0281\n"
            " 5 rung 0 share 0.0145 begins -1 -0.1071\n"
            " 6 rung 0 share 0.0145 begins -1 -0.3584\n"
            " 7 rung 0 share 0.0145 begins -1 -0.1510\n"
            " 8 rung 0 share 0.0145 begins -1 -0.0762\n"
            " 9 rung 1 share 0.0290 goes on from 4 -0.0281\n"
            "10 rung 1 share 0.0290 goes on from 2 -0.0746\n"
            "11 rung 1 share 0.0290 goes on from 8 -0.0762\n"
            "12 rung 2 share 0.0870 goes on from 9 -0.0281\n"
            "13 rung 1 share 0.0435 begins -1 -0.0680\n"
            "14 rung 1 share 0.0435 begins -1 -0.1580\n"
            "15 rung 1 share 0.0435 begins -1 -0.0795\n"
            "16 rung 1 share 0.0435 begins -1 -0.0621\n"
            "17 rung 1 share 0.0435 begins -1 -0.7346\n"
            "18 rung 2 share 0.0870 goes on from 16 -0.0621\n"
            "19 rung 2 share 0.1304 begins -1 -0.1078\n"
            "20 rung 2 share 0.1304 begins -1 -0.0584\n"
            "21 rung 2 share 0.1304 begins -1 -0.0966\n");
  EXPECT_EQ(Json::parse(strategy->story())["brackets"].size(), 3u);
}

TEST(PriorBand, AGoodPriorReachesTheQualityOfSixtyRandomTrialsSoon) {
  // The plan is near to the best, as a good prior is: a little off in every gene.
  Problem problem = problem_named("mixed");
  const Genotype near{{2, 5200, 4600, 4, 3600}};
  for (std::size_t g = 0; g < near.values.size(); ++g) problem.genes[g].planned = near.values[g];
  problem.genes[0].values = {"sgd", "adam", "adamw", "muon"};
  const Bench bench(problem), plain("mixed");
  std::vector<double> reached;
  for (int seed = 0; seed < 9; ++seed) {
    StrategyContext random = plain.context("random", 60, seed);
    random.budget.rungs = 1;
    Ladder ladder{bench, "", 0, INFINITY, plain.drive(*make_strategy(random)).back()};
    StrategyContext context = bench.context("priorband", 34, seed);
    auto strategy = make_strategy(context);
    ladder.run(*strategy, 3);
    reached.push_back(ladder.reached);
  }
  std::ranges::sort(reached);
  EXPECT_LE(reached[4], 20) << "full trainings";
}

TEST(PriorBand, GoldenTranscript) {
  const Bench bench("mixed");
  StrategyContext context = bench.context("priorband", 17);
  context.stage.set("first", "top");
  auto strategy = make_strategy(context);
  Ladder ladder{bench, "", 0, INFINITY, INFINITY};
  ladder.run(*strategy, 3);
  EXPECT_EQ(ladder.transcript,
            " 0 rung 2 share 0.1154 begins -1 -0.1455\n"
            " 1 rung 0 share 0.0128 begins -1 -0.1396\n"
            " 2 rung 0 share 0.0128 begins -1 -0.3139\n"
            " 3 rung 0 share 0.0128 begins -1 -0.0377\n"
            " 4 rung 0 share 0.0128 begins -1 -0.1208\n"
            " 5 rung 0 share 0.0128 begins -1 -0.0723\n"
            " 6 rung 0 share 0.0128 begins -1 -0.0140\n"
            " 7 rung 0 share 0.0128 begins -1 -0.0860\n"
            " 8 rung 0 share 0.0128 begins -1 -0.2870\n"
            " 9 rung 0 share 0.0128 begins -1 -0.2113\n"
            "10 rung 1 share 0.0256 goes on from 6 -0.0140\n"
            "11 rung 1 share 0.0256 goes on from 3 -0.0377\n"
            "12 rung 1 share 0.0256 goes on from 5 -0.0723\n"
            "13 rung 2 share 0.0769 goes on from 10 -0.0140\n"
            "14 rung 1 share 0.0385 begins -1 -0.0690\n"
            "15 rung 1 share 0.0385 begins -1 -0.0213\n"
            "16 rung 1 share 0.0385 begins -1 -0.0687\n"
            "17 rung 1 share 0.0385 begins -1 -0.0412\n"
            "18 rung 1 share 0.0385 begins -1 -0.0246\n"
            "19 rung 2 share 0.0769 goes on from 15 -0.0213\n"
            "20 rung 2 share 0.1154 begins -1 -0.0413\n"
            "21 rung 2 share 0.1154 begins -1 -0.2243\n"
            "22 rung 2 share 0.1154 begins -1 -0.1077\n");
  const Json drawn = Json::parse(strategy->story())["drawn_from"];
  EXPECT_GT(drawn["plan"], 0);
  EXPECT_GT(drawn["best"], 0);
  EXPECT_GT(drawn["anywhere"], 0);
}

// ---- golden transcripts ----

TEST(Controllers, GoldenTranscripts) {
  const Bench bench("mixed");
  EXPECT_EQ(golden(bench, "gp", 8),
            "0 optimizer=sgd rate=0.001 decay=0.0001 layers=5 dropout=0.25 -0.1455\n"
            "1 optimizer=adam rate=0.0001142 decay=2.767e-06 layers=7 dropout=0.26785 -0.0894\n"
            "2 optimizer=adam rate=1e-05 decay=1e-06 layers=8 dropout=0.5 -0.2928\n"
            "3 optimizer=adam rate=0.0003678 decay=3.597e-06 layers=7 dropout=0.14035 -0.0520\n"
            "4 optimizer=adam rate=0.0001505 decay=1e-06 layers=3 dropout=0.0846 -0.1093\n"
            "5 optimizer=adam rate=0.05124 decay=6.674e-06 layers=8 dropout=0.156 -0.2316\n"
            "6 optimizer=adam rate=0.000118 decay=5.06e-05 layers=8 dropout=0.03375 -0.0801\n"
            "7 optimizer=muon rate=0.0002711 decay=1e-06 layers=8 dropout=0.013 -0.2009\n");
  EXPECT_EQ(golden(bench, "tpe", 13),
            "0 optimizer=sgd rate=0.001 decay=0.0001 layers=5 dropout=0.25 -0.1455\n"
            "1 optimizer=adamw rate=0.034 decay=0.0004504 layers=4 dropout=0.19415 -0.1501\n"
            "2 optimizer=muon rate=0.002887 decay=2.074e-05 layers=5 dropout=0.4936 -0.0746\n"
            "3 optimizer=sgd rate=3.02e-05 decay=0.000906 layers=1 dropout=0.15385 -0.6196\n"
            "4 optimizer=adamw rate=0.000308 decay=0.0004575 layers=5 dropout=0.40105 -0.0281\n"
            "5 optimizer=muon rate=0.001306 decay=0.00917 layers=7 dropout=0.23875 -0.1071\n"
            "6 optimizer=muon rate=0.0001089 decay=0.003233 layers=1 dropout=0.40625 -0.3584\n"
            "7 optimizer=adam rate=0.02744 decay=2.82e-06 layers=3 dropout=0.34905 -0.1510\n"
            "8 optimizer=muon rate=0.07936 decay=1.354e-05 layers=3 dropout=0.0875 -0.0762\n"
            "9 optimizer=adam rate=2.53e-05 decay=0.000632 layers=7 dropout=0.2161 -0.1452\n"
            "10 optimizer=muon rate=0.02647 decay=1.664e-05 layers=5 dropout=0.4364 -0.0596\n"
            "11 optimizer=muon rate=0.001075 decay=6.26e-06 layers=5 dropout=0.4673 -0.1116\n"
            "12 optimizer=muon rate=0.01934 decay=3.68e-05 layers=5 dropout=0.3853 -0.0426\n");
  StrategyContext sobol = bench.context("random", 6);
  sobol.budget.rungs = 1;
  sobol.stage.set("design", "sobol");
  EXPECT_EQ(golden(bench, sobol),
            "0 optimizer=sgd rate=0.001 decay=0.0001 layers=5 dropout=0.25 -0.1455\n"
            "1 optimizer=sgd rate=0.0001443 decay=4.756e-06 layers=4 dropout=0.09595 -0.3380\n"
            "2 optimizer=adam rate=0.001443 decay=0.004756 layers=6 dropout=0.22095 -0.0457\n"
            "3 optimizer=muon rate=1.443e-05 decay=4.756e-05 layers=2 dropout=0.47095 -0.5341\n"
            "4 optimizer=muon rate=0.004562 decay=1.504e-06 layers=2 dropout=0.40845 -0.1202\n"
            "5 optimizer=adam rate=4.562e-05 decay=0.0001504 layers=5 dropout=0.15845 -0.1002\n");
  EXPECT_EQ(golden(bench, "rl", 6),
            "0 optimizer=sgd rate=0.001 decay=0.0001 layers=5 dropout=0.25 -0.1455\n"
            "1 optimizer=muon rate=0.0001107 decay=1.323e-06 layers=7 dropout=0.43485 -0.2674\n"
            "2 optimizer=sgd rate=0.000105 decay=0.005765 layers=3 dropout=0.30145 -0.4159\n"
            "3 optimizer=muon rate=0.06773 decay=1.869e-06 layers=5 dropout=0.1601 -0.0844\n"
            "4 optimizer=sgd rate=0.0001161 decay=0.000422 layers=6 dropout=0.26325 -0.3261\n"
            "5 optimizer=adamw rate=0.00426 decay=1.281e-05 layers=7 dropout=0.288 -0.0724\n");
  EXPECT_EQ(golden(bench, "nsga2", 8),
            "0 optimizer=sgd rate=0.001 decay=0.0001 layers=5 dropout=0.25 -0.1455\n"
            "1 optimizer=adamw rate=0.034 decay=0.0004504 layers=4 dropout=0.19415 -0.1501\n"
            "2 optimizer=muon rate=0.002887 decay=2.074e-05 layers=5 dropout=0.4936 -0.0746\n"
            "3 optimizer=sgd rate=3.02e-05 decay=0.000906 layers=1 dropout=0.15385 -0.6196\n"
            "4 optimizer=muon rate=0.002887 decay=0.0001 layers=4 dropout=0.25 -0.0443\n"
            "5 optimizer=muon rate=0.000847 decay=0.0001 layers=4 dropout=0.25 -0.0898\n"
            "6 optimizer=muon rate=0.002887 decay=0.0001 layers=5 dropout=0.25 -0.0376\n"
            "7 optimizer=adamw rate=0.002887 decay=0.0001 layers=5 dropout=0.25 -0.0248\n");
}

// ---- importance ----

TEST(Importance, NamesTheGeneThatMattersAndRefusesFewTrials) {
  Gene choice{.name = "choice", .group = "training", .values = {"a", "b", "c"}};
  const Gene strong = number_gene("strong", Gene::Kind::Real, 0, 1);
  const Gene idle = number_gene("idle", Gene::Kind::Real, 0, 1);
  const Bench bench(Problem{
      "two of three", {choice, strong, idle}, 0, [](const SearchSpace& s, const Genotype& g) {
        return std::pow(s.genes()[1].unit(g.values[1]) - 0.8, 2) + (g.values[0] == 1 ? 0 : 0.1);
      }});
  Rng rng("importance");
  std::vector<EarlierResult> results;
  for (int i = 0; i < 80; ++i) {
    const Genotype g = bench.space.sample(rng);
    results.push_back({g, bench.score(g)});
  }
  const auto genes = gene_importance(bench.space, results, Rng("bootstrap"));
  ASSERT_EQ(genes.size(), 3u);
  EXPECT_EQ(genes[2].gene, "idle") << "neither among the best nor for the process";
  EXPECT_GT(genes[0].interval.low, genes[2].share);
  double share = 0, relevance = 0;
  for (const GeneImportance& gene : genes) {
    share += gene.share;
    relevance += gene.relevance;
    EXPECT_LE(gene.interval.low, gene.share);
    EXPECT_GE(gene.interval.high, gene.share - 0.02);
    EXPECT_GE(gene.relevance, genes[2].relevance);
  }
  EXPECT_NEAR(share, 1, 1e-12);
  EXPECT_NEAR(relevance, 1, 1e-12);
  results.resize(19);
  ErrorKind kind{};
  EXPECT_THAT(error_of([&] { gene_importance(bench.space, results, Rng(1)); }, &kind),
              testing::AllOf(HasSubstr("20"), HasSubstr("19")));
  EXPECT_EQ(kind, ErrorKind::Usage);
}

TEST(RandomSearch, SobolDesignSpreadsMoreEvenly) {
  const Bench bench("hartmann6");
  const auto emptiest = [&](const char* design) {
    StrategyContext context = bench.context("random", 64);
    context.budget.rungs = 1;
    context.stage.set("design", design);
    int least = 64;
    const std::vector<Proposal> all = make_strategy(context)->ask(100);
    EXPECT_EQ(all.size(), 64u);
    for (std::size_t g = 0; g < 6; ++g) {
      int counts[8] = {};
      for (const Proposal& p : all) {
        ++counts[std::min(7,
                          static_cast<int>(8 * bench.space.genes()[g].unit(p.genotype.values[g])))];
      }
      least = std::min(least, *std::ranges::min_element(counts));
    }
    return least;
  };
  EXPECT_GE(emptiest("sobol"), 6);
  EXPECT_LT(emptiest("random"), 6);
}

}  // namespace
}  // namespace nas
