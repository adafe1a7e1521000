// SPDX-License-Identifier: Apache-2.0
// Genotypes that somebody else than the strategy wants tried, and notes about trials.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "nas/core/files.h"
#include "nas/jobs/strategies/strategies.h"
#include "nas/results/results_db.h"
#include "nas/results/sqlite.h"
#include "nas/search/recipe.h"
#include "nas/search/run_search.h"
#include "nas/search/warm_start.h"
#include "tests/support/support.h"
#include "tests/support/toy_run.h"

namespace nas {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::TempFolder;
using test::ToyRun;
using test::ToySpace;
using testing::HasSubstr;

constexpr Budget kSteps{.steps = 100};
const Genotype kWanted{{3, 1, 2}};  // the optimum

struct Case {
  const char* kind;
  bool async;
};

Recipe recipe_of(const Case& c, std::int64_t trials) {
  Recipe recipe = load_recipe("random", strategy_kinds());
  StageSpec stage = make_stage(*find_kind(strategy_kinds(), c.kind), "search", 0.5);
  stage.set("trials", trials);
  if (std::string(c.kind) == "random") stage.set("rungs", 1);
  stage.async = c.async;
  recipe.stages[0] = std::move(stage);
  return recipe;
}

/// Enqueues when a trial ends, and remembers in which order trials begin.
class Wishing : public SearchListener {
 public:
  std::int64_t after = 4;
  std::vector<std::int64_t> begun;
  std::string name() const override { return "wishing"; }
  void trial_started(const Trial& trial) override { begun.push_back(trial.id); }
  void trial_ended(const Trial& trial) override {
    if (trial.id == after) enqueue(kWanted);
    annotate(trial.id, "seen", concat_text("as number ", begun.size()));
  }
};

class AdoptingKind : public testing::TestWithParam<Case> {};

TEST_P(AdoptingKind, TriesNextWhatAListenerEnqueuesAndCountsItOnTop) {
  TempFolder folder;
  Wishing wishing;
  ToyRun search{
      .folder = folder.path(), .recipe = recipe_of(GetParam(), 10), .listeners = {&wishing}};
  ASSERT_EQ(search.run(), SearchEnd::Finished);
  const ResultsDb db = search.open();
  const std::vector<Trial> trials = db.trials("search");
  EXPECT_EQ(trials.size(), 11u) << "the strategy's own ten and one more";
  std::vector<Trial> wanted;
  for (const Trial& trial : trials) {
    EXPECT_GT(trial.told_order, 0) << "every outcome is told";
    if (!trial.asked_by.empty()) wanted.push_back(trial);
  }
  ASSERT_EQ(wanted.size(), 1u);
  EXPECT_EQ(wanted[0].genotype, kWanted);
  EXPECT_EQ(wanted[0].asked_by, "listener wishing");
  EXPECT_EQ(wanted[0].status, TrialStatus::Done);
  EXPECT_EQ(wanted[0].steps, trials[0].steps) << "the same share as the others";
  const auto after = std::ranges::find(wishing.begun, wishing.after);
  ASSERT_NE(after + 1, wishing.begun.end());
  EXPECT_EQ(*(after + 1), wanted[0].id) << "it is the next that begins";
  EXPECT_EQ(db.stage("search")->winner.genotype, kWanted) << "the optimum takes part";
  const auto records = db.enqueued(false);
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].state, "taken");
  EXPECT_EQ(records[0].trial, wanted[0].id);
  EXPECT_EQ(db.annotations(1).at(0),
            (AnnotationRecord{.trial = 1, .key = "seen", .value = "as number 1", .by = "wishing"}));
}

