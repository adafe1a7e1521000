// SPDX-License-Identifier: Apache-2.0
// The search skeleton without a tensor: database, recipes, budgets, successive halving, the loop,
// kills, statistics.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <sstream>

#include "nas/core/files.h"
#include "nas/core/quantity.h"
#include "nas/core/text.h"
#include "nas/jobs/strategies/strategies.h"
#include "nas/report/report.h"
#include "nas/report/seeds.h"
#include "nas/report/text.h"
#include "nas/results/prior_runs.h"
#include "nas/results/results_db.h"
#include "nas/search/budget.h"
#include "nas/search/forecast.h"
#include "nas/search/limits.h"
#include "nas/search/random_search.h"
#include "nas/search/run_search.h"
#include "nas/search/statistics.h"
#include "search_spaces/planned_unet/plan.h"
#include "tests/support/support.h"
#include "tests/support/toy_search.h"

namespace nas {
namespace {

using test::error_of;
using test::FakeEvaluator;
using test::TempFolder;
using test::ToySpace;
using testing::ElementsAre;
using testing::HasSubstr;

RunRecord toy_run(Budget budget) {
  RunRecord run;
  run.command = "voxnas search DATA --steps 100 -o RUN";
  run.data_folder = "DATA";
  run.recipe_json = to_json(load_recipe("random", strategy_kinds())).dump();
  Plan plan;
  plan.dataset_name = "Toy";
  plan.configurations.resize(1);
  plan.configurations[0].name = "3d_fullres";
  plan.configurations[0].patch = {32, 40, 48};
  plan.configurations[0].batch = 3;
  plan.configurations[0].normalization = {
      "ZScoreNormalization with a name too long for small strings"};
  plan.configurations[0].use_mask_for_norm = {false};
  run.plan_json = to_json(plan).dump();
  run.space_json = "{}";
  run.setup_json =
      R"({"data": {"name": "Toy & <Co>", "layout": "msd", "channels": ["MRI"], "labels": ["background", "a<b>"]}})";
  run.budget = budget;
  run.seed = 7;
  run.code_version = "test";
  run.created_unix = 1;
  return run;
}

/// One toy search in a folder; run() may be called again and again, as after a crash.
struct ToySearch {
  explicit ToySearch(const std::filesystem::path& folder, Budget b = {.steps = 100})
      : folder(folder), budget(b) {}
  SearchEnd run() {
    const auto file = folder / "results.sqlite";
    ResultsDb db =
        std::filesystem::exists(file) ? ResultsDb::open(file) : ResultsDb::create(file, record());
    SearchSetup setup;
    setup.database = &db;
    setup.space = &space;
    setup.evaluator = &evaluator;
    setup.recipe = recipe;
    setup.budget = budget;
    setup.seed = seed;
    setup.clock = [this] { return budget.has_clock() ? evaluator.now : 0.0; };
    setup.should_stop = [this] { return evaluator.stop_after == 0; };
    setup.folder = folder;
    setup.listeners = {&transcript};
    return run_search(setup);
  }
  std::vector<Trial> trials() const { return ResultsDb::open(folder / "results.sqlite").trials(); }

  RunRecord record() const {
    RunRecord run = toy_run(budget);
    run.seed = seed;
    if (!features.empty()) {
      Json setup = Json::parse(run.setup_json);
      setup["features"] = features;
      run.setup_json = setup.dump();
    }
    return run;
  }

