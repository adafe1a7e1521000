// SPDX-License-Identifier: Apache-2.0
// A kind of stage of its own, with its own options, budget rule and forecast, runs through recipe,
// budget, forecast, loop and report: no file of nas/search knows it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "nas/jobs/strategies/strategies.h"
#include "nas/report/report.h"
#include "nas/results/results_db.h"
#include "nas/search/forecast.h"
#include "nas/search/ledger_strategy.h"
#include "nas/search/log_listener.h"
#include "nas/search/run_search.h"
#include "tests/support/support.h"
#include "tests/support/toy_search.h"

namespace nas {
namespace {

using test::error_of;
using test::FakeEvaluator;
using test::TempFolder;
using test::ToySpace;
using testing::AllOf;
using testing::HasSubstr;

/// Walks from the start along one gene, `stride` values at a time.
class Walk : public LedgerStrategy {
 public:
  explicit Walk(const StrategyContext& context) : LedgerStrategy(context, "walk") {
    planned_ = context.budget.trials;
    Genotype at = context.start;
    for (std::int64_t i = 0; i < planned_; ++i) {
      Proposal p;
      p.genotype = at;
      p.share = 1.0 / static_cast<double>(planned_);
      ledger_.add(std::move(p));
      const std::int64_t size = context.space->genes()[0].count();
      at.values[0] = static_cast<int>((at.values[0] + context.stage.count("stride")) % size);
    }
  }
  bool finished() const override { return ledger_.complete(); }
  std::string story() const override { return R"({"walked": true})"; }
  std::string save() const override { return Json{{"ledger", ledger_.save()}}.dump(); }
  void load(const std::string& state) override {
    const Json value = parse_json(state, "state of strategy \"walk\"");
    ledger_.load(JsonReader(value, "state of strategy \"walk\"").at("ledger"));
  }