TEST_P(AdoptingKind, GoesOnExactlyWhereverItWasStopped) {
  TempFolder one;
  const std::vector<std::string> before = {"width=3 depth=1 kind=c", "width=1 depth=3 kind=b"};
  ToyRun straight{.folder = one.path(), .recipe = recipe_of(GetParam(), 6), .before = before};
  ASSERT_EQ(straight.run(), SearchEnd::Finished);
  const std::string expected = results_table(straight.open().trials());
  for (const std::int64_t steps : {20, 60}) {
    TempFolder folder;
    ToyRun stopped{.folder = folder.path(), .recipe = recipe_of(GetParam(), 6), .before = before};
    stopped.evaluator.stop_after = steps;
    SearchEnd end = stopped.run();
    stopped.evaluator.stop_after = -1;
    if (end == SearchEnd::Stopped) end = stopped.run();
    ASSERT_EQ(end, SearchEnd::Finished);
    EXPECT_EQ(results_table(stopped.open().trials()), expected) << "stopped after " << steps;
  }
}

INSTANTIATE_TEST_SUITE_P(Enqueue,
                         AdoptingKind,
                         testing::Values(Case{"random", false},
                                         Case{"random", true},
                                         Case{"regularized", false},
                                         Case{"gp", true},
                                         Case{"gp", false},
                                         Case{"tpe", true},
                                         Case{"nsga2", true}),
                         [](const auto& info) {
                           return std::string(info.param.kind) +
                                  (info.param.async ? "_async" : "_batch");
                         });

TEST(Enqueue, UnderABudgetOfEffortItCostsWhatItsShareBuysAndTheFinalTrainingsLoseNothing) {
  /// Networks of depth 3 cost three times a step of the plan.
  struct Costly : test::FakeEvaluator {
    TrialCost describe(const Genotype& g) override {
      TrialCost cost = FakeEvaluator::describe(g);
      cost.relative_cost = g.values[1] == 3 ? 3 : 1;
      return cost;
    }
  };
  std::vector<std::vector<Trial>> runs;
  for (const bool enqueued : {false, true}) {
    TempFolder folder;
    Costly evaluator;
    ToyRun search{.folder = folder.path(),
                  .recipe = recipe_of({"tpe", true}, 6),
                  .before = {},
                  .budget = {.effort = 600},
                  .instead = &evaluator};
    if (enqueued) search.before = {"width=1 depth=3 kind=b"};
    ASSERT_EQ(search.run(), SearchEnd::Finished);
    runs.push_back(search.open().trials());
  }
  EXPECT_EQ(runs[1].size(), runs[0].size() + 1);
  const auto own = std::ranges::find(runs[1], "", &Trial::asked_by);
  const auto other = std::ranges::find(runs[1], kAskedByUser, &Trial::asked_by);
  ASSERT_NE(other, runs[1].end());
  EXPECT_EQ(other->status, TrialStatus::Done);
  EXPECT_EQ(other->steps, own->steps / 3) << "the same share of effort, in dearer steps";
  const auto of_the_plan = [](const std::vector<Trial>& trials) {
    const auto found = std::ranges::find_if(trials, [](const Trial& t) {
      return t.label == "baseline" && t.purpose == TrialPurpose::Retrain;
    });
    return found == trials.end() ? 0.0 : static_cast<double>(found->steps);
  };
  EXPECT_GT(of_the_plan(runs[0]), 0);
  // What tpe learned from it leads to other networks, whose steps are rounded otherwise.
  EXPECT_NEAR(of_the_plan(runs[1]), of_the_plan(runs[0]), 2);
}

TEST(Enqueue, UnderABudgetOfStepsEveryTrialKeepsItsSteps) {
  std::vector<std::vector<Trial>> runs;
  for (const bool enqueued : {false, true}) {
    TempFolder folder;
    ToyRun search{.folder = folder.path(), .recipe = recipe_of({"random", false}, 6)};
    if (enqueued) search.before = {"width=1 depth=3 kind=b"};
    ASSERT_EQ(search.run(), SearchEnd::Finished);
    runs.push_back(search.open().trials());
  }
  std::vector<std::int64_t> steps;
  for (const Trial& trial : runs[1]) {
    if (trial.asked_by.empty()) steps.push_back(trial.steps);
  }
  std::vector<std::int64_t> expected;
  for (const Trial& trial : runs[0]) expected.push_back(trial.steps);
  EXPECT_EQ(steps, expected);
}