  std::filesystem::path folder;
  Budget budget;
  std::uint64_t seed = 7;
  ToySpace space;
  FakeEvaluator evaluator;
  Recipe recipe = load_recipe("random", strategy_kinds());
  std::vector<double> features;
  test::Transcript transcript;
};

// ---- the loop ----

TEST(RunSearch, GoldenTranscriptOfASeededSearch) {
  TempFolder folder;
  ToySearch search(folder.path());
  search.recipe.stages[0].set("trials", 9);
  search.recipe.stages[0].set("rungs", 3);
  EXPECT_EQ(search.run(), SearchEnd::Finished);
  EXPECT_EQ(search.transcript.text, R"(stage search: 13 trials, 3 rungs, 86 steps
  1 rung 0 width=0 depth=0 kind=a 3 steps done 0.6689 baseline
  best is 1
  2 rung 0 width=0 depth=4 kind=c 3 steps done 0.6552
  3 rung 0 width=0 depth=3 kind=a 3 steps done 0.6333
  4 rung 0 width=0 depth=2 kind=a 3 steps done 0.6823
  best is 4
  5 rung 0 width=3 depth=4 kind=a 3 steps done 0.7536
  best is 5
  6 rung 0 width=1 depth=3 kind=c 3 steps done 0.7445
  7 rung 0 width=1 depth=3 kind=b 3 steps done 0.7145
  8 rung 0 width=0 depth=0 kind=c 3 steps done 0.7289
  9 rung 0 width=4 depth=3 kind=b 3 steps done 0.7558
  best is 9
  10 rung 1 width=4 depth=3 kind=b 9 steps done 0.7801
  best is 10
  11 rung 1 width=3 depth=4 kind=a 9 steps done 0.7779
  12 rung 1 width=1 depth=3 kind=c 9 steps done 0.7688
  13 rung 2 width=4 depth=3 kind=b 28 steps done 0.8064
  best is 13
end search
stage final: 2 trials, 1 rungs, 200 steps
  14 rung 0 width=4 depth=3 kind=b 100 steps done 0.8237 best
  15 rung 0 width=0 depth=0 kind=a 100 steps done 0.7367 baseline
end final
)");
}

TEST(RunSearch, EqualSeedsGiveEqualTablesAndOthersDoNot) {
  TempFolder a, b;
  ToySearch first(a.path()), second(b.path());
  first.run();
  second.run();
  EXPECT_EQ(results_table(first.trials()), results_table(second.trials()));
  EXPECT_EQ(first.transcript.text, second.transcript.text);
}

TEST(RunSearch, FailedTrialsAreRowsAndAreNotPromoted) {
  TempFolder folder;
  ToySearch search(folder.path());
  search.recipe.stages[0].set("trials", 6);
  search.recipe.stages[0].set("rungs", 2);
  search.evaluator.failures[search.space.baseline()] = TrialStatus::Nan;
  // The baseline fails everywhere, so the best is retrained alone and the run still ends.
  EXPECT_EQ(search.run(), SearchEnd::Finished);
  const std::vector<Trial> trials = search.trials();
  EXPECT_EQ(trials[0].status, TrialStatus::Nan);
  EXPECT_EQ(trials[0].evaluation.message, "as told");
  for (const Trial& trial : trials) {
    EXPECT_TRUE(trial.rung == 0 || trial.genotype != search.space.baseline());
  }
  EXPECT_EQ(trials.back().label, "baseline");
  EXPECT_EQ(trials.back().status, TrialStatus::Nan);
}

TEST(RunSearch, NoFinalTrainingAtAllIsAnErrorThatSaysWhy) {
  TempFolder folder;
  ToySearch search(folder.path());
  search.recipe.stages[0].set("trials", 1);
  search.evaluator.failures[search.space.baseline()] = TrialStatus::OutOfMemory;
  EXPECT_THAT(error_of([&] { search.run(); }),
              testing::AllOf(HasSubstr("no final training succeeded"), HasSubstr("oom, as told")));
}

TEST(RunSearch, BestEqualToBaselineIsTrainedOnce) {
  TempFolder folder;
  ToySearch search(folder.path());
  search.recipe.stages[0].set("trials", 1);
  search.run();
  const std::vector<Trial> trials = search.trials();
  ASSERT_EQ(trials.size(), 2u);
  EXPECT_EQ(trials[1].label, "baseline");
  EXPECT_EQ(trials[1].steps, 100);
}

TEST(RunSearch, CtrlCLeavesAStoppedTrialThatContinuesFromItsCheckpoint) {
  TempFolder a, b;
  ToySearch straight(a.path()), stopped(b.path());
  straight.run();
  stopped.evaluator.log = b / "log";
  stopped.evaluator.stop_after = 25;
  EXPECT_EQ(stopped.run(), SearchEnd::Stopped);
  EXPECT_EQ(std::ranges::count(stopped.trials(), TrialStatus::Stopped, &Trial::status), 1);
  stopped.evaluator.stop_after = -1;
  EXPECT_EQ(stopped.run(), SearchEnd::Finished);
  EXPECT_EQ(results_table(straight.trials()), results_table(stopped.trials()));
  std::ifstream log(b / "log");
  std::set<std::string> lines;
  for (std::string line; std::getline(log, line);)
    EXPECT_TRUE(lines.insert(line).second) << line << " done twice";
}

/// Measures a speed with each plan, as an evaluator with a clock does.
class MeasuringEvaluator : public FakeEvaluator {
 public:
  std::vector<int> speeds;
  TrialPlan plan(const Trial& trial) override {
    speeds.push_back(static_cast<int>(trial.id));
    return FakeEvaluator::plan(trial);
  }
  std::string measured() const override { return speeds.empty() ? "" : Json(speeds).dump(); }
  void restore(const std::string& text) override {
    speeds.clear();
    for (const Json& one : parse_json(text, "measured")) speeds.push_back(one);
  }
};

TEST(RunSearch, WhatWasMeasuredIsKeptForTheRunThatGoesOn) {
  TempFolder folder;
  const auto file = folder / "results.sqlite";
  ToySpace space;
  const auto run = [&](MeasuringEvaluator& evaluator) {
    ResultsDb db = std::filesystem::exists(file) ? ResultsDb::open(file)
                                                 : ResultsDb::create(file, toy_run({.steps = 100}));
    SearchSetup setup;
    setup.database = &db;
    setup.space = &space;
    setup.evaluator = &evaluator;
    setup.recipe = load_recipe("random", strategy_kinds());
    setup.budget = {.steps = 100};
    setup.clock = [] { return 0.0; };
    setup.folder = folder.path();
    return run_search(setup);
  };
  MeasuringEvaluator first, second;
  first.stop_after = 25;
  EXPECT_EQ(run(first), SearchEnd::Stopped);
  ASSERT_FALSE(first.speeds.empty());
  EXPECT_EQ(ResultsDb::open(file).measured(), first.measured());
  EXPECT_EQ(run(second), SearchEnd::Finished);
  ASSERT_GT(second.speeds.size(), first.speeds.size());
  EXPECT_TRUE(std::equal(first.speeds.begin(), first.speeds.end(), second.speeds.begin()));
  EXPECT_EQ(ResultsDb::open(file).measured(), second.measured());
}

TEST(RunSearch, AStopThatIsThrownStopsTheTrialAndOtherErrorsAreWhatTheyAre) {
  struct Throwing : FakeEvaluator {
    ErrorKind kind = ErrorKind::Stopped;
    bool done = false;
    Evaluation evaluate(const Trial& trial, const TrialContext& context) override {
      if (trial.id < 2 || done) return FakeEvaluator::evaluate(trial, context);
      throw Error(kind, "as told");
    }
  };
  const auto run = [](const std::filesystem::path& folder, Throwing& evaluator) {
    const auto file = folder / "results.sqlite";
    ToySpace space;
    ResultsDb db = std::filesystem::exists(file) ? ResultsDb::open(file)
                                                 : ResultsDb::create(file, toy_run({.steps = 100}));
    SearchSetup setup;
    setup.database = &db;
    setup.space = &space;
    setup.evaluator = &evaluator;
    setup.recipe = load_recipe("random", strategy_kinds());
    setup.budget = {.steps = 100};
    setup.clock = [] { return 0.0; };
    setup.folder = folder;
    return run_search(setup);
  };
  const auto count = [](const std::filesystem::path& folder) {
    return std::ranges::count(ResultsDb::open(folder / "results.sqlite").trials("search"),
                              TrialStatus::Stopped,
                              &Trial::status);
  };
  TempFolder stopped, broken;
  Throwing evaluator;
  EXPECT_EQ(run(stopped.path(), evaluator), SearchEnd::Stopped);
  EXPECT_EQ(count(stopped.path()), 1);
  evaluator.done = true;
  EXPECT_EQ(run(stopped.path(), evaluator), SearchEnd::Finished);

  Throwing disk;
  disk.kind = ErrorKind::Io;
  EXPECT_THROW(run(broken.path(), disk), Error) << "a broken disk is not a stop";
  EXPECT_EQ(count(broken.path()), 0);
}

std::int64_t lines_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  return std::count(std::istreambuf_iterator<char>(in), {}, '\n');
}

TEST(RunSearch, KilledAtRandomPointsItEndsAsTheStraightRun) {
  TempFolder a, b;
  ToySearch straight(a.path());
  straight.recipe.stages[0].set("trials", 9);
  straight.run();
  Rng rng("kill-test");
  int kills = 0;
  for (bool finished = false; !finished; ++kills) {
    ASSERT_LT(kills, 200) << "no progress between kills";
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      int code = 1;
      try {
        ToySearch search(b.path());
        search.recipe.stages[0].set("trials", 9);
        search.evaluator.sleep_us = 300;
        search.evaluator.log = b / "log";
        search.run();
        code = 0;
      } catch (...) {
      }
      _exit(code);
    }
    // By what was done, not by a clock: some children die before their first step, all get on.
    const std::int64_t steps = lines_of(b / "log") + rng.integer(0, 60);
    const auto after = std::chrono::microseconds(rng.integer(0, 3000));
    int status = 0;
    while (waitpid(child, &status, WNOHANG) == 0) {
      if (lines_of(b / "log") >= steps) {
        std::this_thread::sleep_for(after);
        kill(child, SIGKILL);
        waitpid(child, &status, 0);
        break;
      }
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    if (WIFEXITED(status)) {
      ASSERT_EQ(WEXITSTATUS(status), 0);
      finished = true;
    }
  }
  EXPECT_GE(kills, 3);
  const std::vector<Trial> trials = ResultsDb::open(b / "results.sqlite").trials();
  EXPECT_EQ(results_table(straight.trials()), results_table(trials));
  // At most the one step between work and checkpoint is repeated per kill: finished trials never
  // are.
  const std::int64_t steps = lines_of(b / "log");
  std::int64_t wanted = 0;
  for (const Trial& trial : trials) wanted += trial.evaluation.steps;
  EXPECT_GE(steps, wanted);
  EXPECT_LE(steps, wanted + kills);
}

TEST(RunSearch, WhereTheBudgetBuysHardlyAnyStepsNothingAsDearAsTheBaselineIsTriedBesidesIt) {
  TempFolder folder;
  ToySearch search(folder.path(), {.seconds = 1000});  // all networks cost about the same
  search.evaluator.step_seconds = 4;
  EXPECT_EQ(search.run(), SearchEnd::Finished);
  int trained = 0;
  for (const Trial& trial : search.trials()) {
    if (trial.status != TrialStatus::Done) continue;  // what cannot be built has no cost
    EXPECT_EQ(trial.label, "baseline");
    ++trained;
  }
  EXPECT_EQ(trained, 2);  // searched and final
}

TEST(RunSearch, WithAClockTheWholeRunEndsInTimeAlthoughStepsAreSlowerThanProbed) {
  TempFolder folder;
  ToySearch search(folder.path(), {.seconds = 1000});
  search.evaluator.step_seconds = 0.5;
  search.evaluator.slower = 1.05;
  search.evaluator.evaluation_seconds = 3;
  search.evaluator.now = 20;  // preparation
  search.run();
  EXPECT_LE(search.evaluator.now, 1000);
  EXPECT_GE(search.evaluator.now, 900) << "the budget is not used";
  const std::vector<Trial> trials = search.trials();
  const Trial& best = trials[trials.size() - 2];
  const Trial& baseline = trials.back();
  EXPECT_EQ(best.label, "best");
  EXPECT_EQ(baseline.label, "baseline");
  EXPECT_NEAR(best.seconds_limit, baseline.seconds_limit, 1e-9 + 0.02 * best.seconds_limit);
  EXPECT_GT(best.seconds_limit, 300);
  for (const Trial& trial : trials) EXPECT_GE(trial.evaluation.steps, kSmallestTraining);
}

// ---- successive halving ----

StrategyContext toy_context(const SearchSpace& space, std::int64_t trials, std::int64_t rungs) {
  StrategyContext context;
  context.space = &space;
  context.stage = make_stage(random_kind(), "search", 1);
  context.budget.trials = trials;
  context.budget.rungs = rungs;
  context.rng = Rng(3);
  context.start = space.start();
  context.baseline = space.baseline();
  return context;
}

TEST(RandomSearch, PromotesTheBestOfEachRungAndSpendsEveryRungAlike) {
  ToySpace space;
  auto strategy = make_strategy(toy_context(space, 9, 3));
  EXPECT_EQ(strategy->planned_trials(), 13);
  const auto rung0 = strategy->ask(100);
  ASSERT_EQ(rung0.size(), 9u);
  EXPECT_EQ(rung0[0].genotype, space.baseline());
  std::set<Genotype> different;
  for (const Proposal& p : rung0) different.insert(p.genotype);
  EXPECT_EQ(different.size(), 9u);
  EXPECT_TRUE(strategy->ask(100).empty()) << "waits for outcomes";

  std::vector<Outcome> outcomes;
  for (const Proposal& p : rung0) {
    outcomes.push_back({p.number, TrialStatus::Done, p.number == 4 || p.number == 7 ? 0.9 : 0.1});
  }
  outcomes[7].status = TrialStatus::Failed;
  strategy->tell(outcomes);
  const auto rung1 = strategy->ask(100);
  ASSERT_EQ(rung1.size(), 3u);
  EXPECT_EQ(rung1[0].genotype, rung0[4].genotype);
  EXPECT_EQ(rung1[1].genotype, rung0[0].genotype) << "equal scores in the order of their index";
  EXPECT_EQ(rung1[1].label, "baseline");
  EXPECT_EQ(rung1[2].genotype, rung0[1].genotype);
  auto spent = [](const std::vector<Proposal>& rung) {
    return std::accumulate(
        rung.begin(), rung.end(), 0.0, [](double s, const Proposal& p) { return s + p.share; });
  };
  EXPECT_NEAR(spent(rung0), 1.0 / 3, 1e-12);
  EXPECT_NEAR(spent(rung1), 1.0 / 3, 1e-12);
  for (const Proposal& p : rung1) strategy->tell({{p.number, TrialStatus::Nan, 0}});
  EXPECT_TRUE(strategy->finished()) << "nothing left to promote";
}

TEST(RandomSearch, SavedAndLoadedItGoesOnExactly) {
  ToySpace space;
  auto straight = make_strategy(toy_context(space, 7, 2));
  auto restored = make_strategy(toy_context(space, 7, 2));
  restored->load(restored->save());
  while (!straight->finished()) {
    const auto a = straight->ask(2), b = restored->ask(2);
    ASSERT_EQ(a, b);
    for (const Proposal& p : a) {
      const Outcome outcome{p.number, TrialStatus::Done, test::toy_quality(p.genotype)};
      straight->tell({outcome});
      auto next = make_strategy(toy_context(space, 2, 1));
      restored->tell({outcome});
      next->load(restored->save());
      EXPECT_EQ(next->save(), restored->save());
      restored = std::move(next);
    }
  }
  EXPECT_TRUE(restored->finished());
}

TEST(RandomSearch, ASpaceSmallerThanTheWishEndsTheDrawing) {
  ToySpace space;
  auto strategy = make_strategy(toy_context(space, 1000, 1));
  EXPECT_EQ(strategy->ask(2000).size(), 72u);  // 5 * 5 * 3 less the three invalid ones
}

TEST(RandomSearch, InadmissibleGenotypesAreNotTried) {
  ToySpace space;
  StrategyContext context = toy_context(space, 20, 1);
  context.admissible = [](const Genotype& g) { return g.values[0] <= 1; };
  for (const Proposal& p : make_strategy(context)->ask(100)) EXPECT_LE(p.genotype.values[0], 1);
}

TEST(RandomSearch, DamagedStateIsAnError) {
  ToySpace space;
  auto strategy = make_strategy(toy_context(space, 3, 1));
  Json state = Json::parse(strategy->save());
  state["ledger"]["rows"][0]["rung"] = 99;
  EXPECT_THAT(error_of([&] { strategy->load(state.dump()); }),
              HasSubstr("sizes: expected more than 99 rungs, found 1"));
  EXPECT_THAT(error_of([&] { strategy->load("{"); }), HasSubstr("strategy \"random\""));
}

// ---- budgets ----

TEST(Budget, HalvingSizes) {
  EXPECT_THAT(halving_sizes(9, 3, 1.0 / 3), ElementsAre(9, 3, 1));
  EXPECT_THAT(halving_sizes(6, 2, 1.0 / 3), ElementsAre(6, 2));
  EXPECT_THAT(halving_sizes(2, 3, 1.0 / 3), ElementsAre(2, 1, 1));
}

TEST(Budget, StepsGiveBothFinalTrainingsAllOfThemAndTheSearchItsShare) {
  const Recipe recipe = load_recipe("random", strategy_kinds());
  const StageBudget search = stage_budget(recipe, 0, {.steps = 700}, 0, {});
  EXPECT_EQ(search.steps, 600);
  EXPECT_EQ(search.trials, 6);
  EXPECT_EQ(search.rungs, 2);
  EXPECT_EQ(stage_budget(recipe, 1, {.steps = 700}, 0, {}).steps, 1400);
}

TEST(Budget, SecondsAreSharedAmongTheStagesThatAreLeft) {
  const Recipe recipe = load_recipe("random", strategy_kinds());
  const Budget budget{.seconds = 1200};
  const Probe probe{1.0, 5.0, 3.0};
  const StageBudget search = stage_budget(recipe, 0, budget, 82, probe);
  EXPECT_NEAR(search.seconds, (1200 - 18 - 82) * 0.3, 1e-9);
  EXPECT_EQ(search.rungs, 2);
  EXPECT_EQ(search.cost_limit, 1) << "385 steps of the baseline: nothing costlier";
  // Hardly any steps: networks that get 300 of them in the same time, or a quarter of the cost.
  EXPECT_NEAR(stage_budget(recipe, 0, budget, 82, {2.0, 5.0, 3.0}).cost_limit, 192.5 / 300, 1e-9);
  EXPECT_EQ(stage_budget(recipe, 0, budget, 82, {6.0, 5.0, 3.0}).cost_limit, 0.25);
  EXPECT_EQ(stage_budget(recipe, 0, budget, 82, {0.15, 5.0, 3.0}).cost_limit, 2);
  EXPECT_EQ(stage_budget(recipe, 0, budget, 82, {0.05, 5.0, 3.0}).cost_limit, 0);
  EXPECT_EQ(search.trials, 5);  // 165 s a rung, 29.2 s for the smallest training
  // The search took less than its share: the rest goes to the final trainings.
  const StageBudget last = stage_budget(recipe, 1, budget, 300, probe);
  EXPECT_NEAR(last.seconds, 1200 - 18 - 300, 1e-9);
  EXPECT_NEAR(last.ends_at, 1182, 1e-9);
}

TEST(Budget, TrialsAreCountedWithTheNetworkThatTheStageStartsFrom) {
  const Recipe recipe = load_recipe("c2fnas", strategy_kinds());
  const Budget budget{.seconds = 3600};
  const Probe baseline{2.4, 5.0, 3.0}, start{0.8, 5.0, 3.0};
  const auto trials = [&](std::size_t stage, const std::optional<Probe>& first) {
    return stage_budget(recipe, stage, budget, 60, baseline, 3, first).trials;
  };
  EXPECT_EQ(trials(0, std::nullopt),
            4);                    // 488 s, 58.3 s for 20 steps of the baseline, twice that each
  EXPECT_EQ(trials(0, start), 9);  // 25.0 s
  EXPECT_EQ(trials(1, std::nullopt), 4);  // 30 % of 811 s check the ranking
  EXPECT_EQ(trials(1, start), 8);
}

TEST(Budget, WorkersSpendTheTimeAtOnce) {
  const Recipe recipe = load_recipe("random", strategy_kinds());
  const Probe probe{0.5, 2, 0};
  const auto of = [&](std::size_t stage, std::int64_t workers) {
    return stage_budget(recipe, stage, {.seconds = 3600, .workers = workers}, 0, probe, 0, probe);
  };
  EXPECT_DOUBLE_EQ(of(0, 3).seconds, 2.7 * of(0, 1).seconds);
  EXPECT_EQ(of(0, 3).ends_at, of(0, 1).ends_at);
  EXPECT_GE(of(0, 3).trials, of(0, 1).trials);
  EXPECT_DOUBLE_EQ(of(1, 8).seconds, 2 * of(1, 1).seconds) << "two final trainings";
}

TEST(Budget, ATooSmallOneIsRefusedWithTheOneThatWouldDo) {
  const Recipe recipe = load_recipe("random", strategy_kinds());
  const Probe probe{2.0, 5.0, 3.0};
  const std::string message =
      error_of([&] { stage_budget(recipe, 0, {.seconds = 60}, 10, probe); });
  EXPECT_THAT(message, HasSubstr("too small for stage \"search\": 2 trials of at least 20 steps"));
  const double smallest = smallest_budget_seconds(recipe, 10, probe, probe);
  EXPECT_NO_THROW(stage_budget(recipe, 0, {.seconds = smallest + 0.1}, 10, probe));
  EXPECT_THROW(stage_budget(recipe, 0, {.seconds = smallest - 2}, 10, probe), Error);
}

TEST(Budget, StepsInLeaveAMarginAndTheTimeForScoring) {
  EXPECT_EQ(steps_in(100, {1.0, 3.0, 0}), 93);
  EXPECT_EQ(steps_in(0.1, {1.0, 3.0, 0}), 1);
}

// ---- recipes ----

TEST(Recipe, BuiltInOnesSurviveTheRoundTrip) {
  for (const std::string& name : recipe_names()) {
    Recipe recipe = load_recipe(name, strategy_kinds());
    EXPECT_EQ(recipe.name, name);
    EXPECT_EQ(recipe_from_json(to_json(recipe), "test", strategy_kinds()), recipe) << name;
    if (recipe.stages.size() == 1) {  // the plan alone
      EXPECT_THAT(error_of([&] { add_random_control(recipe); }), HasSubstr("no search"));
      EXPECT_THAT(error_of([&] { add_training_search(recipe); }), HasSubstr("no search"));
      continue;
    }
    const bool has_it = std::ranges::any_of(recipe.stages, [](const StageSpec& stage) {
      return std::ranges::count(stage.groups, "training") > 0;
    });
    add_random_control(recipe);
    if (has_it) {
      EXPECT_THAT(error_of([&] { add_training_search(recipe); }), HasSubstr("training")) << name;
    } else {
      add_training_search(recipe);
    }
    EXPECT_EQ(recipe_from_json(to_json(recipe), "test", strategy_kinds()), recipe) << name;
  }
}

TEST(Budget, FewStepsAreSpentOnFewTrialsOfTenSteps) {
  const Recipe random = load_recipe("random", strategy_kinds());
  const StageBudget search = stage_budget(random, 0, {.steps = 48}, 0, {});
  EXPECT_EQ(search.steps, 41);
  EXPECT_EQ(search.trials, 4);
  EXPECT_EQ(search.rungs, 1);
  EXPECT_EQ(stage_budget(random, 0, {.steps = 1}, 0, {}).trials, 2);

  const Recipe c2fnas = load_recipe("c2fnas", strategy_kinds());
  const StageBudget macro = stage_budget(c2fnas, 0, {.steps = 48}, 0, {});
  EXPECT_EQ(macro.steps, 24);
  EXPECT_EQ(macro.trials, 2);
  const StageBudget cells = stage_budget(c2fnas, 1, {.steps = 48}, 0, {});
  EXPECT_EQ(cells.trials, 2);      // own trainings that check the ranking
  EXPECT_EQ(cells.candidates, 5);  // 0.15 of 34 steps
  const StageBudget many = stage_budget(c2fnas, 1, {.steps = 1000}, 0, {});
  EXPECT_EQ(many.trials, 8);
  EXPECT_EQ(many.candidates, 107);
}

TEST(Forecast, NamesWhatEachStageBuys) {
  const Recipe recipe = load_recipe("c2fnas", strategy_kinds());
  const std::vector<StageForecast> stages = forecast_stages(recipe, {.steps = 100}, 0, {});
  ASSERT_EQ(stages.size(), 4u);
  EXPECT_EQ(to_text(stages[1]),
            "stage cells (single_path): super-network of about 39 steps, 10 candidates scored with "
            "inherited weights, 2 own trainings that check the ranking (too few to tell), each of "
            "about 10 steps");
  EXPECT_EQ(to_text(stages[3]),
            "stage final (retrain): best and baseline, each of about 100 steps");
  EXPECT_THAT(to_text(forecast_stages(recipe, {.steps = 10000}, 0, {})[1]),
              HasSubstr("8 own trainings that check the ranking (Kendall's tau +/- 0.57)"));
  const SearchProbes probes{{0.1, 2, 0.4}, {0.1, 10, 0}, 0.5};
  double seconds = 0;
  for (const StageForecast& stage : forecast_stages(recipe, {.seconds = 3600}, 30, probes)) {
    for (const TrialForecast& t : stage.trials) EXPECT_GT(t.count, 0) << stage.name;
    seconds += stage.seconds;
  }
  EXPECT_NEAR(seconds, 3600 - 30 - report_reserve_seconds({.seconds = 3600}), 1e-6);
}

TEST(Recipe, TheControlMaySpendAsMuchAsTheSearch) {
  Recipe recipe = load_recipe("c2fnas", strategy_kinds());
  double search = 0;
  for (const StageSpec& stage : recipe.stages) search += stage.kind->final ? 0 : stage.share;
  add_random_control(recipe);
  const StageSpec& control = recipe.stages[recipe.stages.size() - 2];
  EXPECT_TRUE(control.control);
  EXPECT_EQ(control.kind, &random_kind());
  EXPECT_NEAR(control.share, search, 1e-12);
  EXPECT_EQ(final_trainings(recipe), 3);
  EXPECT_THROW(add_random_control(recipe), Error);
}

TEST(Recipe, ErrorsNameTheKeyAndTheNearestKnownName) {
  const Json good = to_json(load_recipe("random", strategy_kinds()));
  auto message = [&](auto&& change) {
    Json bad = good;
    change(bad);
    return error_of([&] { recipe_from_json(bad, "my.json", strategy_kinds()); });
  };
  EXPECT_THAT(message([](Json& j) { j["stages"][0]["trails"] = 3; }),
              testing::AllOf(HasSubstr("stages[0]"), HasSubstr("trails"), HasSubstr("trials")));
  EXPECT_THAT(message([](Json& j) { j["stages"][0]["kind"] = "radnom"; }),
              testing::AllOf(HasSubstr("stages[0].kind"), HasSubstr("did you mean \"random\"")));
  EXPECT_THAT(message([](Json& j) { j["stages"][0]["share"] = -1; }), HasSubstr("stages[0].share"));
  EXPECT_THAT(message([](Json& j) { j["stages"][0]["groups"] = {"topologie"}; }),
              testing::AllOf(HasSubstr("stages[0].groups[0]"), HasSubstr("\"topology\"")));
  EXPECT_THAT(message([](Json& j) { j["stages"][0]["warmup"] = 0.2; }), HasSubstr("warmup"))
      << "a key of another kind of stage";
  EXPECT_THAT(message([](Json& j) {
                j["limits"] = {{"max_paramters", 3}};
              }),
              testing::AllOf(HasSubstr("limits"), HasSubstr("max_parameters")));
  EXPECT_THAT(message([](Json& j) {
                j["stages"][0] = {{"name", "s"},
                                  {"kind", "single_path"},
                                  {"share", 1},
                                  {"supernet_share", 0.8},
                                  {"rank_share", 0.2}};
              }),
              testing::AllOf(HasSubstr("stages[0]"), HasSubstr("supernet_share + rank_share")));
  EXPECT_THAT(message([](Json& j) { j["stages"][1]["name"] = "search"; }),
              HasSubstr("occurs twice"));
  EXPECT_THAT(message([](Json& j) { j["stages"].erase(1); }), HasSubstr("must be \"retrain\""));
  EXPECT_THAT(message([](Json& j) { j["stages"] = Json::array(); }),
              HasSubstr("expected search stages"));
  EXPECT_THAT(message([](Json& j) { j["version"] = 2; }), HasSubstr("version"));
  EXPECT_THAT(error_of([] { load_recipe("ramdom", strategy_kinds()); }),
              HasSubstr("did you mean \"random\""));
}

// ---- several seeds ----

TEST(Seeds, SummaryHoldsMeansDeviationsAndPairedTests) {
  TempFolder folder;
  std::vector<std::filesystem::path> runs;
  std::vector<double> differences;
  for (const std::uint64_t seed : {1, 2, 3}) {
    runs.push_back(folder / ("seed_" + std::to_string(seed)));
    std::filesystem::create_directories(runs.back());
    ToySearch search(runs.back());
    search.seed = seed;
    search.recipe.stages[0].set("trials", 9);
    ASSERT_EQ(search.run(), SearchEnd::Finished);
    const Json data = report_data(runs.back());
    if (data.at("comparisons").contains("best")) {
      differences.push_back(data.at("comparison").at("mean_difference").get<double>());
    }
  }
  ASSERT_GE(differences.size(), 2u);
  EXPECT_TRUE(finished_seeds(folder.path()).empty());
  write_file_atomic(runs[2] / "report.html", "");
  write_file_atomic(runs[0] / "report.html", "");
  EXPECT_THAT(finished_seeds(folder.path()), ElementsAre(runs[0], runs[2]));
  const Json summary = seeds_summary(runs);
  EXPECT_EQ(summary.at("runs").size(), 3u);
  const Json& best = summary.at("differences").at("best");
  EXPECT_EQ(best.at("seeds").size(), differences.size());
  EXPECT_NEAR(best.at("pooled").at("mean_difference").get<double>(), mean(differences), 1e-9)
      << "every seed has the same cases";
  EXPECT_NEAR(best.at("sd_over_seeds").get<double>(), standard_deviation(differences), 1e-12);
  EXPECT_THAT(seeds_sentence(summary), HasSubstr("mean difference"));
  EXPECT_THAT(seeds_html(summary), HasSubstr("seed_2/report.html"));
  EXPECT_THAT(seeds_markdown(summary), HasSubstr("| pooled |"));
  EXPECT_EQ(summary.at("runs")[0].at("sizes").at("baseline").at("steps"), 100);
  EXPECT_THAT(seeds_markdown(summary), HasSubstr("Equal steps"));
}

// ---- limits ----

TEST(Limits, NamesWhatIsBrokenAndReadsTheFormsOfUsers) {
  const TrialCost plan{"", 1000, 5000, 64, 0.1};
  EXPECT_EQ(broken_limit({}, plan, plan), "");
  EXPECT_EQ(broken_limit({.parameters_of_plan = 1}, plan, plan), "");
  EXPECT_THAT(broken_limit({.parameters_of_plan = 0.5}, plan, plan), HasSubstr("parameters"));
  EXPECT_THAT(broken_limit({.max_parameters = 999}, plan, plan), HasSubstr("parameters"));
  EXPECT_THAT(broken_limit({.max_macs = 4999}, plan, plan), HasSubstr("MACs"));
  EXPECT_THAT(broken_limit({.max_memory_bytes = 63}, plan, plan), HasSubstr("memory"));
  EXPECT_THAT(broken_limit({.max_step_seconds = 0.05}, plan, plan), HasSubstr("step time"));
  EXPECT_EQ(broken_limit({.max_step_seconds = 0.05}, {"", 1, 1, 1, 0}, plan), "") << "unknown";
  EXPECT_EQ(parse_count("4M", "x"), 4'000'000);
  EXPECT_EQ(parse_count("750k", "x"), 750'000);
  EXPECT_EQ(parse_bytes("2GB", "x"), 2'000'000'000);
  EXPECT_EQ(parse_bytes("1.5GiB", "x"), 3 << 29);
  EXPECT_DOUBLE_EQ(parse_step_time("50ms", "x"), 0.05);
  for (const char* wrong : {"", "M", "4 Q", "-3", "1e40", "nan", "0"}) {
    EXPECT_THAT(error_of([&] { parse_count(wrong, "--max-params"); }), HasSubstr("--max-params"))
        << wrong;
  }
}

// ---- the database ----

TEST(ResultsDb, KeepsRunAndStagesAndWritesAllOrNothing) {
  TempFolder folder;
  const RunRecord run = toy_run({.seconds = 90.5});
  ResultsDb db = ResultsDb::create(folder / "r.sqlite", run);
  EXPECT_EQ(db.run(), run);
  StageRecord stage{"search",
                    "running",
                    {.seconds = 3.5,
                     .steps = 0,
                     .trials = 4,
                     .rungs = 2,
                     .ends_at = 9,
                     .cost_limit = 2,
                     .candidates = 7},
                    1,
                    0};
  db.start_stage(stage);
  EXPECT_EQ(db.stage("search"), stage);
  EXPECT_EQ(db.stage("final"), std::nullopt);

  Trial trial;
  trial.genotype = {{3, 1, 2}};
  trial.genotype_text = "width=3 'quoted' \"too\"";
  trial.parameters = 5'660'000;
  trial.seed = ~std::uint64_t{0};
  trial.label = "baseline";
  EXPECT_THROW(db.add_trials("search", {trial, trial}, {.state = "s1"}), Error)
      << "proposal numbers are unique";
  EXPECT_TRUE(db.trials().empty()) << "one transaction";
  EXPECT_EQ(db.strategy("search"), StoredStrategy{});
}

TEST(ResultsDb, ATrialGoesFromQueuedToDone) {
  TempFolder folder;
  ResultsDb db = ResultsDb::create(folder / "r.sqlite", toy_run({.steps = 10}));
  db.start_stage({"search", "running", {}, 0, 0});
  Trial trial;
  trial.genotype = {{3, 1, 2}};
  trial.genotype_text = "width=3 'quoted' \"too\"";
  trial.seed = ~std::uint64_t{0};
  trial.proposal = 5;
  EXPECT_THAT(db.add_trials("search", {trial}, {.state = "asked"}), ElementsAre(1));
  EXPECT_EQ(db.strategy("search"), StoredStrategy{"asked"});

  auto claimed = db.claim("search", 2.5);
  ASSERT_TRUE(claimed);
  EXPECT_EQ(claimed->attempt, 1);
  EXPECT_EQ(claimed->genotype, trial.genotype);
  EXPECT_EQ(claimed->genotype_text, trial.genotype_text);
  EXPECT_EQ(claimed->seed, trial.seed);
  EXPECT_EQ(claimed->checkpoint, "trials/1");
  EXPECT_FALSE(db.claim("search", 2.5)) << "claimed once";
  db.fix_plan(*claimed, {40, "{}"}, 12.5);
  EXPECT_THROW(db.fix_plan(*claimed, {50, "{}"}, 12.5), Error) << "fixed once";

  EXPECT_EQ(db.requeue_lost(3, true).size(), 1u);
  claimed = db.claim("search", 7);
  EXPECT_EQ(claimed->attempt, 2);
  EXPECT_EQ(claimed->steps, 40);
  EXPECT_EQ(claimed->started, 2.5);
  Evaluation e{TrialStatus::Done,
               0.75,
               "own training",
               40,
               3.5,
               {{"loss", 0.25}},
               "{\"cases\": []}",
               {{1, 2}},
               ""};
  EXPECT_TRUE(db.finish(*claimed, e, 9));
  EXPECT_FALSE(db.finish(*claimed, e, 9)) << "finished once";
  EXPECT_EQ(db.trials()[0].evaluation, e);
  EXPECT_TRUE(db.requeue_lost(9, true).empty());
  EXPECT_EQ(db.untold_trials("search").size(), 1u);
  db.mark_told("search", {1}, {.step = "told"});
  db.mark_told("search", {}, {.step = "closed"});
  EXPECT_TRUE(db.untold_trials("search").empty());
  EXPECT_EQ(db.strategy("search"), (StoredStrategy{"asked", {"told", "closed"}}));
  db.mark_told("search", {}, {.state = "all"});
  EXPECT_EQ(db.strategy("search"), StoredStrategy{"all"});
  db.add_event(9, 1, "best improved", "yes");
  EXPECT_EQ(db.events().at(0).text, "yes");
  EXPECT_EQ(db.measured(), "") << "a database of before has no such table";
  db.set_measured("[1]");
  db.set_measured("[1, 2]");
  EXPECT_EQ(db.measured(), "[1, 2]");
  db.set_data_folder("/elsewhere");
  EXPECT_EQ(db.run().data_folder, "/elsewhere");
  db.set_clock(9);
  db.set_clock(4);
  EXPECT_EQ(db.clock(), 9) << "the clock never goes back";
}

TEST(ResultsDb, RefusesWhatIsNotAnIntactDatabaseOfThisVersion) {
  TempFolder folder;
  const auto file = folder / "r.sqlite";
  EXPECT_THAT(error_of([&] { ResultsDb::open(file); }), HasSubstr("no such file"));
  write_file_atomic(file, "hello, this is not a database");
  EXPECT_THAT(error_of([&] { ResultsDb::open(file); }), HasSubstr("expected a results database"));
  std::filesystem::remove(file);
  { ResultsDb::create(file, toy_run({.steps = 10})); }
  EXPECT_THAT(error_of([&] { ResultsDb::create(file, toy_run({.steps = 10})); }),
              HasSubstr("--resume"));
  auto change = [&](const char* sql) {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(file.c_str(), &db), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(db, sql, nullptr, nullptr, nullptr), SQLITE_OK);
    sqlite3_close(db);
  };
  change("PRAGMA user_version = 99");
  EXPECT_THAT(error_of([&] { ResultsDb::open(file); }),
              HasSubstr("expected schema version 2 to 5, found 99"));
  change("PRAGMA user_version = 5; ALTER TABLE trials RENAME COLUMN score TO points");
  EXPECT_THAT(error_of([&] { ResultsDb::open(file); }), HasSubstr("score"));
  change("PRAGMA application_id = 5");
  EXPECT_THAT(error_of([&] { ResultsDb::open(file); }), HasSubstr("another program"));
}

// As the program before the last schema made them.
constexpr const char* kVersion3 = R"sql(
CREATE TABLE run (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  command TEXT NOT NULL, data_folder TEXT NOT NULL, fold INTEGER NOT NULL,
  recipe TEXT NOT NULL, plan TEXT NOT NULL, space TEXT NOT NULL, setup TEXT NOT NULL,
  budget_seconds REAL NOT NULL, budget_steps INTEGER NOT NULL, budget_effort REAL NOT NULL DEFAULT 0,
  seed INTEGER NOT NULL,
  code_version TEXT NOT NULL, created_unix INTEGER NOT NULL, clock REAL NOT NULL DEFAULT 0);
CREATE TABLE stages (
  position INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, status TEXT NOT NULL,
  seconds REAL NOT NULL, steps INTEGER NOT NULL, trials INTEGER NOT NULL, rungs INTEGER NOT NULL,
  ends_at REAL NOT NULL, cost_limit REAL NOT NULL,
  candidates INTEGER NOT NULL, strategy TEXT NOT NULL, started REAL NOT NULL,
  ended REAL NOT NULL DEFAULT 0, winner TEXT NOT NULL DEFAULT 'null', story TEXT NOT NULL DEFAULT '{}',
  effort REAL NOT NULL DEFAULT 0, horizon REAL NOT NULL DEFAULT 0);
CREATE TABLE trials (
  id INTEGER PRIMARY KEY, stage TEXT NOT NULL, purpose TEXT NOT NULL, label TEXT NOT NULL,
  proposal INTEGER NOT NULL, rung INTEGER NOT NULL, share REAL NOT NULL,
  genotype TEXT NOT NULL, genotype_values TEXT NOT NULL, genotype_id TEXT NOT NULL, graph_id TEXT NOT NULL,
  parameters INTEGER NOT NULL, macs INTEGER NOT NULL, memory_bytes INTEGER NOT NULL,
  request TEXT NOT NULL, source INTEGER NOT NULL,
  steps INTEGER NOT NULL, seconds_limit REAL NOT NULL, settings TEXT NOT NULL, seed INTEGER NOT NULL,
  attempt INTEGER NOT NULL DEFAULT 0, status TEXT NOT NULL, told INTEGER NOT NULL DEFAULT 0,
  score REAL, how TEXT NOT NULL DEFAULT '', steps_done INTEGER NOT NULL DEFAULT 0,
  seconds REAL NOT NULL DEFAULT 0, metrics TEXT NOT NULL DEFAULT '{}', details TEXT NOT NULL DEFAULT '',
  decoded TEXT NOT NULL DEFAULT '[]', message TEXT NOT NULL DEFAULT '', checkpoint TEXT NOT NULL DEFAULT '',
  created REAL NOT NULL, started REAL NOT NULL DEFAULT 0, ended REAL NOT NULL DEFAULT 0,
  UNIQUE (stage, proposal));
CREATE INDEX trials_queue ON trials (stage, status, id);
CREATE TABLE events (
  id INTEGER PRIMARY KEY, at REAL NOT NULL, trial INTEGER NOT NULL, kind TEXT NOT NULL, text TEXT NOT NULL);
)sql";
constexpr const char* kRows = R"sql(
INSERT INTO run (id, command, data_folder, fold, recipe, plan, space, setup, budget_seconds, budget_steps, seed,
  code_version, created_unix, clock) VALUES (1, 'voxnas', '/data', 2, '{}', '{}', '{}', '{}', 0, 10, 7, '1', 5, 3.5);
INSERT INTO stages (position, name, status, seconds, steps, trials, rungs, ends_at, cost_limit, candidates, strategy,
  started) VALUES (1, 'search', 'running', 0, 10, 4, 1, 0, 0, 0, 'state', 0);
INSERT INTO trials (id, stage, purpose, label, proposal, rung, share, genotype, genotype_values, genotype_id, graph_id,
  parameters, macs, memory_bytes, request, source, steps, seconds_limit, settings, seed, status, told, score, checkpoint,
  created) VALUES
  (1, 'search', 'search', 'baseline', 0, 0, 0.25, 'a=1', '[1]', 'x', 'y', 1, 2, 3, '', 0, 5, 0, '{}', 7, 'done', 1, 0.5,
   'trials/1', 0),
  (2, 'search', 'search', '', 1, 0, 0.25, 'a=2', '[2]', 'x', 'y', 1, 2, 3, '', 0, 5, 0, '{}', 7, 'done', 0, 0.75,
   'trials/2', 0),
  (3, 'search', 'search', '', 2, 0, 0.25, 'a=3', '[3]', 'x', 'y', 1, 2, 3, '', 0, 5, 0, '{}', 7, 'running', 0, NULL,
   'trials/3', 0);
INSERT INTO events (at, trial, kind, text) VALUES (1, 1, 'best improved', 'a=1');
PRAGMA application_id = 1984840019;
)sql";

