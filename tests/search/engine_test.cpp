// SPDX-License-Identifier: Apache-2.0
// One search, any number of processes: leader, workers, kills, leases, wishes, several runs in a
// database.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "nas/core/files.h"
#include "nas/jobs/strategies/strategies.h"
#include "nas/results/process.h"
#include "nas/results/run_database.h"
#include "nas/results/sqlite.h"
#include "nas/search/recipe.h"
#include "nas/search/run_search.h"
#include "nas/search/stage_controller.h"
#include "nas/search/worker.h"
#include "nas/search/worker_list.h"
#include "tests/support/support.h"
#include "tests/support/toy_run.h"

namespace nas {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::FakeEvaluator;
using test::TempFolder;
using test::ToyRun;
using test::ToySpace;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr Budget kSteps{.steps = 100};

Recipe toy_recipe(std::int64_t trials, bool async) {
  Recipe recipe = load_recipe("random", strategy_kinds());
  recipe.stages[0].set("trials", trials);
  recipe.stages[0].set("rungs", 1);
  recipe.stages[0].async = async;
  return recipe;
}

/// A worker process: what `voxnas worker` does, with an evaluator that trains nothing.
int work(const fs::path& folder,
         const Recipe& recipe,
         const std::string& name,
         FakeEvaluator&& evaluator) {
  while (!fs::exists(folder / "results.sqlite")) ::usleep(1000);
  ResultsDb db = ResultsDb::open(folder / "results.sqlite");
  db.add_worker({.name = name, .host = host_name(), .process = this_process(), .devices = "cpu"});
  evaluator.log = folder / "log";
  WorkerSetup setup;
  setup.store = &db;
  setup.evaluator = &evaluator;
  setup.budget = kSteps;
  setup.clock = [] { return 0.0; };
  setup.folder = folder;
  setup.name = name;
  Worker worker(setup);
  while (db.state() != "done") {
    bool worked = false;
    for (const StageRecord& stage : db.stages()) {
      if (stage.status != "running") continue;
      const auto spec = std::ranges::find(recipe.stages, stage.name, &StageSpec::name);
      worked = worker.work(*spec, stage) == Worker::Did::Trials || worked;
    }
    if (!worked) ::usleep(500);
  }
  return 0;
}

int work(const fs::path& folder, const Recipe& recipe, const std::string& name, int sleep_us) {
  FakeEvaluator evaluator;
  evaluator.sleep_us = sleep_us;
  return work(folder, recipe, name, std::move(evaluator));
}

template <class Body>
pid_t in_child(Body&& body) {
  const pid_t child = fork();
  if (child != 0) return child;
  int code = 1;
  try {
    code = body();
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
  }
  _exit(code);
}

int end_of(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::vector<Trial> trials_of(const fs::path& folder) {
  return ResultsDb::open(folder / "results.sqlite").trials();
}

TEST(Engine, BatchesGiveTheSameTableForAnyNumberOfWorkers) {
  TempFolder one;
  ToyRun alone{.folder = one.path(), .recipe = toy_recipe(12, false)};
  ASSERT_EQ(alone.run(), SearchEnd::Finished);
  const std::string expected = results_table(trials_of(one.path()));
  for (const int count : {1, 3}) {
    TempFolder folder;
    const Recipe recipe = toy_recipe(12, false);
    std::vector<pid_t> children;
    for (int i = 0; i < count; ++i) {
      children.push_back(in_child(
          [&] { return work(folder.path(), recipe, "W" + std::to_string(i + 1), 100 + 300 * i); }));
    }
    test::Transcript heard;
    ToyRun leading{.folder = folder.path(), .recipe = recipe};
    leading.workers = [count] { return std::int64_t{count}; };
    leading.listeners = {&heard};
    EXPECT_EQ(leading.run(), SearchEnd::Finished);
    for (const pid_t child : children) EXPECT_EQ(end_of(child), 0);
    const std::vector<Trial> trials = trials_of(folder.path());
    EXPECT_EQ(results_table(trials), expected) << count << " workers";
    std::set<std::string> owners;
    for (const Trial& trial : trials) owners.insert(trial.owner);
    EXPECT_EQ(owners.size(), static_cast<std::size_t>(count)) << "all of them worked";
    for (const Trial& trial : trials) {
      EXPECT_THAT(heard.text, HasSubstr(concat_text("  ", trial.id, " rung ")))
          << "told by the leader";
    }
  }
}

TEST(Engine, OneWorkerGivesTheSameTrialsInBothOrders) {
  TempFolder a, b;
  ToyRun batch{.folder = a.path(), .recipe = toy_recipe(10, false)};
  ToyRun async{.folder = b.path(), .recipe = toy_recipe(10, true)};
  batch.run();
  async.run();
  EXPECT_EQ(results_table(trials_of(a.path())), results_table(trials_of(b.path())));
}

/// A stage of `kind` over three workers, in this process and without training. \param reborn with a
/// new controller for every turn, as if each had been killed. \returns its table, the order of
/// telling, and how many steps of the strategy were kept at most.
struct Led {
  std::string table;
  std::vector<std::int64_t> order;
  std::size_t most_steps = 0, states = 0;
  bool operator==(const Led&) const = default;
};
constexpr std::int64_t kLedTrials = 150;

Led lead(const fs::path& file, const std::string& kind, bool reborn) {
  test::MixedSpace space;
  ResultsDb db = ResultsDb::create(file, test::small_record(kSteps, 7));
  Recipe recipe = toy_recipe(1, true);
  recipe.stages[0] = make_stage(*find_kind(strategy_kinds(), kind), "search", 0.5);
  recipe.stages[0].set("trials", kLedTrials);
  recipe.stages[0].async = true;
  ControllerSetup setup;
  setup.store = &db;
  setup.space = &space;
  setup.recipe = &recipe;
  setup.budget = kSteps;
  setup.seed = 7;
  setup.clock = [] { return 0.0; };
  setup.folder = file.parent_path();
  setup.describe = setup.describe_timed = [](const Genotype&) { return TrialCost{"graph"}; };
  StageRecord record{"search", "running", {.steps = 10, .trials = kLedTrials, .rungs = 1}, 0, 0};
  db.start_stage(record);
  Led led;
  auto controller = std::make_unique<StageController>(setup, 0, record);
  std::vector<Trial> running;
  std::string state;
  for (std::int64_t turn = 0; !controller->finished(); ++turn) {
    controller->turn(3);
    while (const auto claimed = db.claim("search", 0)) running.push_back(*claimed);
    if (!running.empty()) {  // the younger one of two ends first every other time
      const auto ends = running.begin() + (turn % 2 == 1 && running.size() > 1 ? 1 : 0);
      Evaluation e;
      e.status = ends->id % 11 == 0 ? TrialStatus::Failed : TrialStatus::Done;
      e.score = test::mixed_quality(space, ends->genotype);
      e.steps = 10;
      db.finish(*ends, e, 0);
      running.erase(ends);
    }
    const StoredStrategy stored = db.strategy("search");
    led.most_steps = std::max(led.most_steps, stored.steps.size());
    led.states += stored.state == state ? 0 : 1;
    state = stored.state;
    if (reborn && !controller->finished()) {
      controller = std::make_unique<StageController>(setup, 0, record);
    }
  }
  led.table = results_table(db.trials());
  for (const Trial& trial : db.trials()) led.order.push_back(trial.told_order);
  return led;
}

TEST(Journal, StepsSinceAStateAreAsGoodAsTheState) {
  for (const char* kind : {"random", "regularized", "tpe"}) {
    TempFolder folder;
    const Led straight = lead(folder / "straight.sqlite", kind, false);
    EXPECT_EQ(straight.order.size(), static_cast<std::size_t>(kLedTrials)) << kind;
    EXPECT_EQ(lead(folder / "reborn.sqlite", kind, true), straight) << kind;
    EXPECT_GE(straight.most_steps, 32u) << kind;
    EXPECT_LT(straight.states, 20u) << kind << ": of " << 2 * kLedTrials << " changes";
  }
}

TEST(Journal, AnotherProposalThanTheStoredOneIsRefused) {
  TempFolder folder;
  ResultsDb db = ResultsDb::create(folder / "r.sqlite", test::small_record(kSteps, 7));
  const Recipe recipe = toy_recipe(5, true);
  ToySpace space;
  ControllerSetup setup;
  setup.store = &db;
  setup.space = &space;
  setup.recipe = &recipe;
  setup.budget = kSteps;
  setup.seed = 7;
  setup.clock = [] { return 0.0; };
  setup.describe = setup.describe_timed = [](const Genotype&) { return TrialCost{"graph"}; };
  const StageRecord record{"search", "running", {.steps = 10, .trials = 5, .rungs = 1}, 0, 0};
  db.start_stage(record);
  StageController(setup, 0, record).turn(3);
  StageController(setup, 0, record);
  setup.seed = 8;
  EXPECT_THAT(error_of([&] { StageController(setup, 0, record); }),
              testing::AllOf(HasSubstr("stage \"search\": its controller does not propose again"),
                             HasSubstr("the VoxNAS version that began the run")));
}

/// Every trial has ended once, and was told once, in an order without gaps.
void expect_whole(const std::vector<Trial>& trials, const std::string& stage) {
  std::set<std::int64_t> orders, proposals;
  std::int64_t count = 0;
  for (const Trial& trial : trials) {
    if (trial.stage != stage) continue;
    ++count;
    // The kills may have met one trial three times.
    const bool lost = trial.status == TrialStatus::Failed &&
                      trial.evaluation.message.find("lost 3 times") != std::string::npos;
    EXPECT_TRUE(lost || trial.status == TrialStatus::Done) << trial.id;
    if (!lost) {
      EXPECT_EQ(trial.evaluation.steps, trial.steps) << trial.id;
    }
    EXPECT_TRUE(orders.insert(trial.told_order).second) << trial.told_order << " twice";
    EXPECT_TRUE(proposals.insert(trial.proposal).second);
  }
  ASSERT_FALSE(orders.empty());
  EXPECT_EQ(*orders.rbegin() - *orders.begin() + 1, count) << "no gap";
}

TEST(Engine, KillsOfLeaderAndWorkersLoseNothingAndDoNothingTwice) {
  TempFolder folder;
  const Recipe recipe = toy_recipe(24, true);
  const auto lead = [&] {
    ToyRun leading{.folder = folder.path(), .recipe = recipe};
    leading.workers = [] { return std::int64_t{2}; };
    return leading.run() == SearchEnd::Finished ? 0 : 1;
  };
  int pace = 30000;  // microseconds a step: slow until all kills are done
  const auto worker = [&](int i) {
    return in_child([&, i] { return work(folder.path(), recipe, "W" + std::to_string(i), pace); });
  };
  Rng rng("kills");
  pid_t leader = in_child(lead);
  std::vector<pid_t> workers{worker(1), worker(2)};
  const auto final_begun = [&] {
    return fs::exists(folder / "results.sqlite") &&
           ResultsDb::open_read_only(folder / "results.sqlite").stages().size() > 1;
  };
  int kills = 0, late = 0;  // late: of the final trainings, which must not be lost three times
  while (kills < 30 && late < 2) {
    ::usleep(static_cast<useconds_t>(rng.integer(2000, 25000)));
    if (final_begun()) ++late;
    int status = 0;
    if (waitpid(leader, &status, WNOHANG) == leader) {
      leader = -1;
      break;  // it ended before all kills
    }
    const std::int64_t whom = rng.integer(0, 4);  // the leader, one worker, the other, all
    if (whom == 0 || whom == 3) {
      kill(leader, SIGKILL);
      waitpid(leader, &status, 0);
      leader = in_child(lead);
    }
    for (std::size_t i = 0; i < 2; ++i) {
      if (whom != static_cast<std::int64_t>(i) + 1 && whom != 3) continue;
      kill(workers[i], SIGKILL);
      waitpid(workers[i], &status, 0);
      workers[i] = worker(static_cast<int>(i) + 1);
    }
    ++kills;
  }
  EXPECT_GE(kills, 25) << "it was interrupted";
  pace = 2000;
  for (std::size_t i = 0; i < 2; ++i, ++kills) {
    int status = 0;
    kill(workers[i], SIGKILL);
    waitpid(workers[i], &status, 0);
    workers[i] = worker(static_cast<int>(i) + 1);
  }
  if (leader > 0) {
    EXPECT_EQ(end_of(leader), 0);
  }
  for (const pid_t child : workers) EXPECT_EQ(end_of(child), 0);
  const std::vector<Trial> trials = trials_of(folder.path());
  EXPECT_EQ(std::ranges::count(trials, "search", &Trial::stage), 24);
  expect_whole(trials, "search");
  expect_whole(trials, "final");
  // A step that was written down is not done again by who takes over, but for the one that the kill
  // met between doing and writing.
  std::ifstream log(folder / "log");
  std::map<std::string, int> times;
  for (std::string line; std::getline(log, line);) ++times[line];
  std::int64_t repeated = 0;
  for (const auto& [line, count] : times) repeated += count - 1;
  EXPECT_LE(repeated, 2 * kills);
}

/// A run with one queued trial.
ResultsDb one_queued(const fs::path& file) {
  ResultsDb db = ResultsDb::create(file, test::small_record(kSteps, 7));
  StageRecord stage;
  stage.name = "search";
  stage.status = "running";
  db.start_stage(stage);
  Trial trial;
  trial.genotype = {{0, 0, 0}};
  db.add_trials("search", {trial}, {});
  return db;
}

TEST(Engine, AWorkerThatDiesLosesItsTrialAndWhatItSaysAfterwards) {
  TempFolder folder;
  ResultsDb db = one_queued(folder / "r.sqlite");
  Evaluation done;
  done.status = TrialStatus::Done;
  for (int loss = 1; loss <= TrialStore::kMostLosses; ++loss) {
    const pid_t child = in_child([&] {
      ResultsDb mine = ResultsDb::open(folder / "r.sqlite");
      mine.add_worker(
          {.name = "W1", .host = host_name(), .process = this_process(), .devices = "cpu"});
      return mine.claim("search", 0, nullptr, "W1") ? 0 : 1;
    });
    ASSERT_EQ(end_of(child), 0);
    EXPECT_FALSE(db.workers().at(0).alive);
    const Trial lost = *db.trial(1);
    EXPECT_EQ(lost.token, loss);
    const std::vector<std::string> told = db.requeue_lost(5, false);
    ASSERT_EQ(told.size(), 1u);
    if (loss < TrialStore::kMostLosses) {
      EXPECT_EQ(told[0], "trial 1: taken back from W1");
      EXPECT_EQ(db.trial(1)->status, TrialStatus::Queued);
    } else {
      EXPECT_THAT(told[0], HasSubstr("lost 3 times"));
    }
    EXPECT_FALSE(db.finish(lost, done, 1)) << "a worker that wakes up late writes nothing";
    db.add_report(lost, 5, "score", 0.5, 1);
    EXPECT_TRUE(db.reports().empty());
  }
  EXPECT_EQ(db.trial(1)->status, TrialStatus::Failed) << "it kills whoever runs it";
  EXPECT_EQ(db.untold_trials("search").size(), 1u) << "and the strategy is told so";
}

TEST(Engine, AnEarlierOwnerIsFencedOff) {
  TempFolder folder;
  ResultsDb db = one_queued(folder / "r.sqlite");
  const Trial first = *db.claim("search", 0, nullptr, "W1");
  db.release(first);
  const Trial second = *db.claim("search", 0, nullptr, "W2");
  EXPECT_EQ(second.owner, "W2");
  EXPECT_GT(second.token, first.token);
  EXPECT_THROW(db.fix_plan(first, {5, "{}"}, 0), Error);
  db.fix_plan(second, {5, "{}"}, 0);
  Evaluation done;
  done.status = TrialStatus::Done;
  done.score = 0.25;
  EXPECT_FALSE(db.finish(first, done, 1));
  db.add_report(first, 3, "score", 0.5, 1);
  EXPECT_TRUE(db.reports().empty());
  db.add_report(second, 3, "score", 0.75, 1);
  EXPECT_THAT(db.reports(1), ElementsAre(ReportRecord{1, 3, "score", 0.75, 1}));
  EXPECT_EQ(db.reports(0, "search").size(), 1u);
  EXPECT_TRUE(db.reports(0, "another").empty()) << "stages are not compared";
  EXPECT_TRUE(db.finish(second, done, 1));
  EXPECT_EQ(db.trial(1)->evaluation.score, 0.25);
}

/// Genotypes of width 1 do not fit beside another trial, those of width 2 do not fit at all.
struct Hungry : FakeEvaluator {
  fs::path folder;
  Evaluation evaluate(const Trial& trial, const TrialContext& context) override {
    const auto note = [&](const char* what) {
      std::ofstream(folder / "seen", std::ios::app)
          << what << ' ' << trial.id << (trial.alone ? " alone\n" : " beside\n");
    };
    note("begin");
    ::usleep(3000);
    const std::int64_t width = trial.genotype.values[0];
    Evaluation e;
    if ((width == 1 && !trial.alone) || width == 2) {
      e.status = TrialStatus::OutOfMemory;
      e.message = "no memory for it";
    } else {
      e = FakeEvaluator::evaluate(trial, context);
    }
    note("end");
    return e;
  }
};

TEST(Engine, WhatDoesNotFitBesideOthersIsTriedOnceMoreAlone) {
  TempFolder folder;
  const Recipe recipe = toy_recipe(24, true);
  std::vector<pid_t> children;
  for (int i = 1; i <= 3; ++i) {
    children.push_back(in_child([&] {
      Hungry evaluator;
      evaluator.folder = folder.path();
      return work(folder.path(), recipe, "W" + std::to_string(i), std::move(evaluator));
    }));
  }
  ToyRun leading{.folder = folder.path(), .recipe = recipe};
  leading.workers = [] { return std::int64_t{3}; };
  EXPECT_EQ(leading.run(), SearchEnd::Finished);
  for (const pid_t child : children) EXPECT_EQ(end_of(child), 0);

  std::set<std::int64_t> again, never;
  for (const Trial& trial : trials_of(folder.path())) {
    if (trial.stage != "search") continue;
    if (trial.genotype.values[0] == 1) {
      again.insert(trial.id);
      EXPECT_EQ(trial.status, TrialStatus::Done) << trial.id;
    } else if (trial.genotype.values[0] == 2) {
      never.insert(trial.id);
      EXPECT_EQ(trial.status, TrialStatus::OutOfMemory) << trial.id;
      EXPECT_EQ(trial.evaluation.message, "alone: no memory for it");
    } else {
      EXPECT_EQ(trial.attempt, 1) << trial.id;
      continue;
    }
    EXPECT_EQ(trial.attempt, 2) << trial.id << ": once more, and then no more";
    EXPECT_GT(trial.told_order, 0) << "told once, when it has ended";
  }
  EXPECT_FALSE(again.empty() || never.empty()) << "the test sees something";
  std::int64_t events = 0;
  for (const EventRecord& event : leading.open().events()) events += event.kind == "oom";
  EXPECT_EQ(events, std::ssize(again) + std::ssize(never));
  // Nothing ran beside those that ran alone.
  std::ifstream seen(folder / "seen");
  std::string what, how;
  std::int64_t id = 0, running = 0, alone = 0;
  while (seen >> what >> id >> how) {
    if (what == "end") {
      --running;
      if (id == alone) alone = 0;
      continue;
    }
    EXPECT_EQ(alone, 0) << id << " began beside it";
    if (how == "alone") {
      EXPECT_EQ(running, 0) << id;
      alone = id;
    }
    ++running;
  }
}

TEST(Engine, AWorkerThatSharesItsDeviceWithNoneDoesNotTryAgain) {
  TempFolder folder;
  ResultsDb db = one_queued(folder / "r.sqlite");
  const auto add = [&](const char* name, const char* devices) {
    db.add_worker(
        {.name = name, .host = host_name(), .process = this_process(), .devices = devices});
  };
  add("W1", "cuda:0");
  add("W2", "cuda:1");
  const Trial first = *db.claim("search", 0, nullptr, "W1");
  EXPECT_FALSE(db.retry_alone(first)) << "it had all of its device";
  add("W3", "cuda:0");
  EXPECT_TRUE(db.retry_alone(first));
  EXPECT_FALSE(db.retry_alone(first)) << "it is another one's by now";
  const Trial again = *db.claim("search", 0, nullptr, "W3");
  EXPECT_TRUE(again.alone);
  EXPECT_FALSE(db.retry_alone(again)) << "once";
  Trial more;
  more.genotype = {{1, 0, 0}};
  more.proposal = 1;
  db.add_trials("search", {more}, {});
  EXPECT_FALSE(db.claim("search", 0, nullptr, "W1")) << "a trial runs alone on its device";
  EXPECT_TRUE(db.claim("search", 0, nullptr, "W2")) << "on another device it goes on";
  db.add_worker(
      {.name = "W3", .host = host_name(), .process = this_process(), .devices = "cuda:0"});
  const Trial third = *db.claim("search", 0, nullptr, "W1");
  EXPECT_EQ(third.id, again.id) << "its worker died";
  EXPECT_TRUE(third.alone);
}

TEST(Engine, ALeaseIsCountedInTheMachinesOwnSeconds) {
  TempFolder folder;
  ResultsDb db = one_queued(folder / "r.sqlite");
  db.add_worker({.name = "W1", .host = host_name(), .process = this_process(), .devices = "cpu"});
  ASSERT_TRUE(db.claim("search", 0, nullptr, "W1"));
  EXPECT_TRUE(db.requeue_lost(0, false).empty());
  // No clock that somebody can set back or forward plays a part; one of another start of the machine
  // lies further ahead than any lease.
  for (const double lease : {machine_seconds() - 1, machine_seconds() + 1e6}) {
    auto c = sqlite::Connection::open_to_write(folder / "r.sqlite", false);
    c.execute(concat_text("UPDATE trials SET lease_until = ", lease).c_str());
    EXPECT_EQ(db.requeue_lost(0, false).size(), 1u) << lease;
    ASSERT_TRUE(db.claim("search", 0, nullptr, "W1"));
  }
}

TEST(Engine, AScoreThatIsNoNumberIsAFailure) {
  struct Wrong : FakeEvaluator {
    Evaluation evaluate(const Trial& trial, const TrialContext& context) override {
      Evaluation e = FakeEvaluator::evaluate(trial, context);
      if (trial.purpose != TrialPurpose::Search) return e;
      if (trial.id == 2) e.score = NAN;
      if (trial.id == 3) e.score = INFINITY;
      return e;
    }
  };
  TempFolder folder;
  Wrong evaluator;
  ToyRun search{.folder = folder.path(), .recipe = toy_recipe(6, true), .instead = &evaluator};
  EXPECT_EQ(search.run(), SearchEnd::Finished);
  for (const Trial& trial : search.open().trials("search")) {
    const bool wrong = trial.id == 2 || trial.id == 3;
    EXPECT_EQ(trial.status, wrong ? TrialStatus::Nan : TrialStatus::Done) << trial.id;
    EXPECT_EQ(trial.evaluation.message.empty(), !wrong);
  }
  EXPECT_TRUE(std::isfinite(search.open().stage("search")->winner.score));
}

TEST(Engine, AWishEndsATrialAsAborted) {
  /// Somebody aborts trial 2 before it begins and trial 3 while it runs.
  struct Impatient : FakeEvaluator {
    ResultsDb* db = nullptr;
    Evaluation evaluate(const Trial& trial, const TrialContext& context) override {
      if (trial.id == 1) db->wish(2, "stop");
      if (trial.id != 3) return FakeEvaluator::evaluate(trial, context);
      db->wish(3, "stop");
      Evaluation e;
      for (int i = 0; i < 5000 && !context.aborted(); ++i) ::usleep(1000);
      e.status = context.aborted() ? TrialStatus::Stopped : TrialStatus::Failed;
      return e;
    }
  };
  TempFolder folder;
  ResultsDb db = ResultsDb::create(folder / "results.sqlite", test::small_record(kSteps, 7));
  ToySpace space;
  Impatient evaluator;
  evaluator.db = &db;
  SearchSetup setup;
  setup.database = &db;
  setup.space = &space;
  setup.evaluator = &evaluator;
  setup.recipe = toy_recipe(6, false);
  setup.budget = kSteps;
  setup.clock = [] { return 0.0; };
  setup.folder = folder.path();
  EXPECT_EQ(run_search(setup), SearchEnd::Finished);
  EXPECT_EQ(db.trial(2)->status, TrialStatus::Aborted);
  EXPECT_EQ(db.trial(2)->evaluation.steps, 0);
  EXPECT_EQ(db.trial(3)->status, TrialStatus::Aborted);
  EXPECT_FALSE(db.wish(3, "stop")) << "it has ended";
  EXPECT_EQ(db.state(), "done");
}

TEST(Engine, StopRulesEndAStageAndSayWhy) {
  for (const auto& [rules, least, most, reason] :
       {std::tuple{StopRules{.trials = 5}, 5, 5, "5 outcomes"},
        std::tuple{StopRules{.score = 0.7}, 1, 20, "was reached"},
        std::tuple{StopRules{.patience = 3}, 4, 24, "nothing better"}}) {
    TempFolder folder;
    ToyRun leading{.folder = folder.path(), .recipe = toy_recipe(25, true)};
    leading.recipe.stages[0].stop = rules;
    EXPECT_EQ(leading.run(), SearchEnd::Finished);
    ResultsDb db = ResultsDb::open(folder / "results.sqlite");
    const auto trials = static_cast<int>(db.trials("search").size());
    EXPECT_GE(trials, least) << reason;
    EXPECT_LE(trials, most) << reason;
    EXPECT_TRUE(std::ranges::any_of(db.events(), [&](const EventRecord& event) {
      return event.kind == "stage stopped" && event.text.find(reason) != std::string::npos;
    })) << reason;
    EXPECT_TRUE(db.stage("search")->winner.found);
    EXPECT_EQ(db.count_open("search"), 0) << "what was not begun is over";
  }
}

TEST(Engine, AStrategyThatComparesCasesIsToldTheirScores) {
  /// Cases differ so much that no gain could be shown.
  struct Scattered : FakeEvaluator {
    Evaluation evaluate(const Trial& trial, const TrialContext& context) override {
      Evaluation e = FakeEvaluator::evaluate(trial, context);
      if (trial.purpose != TrialPurpose::Search) return e;
      Rng noise = Rng("cases").split("trial", trial.id);
      Json cases = Json::array();
      for (int i = 0; i < 20; ++i) {
        cases.push_back({{"id", std::to_string(i)},
                         {"classes", {{{"label", "a"}, {"dice", e.score + 5 * noise.normal()}}}}});
      }
      e.details = Json{{"cases", cases}}.dump();
      return e;
    }
  };
  TempFolder folder;
  Scattered evaluator;
  ToyRun search{.folder = folder.path(), .recipe = toy_recipe(1, true), .instead = &evaluator};
  StageSpec stage = make_stage(*find_kind(strategy_kinds(), "gp"), "search", 0.5);
  stage.set("trials", 40);
  stage.set("stop_when_settled", true);
  search.recipe.stages[0] = stage;
  EXPECT_EQ(search.run(), SearchEnd::Finished);
  EXPECT_LT(search.open().trials("search").size(), 40u);
  EXPECT_THAT(search.open().stage("search")->story, HasSubstr("nothing left to gain"));
}

TEST(Engine, StopIsAWishOfAnyProcess) {
  TempFolder folder;
  ToyRun leading{.folder = folder.path(), .recipe = toy_recipe(25, false)};
  leading.evaluator.sleep_us = 20000;
  const pid_t child = in_child([&] { return leading.run() == SearchEnd::Stopped ? 0 : 1; });
  while (!fs::exists(folder / "results.sqlite")) ::usleep(1000);
  ::usleep(50000);
  ResultsDb::open(folder / "results.sqlite").set_state("stopping");
  EXPECT_EQ(end_of(child), 0);
  EXPECT_EQ(ResultsDb::open(folder / "results.sqlite").state(), "stopped");
  leading.evaluator.sleep_us = 0;
  EXPECT_EQ(leading.run(), SearchEnd::Finished) << "and it can go on";
}

TEST(Engine, AListenerThatThrowsIsNamedAndOneMayStop) {
  struct Loud : SearchListener {
    std::string name() const override { return "loud"; }
    void trial_ended(const Trial&) override { throw std::runtime_error("as told"); }
  };
  struct Enough : SearchListener {
    int seen = 0;
    std::string name() const override { return "enough"; }
    void trial_ended(const Trial&) override { ++seen; }
    std::string wants_to_stop() override { return seen == 3 ? "three are enough" : ""; }
  };
  TempFolder folder;
  Loud loud;
  Enough enough;
  ToyRun leading{.folder = folder.path(), .recipe = toy_recipe(25, true)};
  leading.listeners = {&loud, &enough};
  EXPECT_EQ(leading.run(), SearchEnd::Finished);
  const std::vector<EventRecord> events = ResultsDb::open(folder / "results.sqlite").events();
  EXPECT_TRUE(std::ranges::any_of(events, [](const EventRecord& event) {
    return event.text == "search: enough: three are enough";
  }));
}

// ---- several runs in one database ----

TEST(Runs, OfOneDatabaseDoNotSeeEachOther) {
  TempFolder folder;
  const fs::path shared = folder / "lab.sqlite";
  std::vector<std::string> tables;
  for (const char* name : {"a", "b"}) {
    const RunFolder run(folder / name);
    fs::create_directories(run.path());
    ResultsDb db = create_database(run, shared, test::small_record(kSteps, 7));
    ToySpace space;
    FakeEvaluator evaluator;
    SearchSetup setup;
    setup.database = &db;
    setup.space = &space;
    setup.evaluator = &evaluator;
    setup.recipe = toy_recipe(5, false);
    setup.budget = kSteps;
    setup.seed = 7;
    setup.clock = [] { return 0.0; };
    setup.folder = run.path();
    EXPECT_EQ(run_search(setup), SearchEnd::Finished);
    tables.push_back(results_table(open_to_read(run).trials()));
  }
  EXPECT_EQ(tables[0], tables[1]) << "each is numbered for itself";
  EXPECT_FALSE(fs::exists(folder / "a/results.sqlite"));
  const std::vector<RunEntry> runs = ResultsDb::runs(shared);
  ASSERT_EQ(runs.size(), 2u);
  EXPECT_EQ(runs[1].trials, runs[0].trials);
  EXPECT_EQ(runs[1].state, "done");
  EXPECT_TRUE(runs[1].best);
  EXPECT_THAT(error_of([&] { ResultsDb::open(shared); }), HasSubstr("holds 2 runs"));
  EXPECT_THAT(error_of([&] { ResultsDb::open(shared, 9); }), HasSubstr("expected a run 9"));
  // A run that was moved can be looked at, not gone on with.
  fs::rename(folder / "b", folder / "moved");
  EXPECT_EQ(open_to_read(RunFolder(folder / "moved")).trials().size(), 7u);
  EXPECT_THAT(error_of([&] { open_to_write(RunFolder(folder / "moved")); }), HasSubstr("not here"));
  ResultsDb::open(shared, 1).forget_run();
  EXPECT_EQ(ResultsDb::runs(shared).size(), 1u);
  EXPECT_EQ(ResultsDb::open(shared).trials().size(), 7u);
  EXPECT_THAT(error_of([&] { open_to_read(RunFolder(folder / "a")); }),
              HasSubstr("expected a run 1"));
  fs::remove(shared);
  EXPECT_THAT(error_of([&] { open_to_read(RunFolder(folder / "a")); }), HasSubstr("no such file"));
}

TEST(Runs, AForgottenOneLeavesNothingToTheNextOfItsNumber) {
  TempFolder folder;
  const fs::path file = folder / "lab.sqlite";
  ResultsDb::create(file, test::small_record(kSteps, 7));
  ResultsDb second = ResultsDb::add_run(file, test::small_record(kSteps, 7));
  second.start_stage({"search", "running", {}, 0, 0});
  Trial trial;
  trial.genotype = {{0, 0, 0}};
  second.add_trials("search", {trial}, {.state = "{}"});
  second.mark_told("search", {}, {.step = "{}"});
  second.enqueue({"width=1 depth=0 kind=a"}, kAskedByUser);
  second.annotate({1, "a", "b", "me"});
  second.forget_run();
  ResultsDb next = ResultsDb::add_run(file, test::small_record(kSteps, 7));
  next.start_stage({"search", "running", {}, 0, 0});
  EXPECT_EQ(next.strategy("search"), StoredStrategy{});
  EXPECT_TRUE(next.trials().empty());
  EXPECT_TRUE(next.enqueued(false).empty());
  EXPECT_TRUE(next.annotations().empty());
}

TEST(Runs, ThatBeginAtOnceAllFindTheirPlace) {
  TempFolder folder;
  constexpr int kRuns = 8;
  std::vector<pid_t> children;
  for (int i = 0; i < kRuns; ++i) {
    children.push_back(in_child([&] {
      ResultsDb::add_run(folder / "lab.sqlite", test::small_record(kSteps, 7));
      return 0;
    }));
  }
  for (const pid_t child : children) EXPECT_EQ(end_of(child), 0);
  EXPECT_EQ(ResultsDb::runs(folder / "lab.sqlite").size(), std::size_t{kRuns});
}

TEST(Runs, AreReadWhileWritersComeAndGo) {
  TempFolder folder;
  const fs::path file = folder / "lab.sqlite";
  ResultsDb::create(file, test::small_record(kSteps, 7));
  // Each leaves, and with it the files beside the database.
  const pid_t writers = in_child([&] {
    for (int i = 0; i < 300; ++i) ResultsDb::open(file).set_clock(i);
    return 0;
  });
  for (int i = 0; i < 300; ++i) {
    EXPECT_EQ(ResultsDb::open_read_only(file).run().seed, 7u);
    EXPECT_EQ(ResultsDb::runs(file).size(), 1u);
  }
  EXPECT_EQ(end_of(writers), 0);
}

TEST(Runs, ADatabaseOnANetworkIsRefused) {
  EXPECT_EQ(network_file_system(0x6969), "NFS");
  EXPECT_EQ(network_file_system(0xef53), "") << "ext4";
}

TEST(WorkerList, ThoseThatShareAGpuGetAnEqualPartOfItsMemory) {
  const std::vector<std::string> devices{
      "cuda:0", "cuda:1", "cuda:0", "cuda:0", "cuda:0", "cpu", "cpu"};
  EXPECT_EQ(allocator_setting(devices, "cuda:0", ""), "per_process_memory_fraction:0.25");
  EXPECT_EQ(allocator_setting(devices, "cuda:0", "expandable_segments:True"),
            "expandable_segments:True,per_process_memory_fraction:0.25");
  EXPECT_EQ(allocator_setting(devices, "cuda:0", "per_process_memory_fraction:0.1"),
            "per_process_memory_fraction:0.1");
  EXPECT_EQ(allocator_setting(devices, "cuda:1", "a:b"), "a:b");
  EXPECT_EQ(allocator_setting(devices, "cpu", ""), "");
}

TEST(WorkerList, ReadsClarasFormAndNamesWhatIsWrong) {
  EXPECT_THAT(parse_workers("0:0:1:cpu", 2), ElementsAre("cuda:0", "cuda:0", "cuda:1", "cpu"));
  EXPECT_THAT(parse_workers("auto", 2), ElementsAre("cuda:0", "cuda:1"));
  EXPECT_THAT(parse_workers("auto", 0), ElementsAre("cpu"));
  EXPECT_THAT(error_of([] { parse_workers("0::1", 2); }), HasSubstr("worker 2: expected \"cpu\""));
  EXPECT_THAT(error_of([] { parse_workers("a", 2); }), HasSubstr("found \"a\""));
  EXPECT_THAT(error_of([] { parse_workers("cpu:7", 2); }),
              testing::AllOf(HasSubstr("worker 2"), HasSubstr("no GPU 7"), HasSubstr("has 2")));
  EXPECT_THAT(error_of([] { parse_workers("0,1", 2); }), HasSubstr("one device"));
  EXPECT_THAT(error_of([] { parse_workers("", 2); }), HasSubstr("worker 1"));
}

TEST(Process, IsKnownForEverByItsStart) {
  EXPECT_TRUE(process_lives(this_process()));
  const pid_t child = in_child([] { return 0; });
  EXPECT_EQ(end_of(child), 0);
  std::string other = this_process();
  other.replace(other.find(':') + 1, std::to_string(getpid()).size(), std::to_string(child));
  EXPECT_FALSE(process_lives(other));
  EXPECT_FALSE(process_lives("another-boot" + this_process().substr(this_process().find(':'))));
  EXPECT_FALSE(process_lives("x"));
  EXPECT_FALSE(process_lives(""));
}

}  // namespace
}  // namespace nas