TEST(Enqueue, AProgramThatDecidesIsToldOfIt) {
  TempFolder folder;
  std::ofstream(folder / "mine.py") << R"py(
import json, sys
number = 0
for line in sys.stdin:
    q = json.loads(line)
    a = {"ok": {}}
    if q["do"] == "tell": print(json.dumps(q), file=open(sys.argv[1], "a"))
    if q["do"] == "hello": a = {"ok": {"name": "mine"}}
    if q["do"] == "ask":
        a = {"proposals": [{"values": {"width": "1", "depth": str(number), "kind": "a"}}]}
        number += 1
    if q["do"] == "save": a = {"state": number}
    print(json.dumps(a), flush=True)
)py";
  ToyRun search{.folder = folder.path(),
                .recipe = recipe_of({"random", false}, 3),
                .before = {"width=3 depth=1 kind=c"}};
  StageSpec own = make_stage(*find_kind(strategy_kinds(), "external"), "search", 0.5);
  own.set("command", {"python3", (folder / "mine.py").string(), (folder / "told").string()});
  own.set("trials", 3);
  search.recipe.stages[0] = own;
  ASSERT_EQ(search.run(), SearchEnd::Finished);
  EXPECT_EQ(search.open().trials("search").size(), 4u) << "on top of its own";
  const EnqueuedRecord taken = search.open().enqueued(false).at(0);
  ASSERT_EQ(taken.state, "taken") << taken.message;
  EXPECT_THAT(read_file(folder / "told", 1 << 20),
              HasSubstr(R"("values": {"depth": "1", "kind": "c", "width": "3"})"));
}

TEST(Enqueue, WhatCannotBeTriedIsRefusedWithItsReason) {
  TempFolder folder;
  ToyRun search{.folder = folder.path(),
                .recipe = recipe_of({"random", false}, 5),
                .before = {"width=4 depth=4 kind=a", "widht=1", "width=0 depth=0 kind=a"}};
  ASSERT_EQ(search.run(), SearchEnd::Finished);
  ResultsDb db = search.open();
  const auto refused = db.enqueued(false);
  ASSERT_EQ(refused.size(), 3u);
  for (const EnqueuedRecord& one : refused) EXPECT_EQ(one.state, "refused") << one.genotype;
  EXPECT_THAT(refused[0].message, HasSubstr("cannot both be largest"));
  EXPECT_THAT(refused[1].message, HasSubstr("did you mean 'width'"));
  EXPECT_THAT(refused[2].message, HasSubstr("has it already"));
  EXPECT_EQ(db.trials("search").size(), 5u);
  std::int64_t told = 0;
  for (const EventRecord& event : db.events()) told += event.kind == "enqueue refused";
  EXPECT_EQ(told, 3);
}

TEST(Enqueue, WaitsForAStageThatTakesItAndIsRefusedWhereNoneIsLeft) {
  TempFolder folder;
  ToyRun search{.folder = folder.path(),
                .recipe = recipe_of({"random", false}, 4),
                .before = {"width=1 depth=3 kind=b"}};
  StageSpec all = make_stage(*find_kind(strategy_kinds(), "enum"), "first", 0.5);
  search.recipe.stages.insert(search.recipe.stages.begin(), all);
  ASSERT_EQ(search.run(), SearchEnd::Finished);
  const auto taken = search.open().enqueued(false).at(0);
  ASSERT_EQ(taken.state, "taken") << taken.message;
  EXPECT_EQ(search.open().trial(taken.trial)->stage, "search");

  TempFolder other;
  ToyRun none{.folder = other.path(),
              .recipe = recipe_of({"random", false}, 4),
              .before = {"width=3 depth=1 kind=c"}};
  none.recipe.stages[0] = make_stage(*find_kind(strategy_kinds(), "enum"), "search", 0.5);
  ASSERT_EQ(none.run(), SearchEnd::Finished);
  EXPECT_EQ(none.open().enqueued(false).at(0).state, "refused");
  EXPECT_THAT(none.open().enqueued(false).at(0).message, HasSubstr("no stage is left"));
}