TEST(ResultsDb, ReadsAndTakesOverTheVersionsBefore) {
  TempFolder folder;
  for (const int version : {2, 3}) {
    const auto file = folder / concat_text("version", version, ".sqlite");
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(file.c_str(), &db), SQLITE_OK);
    std::string sql = concat_text(kVersion3, kRows, "PRAGMA user_version = ", version, ";");
    if (version == 2) {
      sql +=
          "ALTER TABLE run DROP COLUMN budget_effort; ALTER TABLE stages DROP COLUMN effort; "
          "ALTER TABLE stages DROP COLUMN horizon;";
    } else {
      sql +=
          "CREATE TABLE measured (id INTEGER PRIMARY KEY, json TEXT NOT NULL); "
          "INSERT INTO measured VALUES (1, '[1]'); UPDATE stages SET effort = 12;";
    }
    ASSERT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
        << sqlite3_errmsg(db);
    sqlite3_close(db);
    const auto check = [&](const ResultsDb& old) {
      EXPECT_EQ(old.run().budget, (Budget{.steps = 10})) << version;
      EXPECT_EQ(old.run().fold, 2);
      EXPECT_EQ(old.clock(), 3.5);
      EXPECT_EQ(old.stage("search")->budget.steps, 10);
      EXPECT_EQ(old.stage("search")->budget.effort, version == 2 ? 0 : 12);
      EXPECT_EQ(old.strategy("search"), StoredStrategy{"state"});
      ASSERT_EQ(old.trials().size(), 3u);
      EXPECT_EQ(old.untold_trials("search").at(0).id, 2);
      EXPECT_EQ(old.best_trial("search")->id, 2);
      EXPECT_EQ(old.events().at(0).kind, "best improved");
      EXPECT_TRUE(old.workers().empty());
      EXPECT_TRUE(old.reports().empty());
    };
    const std::string before = read_file(file, 1 << 24);
    check(ResultsDb::open_read_only(file));
    EXPECT_EQ(ResultsDb::runs(file).at(0).done, 2);
    EXPECT_EQ(read_file(file, 1 << 24), before) << "looking changes nothing";
    check(ResultsDb::open(file));
    ResultsDb taken = ResultsDb::open(file);
    check(taken);
    EXPECT_EQ(taken.measured(), version == 2 ? "" : "[1]");
    EXPECT_EQ(taken.requeue_lost(4, true).size(), 1u) << "what ran when it was left";
    EXPECT_EQ(taken.claim("search", 4)->id, 3);
    EXPECT_EQ(taken.add_trials("search",
                               {[] {
                                 Trial trial;
                                 trial.proposal = 9;
                                 return trial;
                               }()},
                               {.state = "next"}),
              std::vector<std::int64_t>{4});
  }
}