 private:
  void go_on() override {}
};

/// Its own rule: a trial for every `pace` steps or seconds.
StageBudget walk_budget(const BudgetQuestion& question) {
  StageBudget result = question.means;
  const double all = question.has_clock ? result.seconds : static_cast<double>(result.steps);
  result.trials = static_cast<std::int64_t>(all / question.stage.number("pace"));
  if (question.has_clock && result.trials < 1) question.refuse(1);
  return result;
}

const StrategyKind& walk_kind() {
  static const StrategyKind kind{
      .name = "walk",
      .words = "a walk along one gene",
      .options = {count_option("stride", 1, 1, 4),
                  number_option("pace", 20, {.low = 1, .high = 1e6})},
      .check =
          [](const StageSpec& stage, const std::string& where) {
            NAS_CHECK_KIND(Usage,
                           stage.count("stride") < 4 || stage.number("pace") > 10,
                           where,
                           ": stride 4 needs a pace above 10");
          },
      .budget = walk_budget,
      .least_trainings = [](const StageSpec&, std::int64_t) { return 1.0; },
      .forecast =
          [](const StageSpec&, const StageBudget& budget, const StepsOfShare& steps) {
            return std::vector<TrialForecast>{{"points of the walk",
                                               budget.trials,
                                               steps(1.0 / static_cast<double>(budget.trials))}};
          },
      .make = [](const StrategyContext& context) -> std::unique_ptr<Strategy> {
        return std::make_unique<Walk>(context);
      }};
  return kind;
}

StrategyKinds kinds_with_walk() {
  StrategyKinds kinds = strategy_kinds();
  kinds.insert(kinds.begin(), &walk_kind());
  return kinds;
}

Json walk_recipe() {
  return Json::parse(R"({"format": "voxnas.recipe", "version": 1, "name": "walk", "space": "unet",
    "stages": [{"name": "along", "kind": "walk", "share": 0.5, "stride": 2, "control": false},
               {"name": "final", "kind": "retrain", "share": 1}]})");
}

TEST(StrategyKind, OfItsOwnIsReadCheckedForecastAndRun) {
  const StrategyKinds kinds = kinds_with_walk();
  const Recipe recipe = recipe_from_json(walk_recipe(), "walk.json", kinds);
  EXPECT_EQ(recipe.stages[0].kind, &walk_kind());
  EXPECT_EQ(recipe.stages[0].count("stride"), 2);
  EXPECT_EQ(recipe.stages[0].number("pace"), 20) << "the standard value";
  EXPECT_EQ(recipe_from_json(to_json(recipe), "again", kinds), recipe);

  // 100 steps for each of two final trainings; the stage has half as much.
  const Budget budget{.steps = 100};
  EXPECT_EQ(stage_budget(recipe, 0, budget, 0, {}).trials, 5);
  EXPECT_EQ(to_text(forecast_stages(recipe, budget, 0, {})[0]),
            "stage along (walk): 5 points of the walk, each of about 20 steps");

  TempFolder folder;
  ToySpace space;
  FakeEvaluator evaluator;
  test::Transcript transcript;
  RunRecord record;
  record.recipe_json = to_json(recipe).dump();
  record.plan_json = record.space_json = record.setup_json = "{}";
  record.budget = budget;
  ResultsDb db = ResultsDb::create(folder / "results.sqlite", record);
  SearchSetup setup;
  setup.database = &db;
  setup.space = &space;
  setup.evaluator = &evaluator;
  setup.recipe = recipe;
  setup.budget = budget;
  setup.clock = [] { return 0.0; };
  setup.folder = folder.path();
  setup.listeners = {&transcript};
  EXPECT_EQ(run_search(setup), SearchEnd::Finished);
  EXPECT_THAT(transcript.text, HasSubstr("stage along: 5 trials, 1 rungs, 100 steps\n"));
  const std::vector<Trial> trials = db.trials("along");
  ASSERT_EQ(trials.size(), 5U);
  EXPECT_EQ(trials[1].genotype.values[0], 2);
  EXPECT_EQ(trials[1].steps, 20);
  const Winner winner = db.stage("along")->winner;
  EXPECT_TRUE(winner.found);
  EXPECT_EQ(db.trials("final")[0].genotype, winner.genotype);

  const std::string report = html_report(folder.path(), {.pictures = false, .kinds = kinds});
  EXPECT_THAT(report, HasSubstr("a walk along one gene"));
  EXPECT_THAT(html_report(folder.path(), {.pictures = false}),
              testing::Not(HasSubstr("a walk along one gene")))
      << "a run of a kind that this program does not know is still reported";
}

TEST(StrategyKind, ItsOptionsAndItsBudgetRefuseInTheUsualWords) {
  const StrategyKinds kinds = kinds_with_walk();
  const auto message = [&](auto&& change) {
    Json bad = walk_recipe();
    change(bad["stages"][0]);
    return error_of([&] { recipe_from_json(bad, "walk.json", kinds); });
  };
  EXPECT_THAT(message([](Json& stage) { stage["strid"] = 2; }),
              AllOf(HasSubstr("stages[0]"), HasSubstr("strid"), HasSubstr("stride")));
  EXPECT_THAT(message([](Json& stage) { stage["stride"] = 9; }), HasSubstr("stages[0].stride"));
  EXPECT_THAT(message([](Json& stage) { stage["pace"] = 0; }),
              HasSubstr("expected a number in [1, 1e+06]"));
  EXPECT_THAT(message([](Json& stage) { stage["trials"] = 3; }), HasSubstr("trials"))
      << "a key of other kinds";
  EXPECT_THAT(message([](Json& stage) {
                stage["stride"] = 4;
                stage["pace"] = 5;
              }),
              HasSubstr("walk.json: stages[0]: stride 4 needs a pace above 10"));
  EXPECT_THAT(error_of([&] { recipe_from_json(walk_recipe(), "walk.json", strategy_kinds()); }),
              HasSubstr("expected random, regularized, clustered"));

  const Recipe recipe = recipe_from_json(walk_recipe(), "walk.json", kinds);
  const Budget budget{.seconds = 60};
  const Probe probe{1, 1, 0};
  EXPECT_THAT(error_of([&] { stage_budget(recipe, 0, budget, 40, probe); }),
              HasSubstr("too small for stage \"along\": 1 trials of at least 20 steps"));
  const auto stages = forecast_stages(recipe, budget, 40, {probe, probe});
  EXPECT_THAT(stages[0].refused, HasSubstr("too small for stage \"along\""));
  EXPECT_THAT(error_of([&] { check_all_bought(stages); }), HasSubstr("stage \"along\""));
}

TEST(StrategyKind, ASpaceWithoutWhatTheStagesAskForIsRefusedBeforeTheSearch) {
  const ToySpace space;
  const Recipe vnas = load_recipe("vnas", strategy_kinds());
  ErrorKind kind{};
  EXPECT_THAT(error_of([&] { check_space(vnas, space); }, &kind),
              AllOf(HasSubstr("stage \"alpha\""), HasSubstr("space \"toy\" has none")));
  EXPECT_EQ(kind, ErrorKind::Usage);
  Recipe random = load_recipe("random", strategy_kinds());
  EXPECT_NO_THROW(check_space(random, space));
  random.stages[0].groups = {"training"};
  EXPECT_THAT(error_of([&] { check_space(random, space); }), HasSubstr("\"training\""));
}

TEST(StrategyKind, EveryRowOfTheTableIsWhole) {
  for (const StrategyKind* kind : strategy_kinds()) {
    EXPECT_NE(kind->words, "") << kind->name;
    EXPECT_TRUE(kind->budget && kind->least_trainings && kind->forecast && kind->make)
        << kind->name;
    StageSpec stage = make_stage(*kind, "stage", 1);
    for (const StageOption& option : kind->options) {
      EXPECT_NO_THROW(stage.set(option.name, option.standard)) << kind->name << ' ' << option.name;
    }
    if (!kind->final) {
      EXPECT_NO_THROW(stage.set(kind->trials_option, 3)) << kind->name;
    }
    ErrorKind error{};
    error_of([&] { stage.set("no such option", 1); }, &error);
    EXPECT_EQ(error, ErrorKind::Internal);
  }
  EXPECT_TRUE(strategy_kinds().back()->final);
}

}  // namespace
}  // namespace nas