TEST(Enqueue, AListenerThatEnqueuesOrNotesNonsenseIsToldSoAndTheSearchGoesOn) {
  class Wrong : public SearchListener {
   public:
    std::vector<std::string> said;
    std::string name() const override { return "wrong"; }
    void trial_ended(const Trial&) override {
      said.push_back(error_of([&] { enqueue({{4, 4, 0}}); }));
      said.push_back(error_of([&] { annotate(99, "a", "b"); }));
      said.push_back(error_of([&] { annotate(1, "", "b"); }));
      enqueue({{4, 4, 0}});  // thrown through run_search
    }
  };
  TempFolder folder;
  Wrong wrong;
  ToyRun search{
      .folder = folder.path(), .recipe = recipe_of({"random", false}, 3), .listeners = {&wrong}};
  ASSERT_EQ(search.run(), SearchEnd::Finished);
  EXPECT_THAT(wrong.said.at(0), HasSubstr("cannot both be largest"));
  EXPECT_THAT(wrong.said.at(1), HasSubstr("about trial 99"));
  EXPECT_THAT(wrong.said.at(2), HasSubstr("a note with a key"));
  EXPECT_TRUE(search.open().enqueued(false).empty());
}

TEST(Enqueue, ADatabaseOfTheVersionBeforeIsShownAndTakenOver) {
  TempFolder folder;
  ToyRun search{.folder = folder.path(), .recipe = recipe_of({"random", false}, 3)};
  ASSERT_EQ(search.run(), SearchEnd::Finished);
  const std::string table = results_table(search.open().trials());
  const fs::path file = folder / "results.sqlite";
  {
    auto c = sqlite::Connection::open_to_write(file, false);
    c.execute(
        "DROP TABLE enqueued; DROP TABLE annotations; DROP INDEX trials_enqueued; DROP TABLE "
        "strategy_steps; DROP INDEX trials_told; "
        "ALTER TABLE trials DROP COLUMN asked_by; ALTER TABLE trials DROP COLUMN folder_state; "
        "PRAGMA user_version = 4");
  }
  {
    const ResultsDb shown = ResultsDb::open_read_only(file);
    EXPECT_EQ(results_table(shown.trials()), table);
    EXPECT_TRUE(shown.enqueued(false).empty());
    EXPECT_TRUE(shown.annotations().empty());
  }
  ResultsDb db = ResultsDb::open(file);
  EXPECT_EQ(results_table(db.trials()), table);
  db.enqueue({"width=1"}, kAskedByUser);
  db.annotate({1, "a", "b", "me"});
  db.annotate({1, "a", "c", "me"});
  EXPECT_EQ(ResultsDb::open_read_only(file).enqueued(true).size(), 1u);
  EXPECT_EQ(ResultsDb::open_read_only(file).annotations(1).at(0).value, "c");
}

/// A run that has ended, in a space whose description is what is given.
ResultsDb earlier_run(const fs::path& folder, const std::string& space_json) {
  RunRecord record = test::small_record(kSteps, 7);
  record.space_json = space_json;
  const fs::path file = folder / "results.sqlite";
  { const ResultsDb made = ResultsDb::create(file, record); }
  ToyRun search{.folder = folder, .recipe = recipe_of({"random", false}, 12)};
  EXPECT_EQ(search.run(), SearchEnd::Finished);
  return search.open();
}

/// Its best genotypes as a sorted list says, without the planned one.
std::vector<std::string> best_of(const ResultsDb& db, std::size_t most) {
  std::vector<Trial> trials = db.trials("search");
  std::erase_if(trials, [](const Trial& t) {
    return t.status != TrialStatus::Done || t.genotype == Genotype{{0, 0, 0}};
  });
  std::ranges::stable_sort(trials, [](const Trial& a, const Trial& b) {
    return a.evaluation.score > b.evaluation.score;
  });
  std::vector<std::string> texts;
  for (const Trial& t : trials) {
    if (texts.size() < most) texts.push_back(t.genotype_text);
  }
  return texts;
}