TEST(ResultsDb, SurvivesTruncationAndBitFlipsWithAnError) {
  TempFolder folder;
  ToySearch search(folder.path());
  search.run();
  const std::string intact = read_file(folder / "results.sqlite", 1 << 24);
  Rng rng("damage");
  int refused = 0;
  for (int i = 0; i < 60; ++i) {
    std::string damaged = intact;
    if (i % 2 == 0) {
      damaged.resize(
          static_cast<std::size_t>(rng.integer(0, static_cast<std::int64_t>(intact.size()))));
    } else {
      for (int k = 0; k < 20; ++k) {
        auto& byte = damaged[static_cast<std::size_t>(
            rng.integer(0, static_cast<std::int64_t>(intact.size())))];
        byte = static_cast<char>(byte ^ (1 << rng.integer(0, 8)));
      }
    }
    const auto file = folder / concat_text("damaged", i, ".sqlite");
    write_file_atomic(file, damaged);
    try {
      ResultsDb db = ResultsDb::open(file);
      results_table(db.trials());
      db.events();
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("damaged"));
      ++refused;
    }
  }
  EXPECT_GE(refused, 30) << "every truncated file is refused";
}

TEST(ResultsDb, TwoProcessesNeverClaimTheSameTrial) {
  TempFolder folder;
  constexpr int kTrials = 200;
  {
    ResultsDb db = ResultsDb::create(folder / "r.sqlite", toy_run({.steps = 10}));
    db.start_stage({"search", "running", {}, 0, 0});
    std::vector<Trial> trials(kTrials);
    for (int i = 0; i < kTrials; ++i) {
      trials[static_cast<std::size_t>(i)].proposal = i;
      trials[static_cast<std::size_t>(i)].genotype = {{0, 0, 0}};
    }
    db.add_trials("search", trials, {});
  }
  std::vector<pid_t> children;
  for (int worker = 0; worker < 2; ++worker) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      int code = 1;
      try {
        ResultsDb db = ResultsDb::open(folder / "r.sqlite");
        std::ofstream claims(folder / concat_text("claims", worker));
        while (auto trial = db.claim("search", 0)) {
          claims << trial->id << '\n';
          Evaluation e;
          e.status = TrialStatus::Done;
          db.finish(*trial, e, 1);
        }
        claims.flush();
        code = 0;
      } catch (...) {
      }
      _exit(code);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  std::multiset<int> claimed;
  for (int worker = 0; worker < 2; ++worker) {
    std::ifstream in(folder / concat_text("claims", worker));
    for (int id = 0; in >> id;) claimed.insert(id);
  }
  EXPECT_EQ(claimed.size(), static_cast<std::size_t>(kTrials));
  EXPECT_EQ(std::set<int>(claimed.begin(), claimed.end()).size(),
            static_cast<std::size_t>(kTrials));
}

// ---- report ----

TEST(Report, ShowsVerdictTrialsAndComparisonEscapedAndSelfContained) {
  TempFolder folder;
  ToySearch search(folder.path());
  search.run();
  const Json data = report_data(folder.path());
  const Json& comparison = data.at("comparison");
  EXPECT_EQ(comparison.at("cases").size(), 12u);
  EXPECT_EQ(comparison.at("wilcoxon_pairs"), 11) << "nothing to find in the twelfth case";
  EXPECT_EQ(comparison.at("pairs"), 11);
  EXPECT_TRUE(comparison.at("cases").at(11).at("difference").is_null()) << "it is left out";
  EXPECT_NEAR(
      comparison.at("mean_difference").get<double>(),
      comparison.at("best_mean").get<double>() - comparison.at("baseline_mean").get<double>(),
      1e-15);
  EXPECT_EQ(comparison.at("verdict"), "better");
  EXPECT_EQ(data.at("delivered"), "best");
  const std::string html = html_report(folder.path());
  EXPECT_THAT(html, HasSubstr("On the 12 held-out cases the searched network"));
  EXPECT_THAT(html, HasSubstr("is better than the planned baseline"));
  EXPECT_THAT(html, HasSubstr("Toy &amp; &lt;Co&gt;"));
  EXPECT_THAT(html, HasSubstr("a&lt;b&gt;"));
  EXPECT_THAT(html, HasSubstr("patch 32 × 40 × 48, batch 3"));
  EXPECT_THAT(html, HasSubstr("voxnas search DATA --steps 100 -o RUN"));
  EXPECT_THAT(html, HasSubstr("<svg"));
  for (const char* outside : {"<script", "http://", "https://", "<link", "a<b>"}) {
    EXPECT_THAT(html, testing::Not(HasSubstr(outside)));
  }
  const std::string markdown = markdown_report(folder.path());
  EXPECT_THAT(markdown, HasSubstr("| case_3 |"));
  EXPECT_THAT(markdown, HasSubstr("Wilcoxon"));
}