TEST(WarmStart, BeginsWithTheBestAndTeachesTheStrategyWhereTheSpacesAgree) {
  TempFolder old, fresh;
  const ResultsDb earlier = earlier_run(old.path(), R"({"name": "toy"})");
  const ToySpace space;
  const WarmStart start = warm_start(earlier, "RUN2", space, 3);
  EXPECT_EQ(start.genotypes, best_of(earlier, 3));
  EXPECT_TRUE(start.differences.empty());
  EXPECT_EQ(start.left_out, 0);
  EXPECT_GE(start.observations.size(), 8u);

  ToyRun search{.folder = fresh.path(), .recipe = recipe_of({"tpe", true}, 6)};
  add_observations(start, space, search.recipe);
  EXPECT_EQ(search.recipe.stages[0].options.at("earlier").at(0).at("trials").size(),
            start.observations.size());
  ResultsDb::create(fresh / "results.sqlite", test::small_record(kSteps, 7));
  const Json record = to_json(start);
  ResultsDb db = search.open();
  enqueue_warm_start(db, record);
  enqueue_warm_start(db, record);  // a run that goes on
  EXPECT_EQ(db.enqueued(true).size(), 3u);
  ASSERT_EQ(search.run(), SearchEnd::Finished);
  std::vector<std::string> tried;
  for (const Trial& trial : db.trials("search")) {
    if (trial.asked_by == "run RUN2") tried.push_back(trial.genotype_text);
  }
  EXPECT_EQ(tried, start.genotypes);
  // The record alone tells what a stage learned from: the earlier run may be gone.
  const Recipe read = recipe_from_json(to_json(search.recipe), "recipe", strategy_kinds());
  EXPECT_EQ(read, search.recipe);
}

TEST(WarmStart, OfAnotherSpaceOnlyGenotypesThatMapExactlyAreTriedAndNoScoreIsUsed) {
  TempFolder old;
  const ResultsDb earlier = earlier_run(old.path(), R"({"name": "toy", "size": 3})");
  class Smaller : public ToySpace {
   public:
    const std::vector<Gene>& genes() const override { return genes_; }
    std::vector<Gene> genes_ = {{"width", "scale", {"0", "1", "2", "3"}},
                                {"depth", "topology", {"0", "1", "2", "3"}},
                                {"kind", "operations", {"a", "b", "c"}}};
  };
  const Smaller smaller;
  const WarmStart start = warm_start(earlier, "RUN2", smaller, 5);
  EXPECT_TRUE(start.observations.empty());
  ASSERT_EQ(start.differences.size(), 1u);
  EXPECT_EQ(start.differences[0], "size: 3 there, nothing here");
  const std::vector<std::string> all = best_of(earlier, 100);
  std::int64_t left_out = 0;
  std::vector<std::string> expected;
  for (const std::string& text : all) {
    if (expected.size() == 5) break;
    if (text.find("=4") == std::string::npos) {
      expected.push_back(text);
    } else {
      ++left_out;
    }
  }
  EXPECT_EQ(start.genotypes, expected);
  EXPECT_EQ(start.left_out, left_out);
  EXPECT_GT(left_out, 0) << "the test sees something";

  class Other : public ToySpace {
   public:
    const std::vector<Gene>& genes() const override { return genes_; }
    std::vector<Gene> genes_ = {
        {"breadth", "scale", {"0", "1"}}, {"b", "scale", {"0"}}, {"c", "scale", {"0"}}};
  };
  ErrorKind kind{};
  EXPECT_THAT(error_of([&] { warm_start(earlier, "RUN2", Other(), 3); }, &kind),
              AllOf(HasSubstr("--from RUN2"), HasSubstr("size: 3 there")));
  EXPECT_EQ(kind, ErrorKind::Usage);
  Recipe none = recipe_of({"random", false}, 4);
  none.stages[0] = make_stage(*find_kind(strategy_kinds(), "enum"), "search", 0.5);
  EXPECT_THAT(error_of([&] { add_observations(start, smaller, none); }),
              HasSubstr("takes genotypes of others; it has search (enum)"));
}

}  // namespace
}  // namespace nas