TEST(Report, OfAnUnfinishedSearchSaysSo) {
  TempFolder folder;
  ToySearch search(folder.path());
  search.evaluator.stop_after = 5;
  search.run();
  EXPECT_THAT(html_report(folder.path()), HasSubstr("The search is not finished"));
}

TEST(Report, WhereTheBaselineWinsTheSearchItSaysSo) {
  TempFolder folder;
  ToySearch search(folder.path());
  search.recipe.stages[0].set("trials", 1);
  search.run();
  EXPECT_THAT(markdown_report(folder.path()),
              HasSubstr("found nothing better than the planned network"));
}

TEST(PriorRuns, ASearchTellsTheNextOneWhatItSawAtEqualCompute) {
  TempFolder folder, old;
  ToySearch search(folder.path());
  search.features = {1, 2};
  search.recipe.stages[0].set("trials", 9);
  search.recipe.stages[0].set("rungs", 3);
  search.run();
  ToySearch before(old.path());
  before.run();
  const auto runs =
      read_prior_runs(folder.path().string() + "," + (old.path() / "results.sqlite").string());
  ASSERT_EQ(runs.size(), 2u);
  EXPECT_EQ(runs[0].features, search.features);
  EXPECT_TRUE(runs[1].features.empty()) << "an older version's";
  EXPECT_EQ(runs[0].results.size(), 8u) << "nine networks, one of them the plan";
  // On rung 0, the last that the plan reached; its own 0.6689.
  const auto best =
      std::ranges::find(runs[0].results, "width=4 depth=3 kind=b", &PriorResult::genotype_text);
  ASSERT_NE(best, runs[0].results.end());
  EXPECT_NEAR(best->difference, 0.7558 - 0.6689, 1e-4);

  const auto informed = informed_portfolio(search.space, search.space.portfolio(), runs, {1, 2});
  ASSERT_GE(informed.size(), 2u);
  EXPECT_EQ(informed[1].genotype, search.space.from_text("width=4 depth=3 kind=b"));
  EXPECT_GT(informed[1].shift, 0.04);
  const std::string words = joined(prior_words(search.space, informed, runs, {1, 2}), "\n");
  EXPECT_THAT(words, HasSubstr("8 networks against its plan, counts 1.00"));
  EXPECT_THAT(words, HasSubstr("older version"));
  EXPECT_THAT(words, HasSubstr("best of "));
  const auto again = portfolio_from_json(
      Json::parse(to_json(informed, search.space).dump()), search.space, "record");
  ASSERT_EQ(again.size(), informed.size());
  for (std::size_t i = 0; i < again.size(); ++i) {
    EXPECT_EQ(again[i].name, informed[i].name);
    EXPECT_EQ(again[i].genotype, informed[i].genotype);
    EXPECT_EQ(again[i].shift, informed[i].shift);
  }
  EXPECT_THAT(test::error_of([&] { read_prior_runs((folder / "nothing").string()); }),
              HasSubstr("nothing: expected the folder of a search"));
}

// ---- statistics ----

TEST(Statistics, MomentsAndQuantiles) {
  const std::vector<double> values{2, 4, 4, 4, 5, 5, 7, 9};
  EXPECT_DOUBLE_EQ(mean(values), 5);
  EXPECT_NEAR(standard_deviation(values), 2.138089935299395, 1e-12);  // n - 1
  EXPECT_DOUBLE_EQ(median(values), 4.5);
  EXPECT_DOUBLE_EQ(quantile(values, 0.25), 4);
  EXPECT_DOUBLE_EQ(quantile(values, 0.9), 7.6);
  EXPECT_TRUE(std::isnan(mean({})));
}

// Expected values: scipy.stats.wilcoxon (1.17.1), zero_method="wilcox".
TEST(Statistics, WilcoxonEqualsScipy) {
  const std::vector<double> darwin{6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75};
  const WilcoxonResult exact = wilcoxon_signed_rank(darwin);
  EXPECT_TRUE(exact.exact);
  EXPECT_EQ(exact.w_minus, 24);
  EXPECT_NEAR(exact.p_value, 0.041259765625, 1e-12);
  const std::vector<double> six{-3, 1.5, 2.5, -0.5, 4, 6};
  EXPECT_NEAR(wilcoxon_signed_rank(six).p_value, 0.3125, 1e-12);
  std::vector<double> many;  // 60 pairs with ties: the normal approximation
  for (int i = 0; i < 60; ++i) many.push_back((i * 37) % 101 - 45);
  const WilcoxonResult approximate = wilcoxon_signed_rank(many);
  EXPECT_FALSE(approximate.exact);
  EXPECT_EQ(std::min(approximate.w_plus, approximate.w_minus), 763.5);
  EXPECT_NEAR(approximate.p_value, 0.2647081919479235, 1e-12);
  EXPECT_EQ(wilcoxon_signed_rank(std::vector<double>{0, 0}).p_value, 1);
}

TEST(Statistics, WilcoxonWithTiesIsTheExactPermutationDistribution) {
  const std::vector<double> differences{1, 1, -2, 3, 3, 3, -1, 0, 5};
  // Naive reference: all 2^8 sign patterns of the mid-ranks.
  const std::vector<double> ranks{2, 2, 4, 6, 6, 6, 2, 8};
  const double observed = std::min(2.0 + 2 + 6 + 6 + 6 + 8, 4.0 + 2);
  int extreme = 0;
  for (int signs = 0; signs < 256; ++signs) {
    double plus = 0;
    for (int i = 0; i < 8; ++i)
      plus += (signs >> i & 1) != 0 ? ranks[static_cast<std::size_t>(i)] : 0;
    if (std::min(plus, 36 - plus) <= observed) ++extreme;
  }
  const WilcoxonResult result = wilcoxon_signed_rank(differences);
  EXPECT_EQ(result.pairs, 8);
  EXPECT_EQ(result.w_minus, 6);
  EXPECT_NEAR(result.p_value, extreme / 256.0, 1e-12);
}

TEST(Statistics, BootstrapIntervalOfNormalDataIsTheTextbookOneAndRepeats) {
  Rng rng("bootstrap-test");
  std::vector<double> differences;
  for (int i = 0; i < 400; ++i) differences.push_back(0.5 + 2 * rng.normal());
  const auto mean_of = [&](std::span<const std::size_t> items) {
    double sum = 0;
    for (const std::size_t i : items) sum += differences[i];
    return sum / static_cast<double>(items.size());
  };
  const Interval interval = bootstrap(400, mean_of, Rng(1));
  const double error = standard_deviation(differences) / std::sqrt(400.0);
  EXPECT_NEAR(interval.low, mean(differences) - 1.96 * error, 0.15 * error);
  EXPECT_NEAR(interval.high, mean(differences) + 1.96 * error, 0.15 * error);
  EXPECT_EQ(bootstrap(400, mean_of, Rng(1)).low, interval.low);
}

TEST(Statistics, AVerdictNeedsAnIntervalThatExcludesZeroAndFiveCases) {
  const std::vector<double> a{.9, .91, .92, .93, .9, .91}, b{.8, .82, .81, .83, .79, .8};
  const auto compare = [](std::span<const double> x, std::span<const double> y) {
    std::vector<double> d;
    for (std::size_t i = 0; i < x.size(); ++i) d.push_back(x[i] - y[i]);
    const auto figure = [&](std::span<const std::size_t> items) {
      double sum = 0;
      for (const std::size_t i : items) sum += d[i];
      return sum / static_cast<double>(items.size());
    };
    return compare_paired(static_cast<std::int64_t>(d.size()), figure, d, 1);
  };
  EXPECT_EQ(compare(a, b).verdict, "better");
  EXPECT_EQ(compare(b, a).verdict, "worse");
  EXPECT_EQ(compare(a, a).verdict, "not distinguishable");
  EXPECT_EQ(compare(std::span(a).first(4), std::span(b).first(4)).verdict, "not distinguishable");
  EXPECT_FALSE(std::isfinite(compare(std::span(a).first(1), std::span(b).first(1)).interval.low))
      << "one case has no spread";
  // Draws without a figure are left out; without pairs there is no verdict.
  const auto none = [](std::span<const std::size_t>) { return std::nan(""); };
  EXPECT_FALSE(std::isfinite(compare_paired(6, none, {}, 1).interval.low));
  EXPECT_EQ(compare_paired(6, none, {}, 1).verdict, "not distinguishable");
}

TEST(Delivered, IsChosenByTheInnerValidationAlone) {
  const auto final_trial = [](const std::string& label, double held_out, double inner) {
    Trial trial;
    trial.purpose = TrialPurpose::Retrain;
    trial.label = label;
    trial.status = TrialStatus::Done;
    trial.evaluation.score = held_out;
    trial.evaluation.metrics["inner_dice"] = inner;
    return trial;
  };
  EXPECT_EQ(delivered_label({}), "");
  EXPECT_EQ(delivered_label({final_trial("best", 0.9, 0.8), final_trial("baseline", 0.7, 0.81)}),
            "baseline");
  EXPECT_EQ(delivered_label({final_trial("best", 0.7, 0.82), final_trial("baseline", 0.9, 0.81)}),
            "best");
  EXPECT_EQ(delivered_label({final_trial("baseline", 0.9, 0.8), final_trial("best", 0.7, 0.8)}),
            "best");
  Trial failed = final_trial("best", 0.9, 0.9);
  failed.status = TrialStatus::Nan;
  EXPECT_EQ(delivered_label({failed, final_trial("baseline", 0.7, 0.6)}), "baseline");
}

}  // namespace
}  // namespace nas
