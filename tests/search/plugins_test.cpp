// SPDX-License-Identifier: Apache-2.0
// A user's own controller, executor and listener: real programs, good ones and bad ones.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "nas/core/files.h"
#include "nas/core/process_peer.h"
#include "nas/core/stopwatch.h"
#include "nas/jobs/strategies/strategies.h"
#include "nas/plugins/external_executor.h"
#include "nas/plugins/external_listener.h"
#include "nas/plugins/space_json.h"
#include "nas/results/results_db.h"
#include "nas/search/recipe.h"
#include "nas/search/run_search.h"
#include "tests/support/support.h"
#include "tests/support/toy_run.h"

namespace nas {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::FakeEvaluator;
using test::TempFolder;
using test::ToySpace;
using testing::AllOf;
using testing::HasSubstr;

/// Climbs from the best point that it was told: a controller in a few lines.
constexpr const char* kController = R"py(
import json, sys
best, tried = (-1, None), []
for line in sys.stdin:
    q = json.loads(line)
    a = {"ok": {}}
    if q["do"] == "hello": a = {"ok": {"name": "climber"}}
    if q["do"] == "set_space": genes = q["space"]["genes"]
    if q["do"] == "tell":
        tried.append(q["values"])
        if q["status"] == "done" and q["score"] > best[0]: best = (q["score"], q["values"])
    if q["do"] == "ask":
        near = []
        if best[1]:
            for g in genes:
                k = g["values"].index(best[1][g["name"]])
                for n in (k - 1, k + 1):
                    if 0 <= n < len(g["values"]):
                        v = dict(best[1]); v[g["name"]] = g["values"][n]
                        if v not in tried and v not in near: near.append(v)
        a = {"proposals": [{"values": v} for v in near[:q["count"]]], "finished": not near}
        tried += near[:q["count"]]
    if q["do"] == "save": a = {"state": {"best": best, "tried": tried}}
    if q["do"] == "load": best, tried = tuple(q["state"]["best"]), q["state"]["tried"]
    print(json.dumps(a), flush=True)
)py";

struct PluginSearch : test::ToyRun {
  explicit PluginSearch(const fs::path& run_folder) {
    folder = run_folder;
    recipe = load_recipe("random", strategy_kinds());
  }

  void control(const std::vector<std::string>& command, std::int64_t trials = 20) {
    StageSpec stage = make_stage(*find_kind(strategy_kinds(), "external"), "search", 0.3);
    stage.set("command", command);
    stage.set("trials", trials);
    stage.set("seconds", 5);
    recipe.stages[0] = stage;
  }
  std::vector<Trial> trials() const { return open().trials("search"); }
};

std::string write_script(const fs::path& file, const std::string& text) {
  std::ofstream(file) << text;
  return file.string();
}

TEST(Plugins, AControllerInTwentyLinesFindsTheOptimumAndGoesOnAfterAStop) {
  TempFolder a, b;
  const std::string script = write_script(a / "climb.py", kController);
  PluginSearch straight(a.path()), stopped(b.path());
  straight.control({"python3", script}, 30);
  stopped.control({"python3", script}, 30);
  EXPECT_EQ(straight.run(), SearchEnd::Finished);
  const std::vector<Trial> trials = straight.trials();
  double best = 0;
  for (const Trial& trial : trials) best = std::max(best, test::toy_quality(trial.genotype));
  EXPECT_GT(best, 0.95) << "it climbs: drawing so few would not get there";
  EXPECT_EQ(trials.front().label, "baseline");
  const Json story = Json::parse(ResultsDb::open(a / "results.sqlite").stage("search")->story);
  EXPECT_EQ(story.at("controller"), "climber");
  stopped.evaluator.stop_after = 25;
  EXPECT_EQ(stopped.run(), SearchEnd::Stopped);
  stopped.evaluator.stop_after = -1;
  EXPECT_EQ(stopped.run(), SearchEnd::Finished);
  EXPECT_EQ(results_table(straight.trials()), results_table(stopped.trials()));
}

TEST(Plugins, WhatAControllerDoesWrongIsQuoted) {
  const auto error = [](const std::string& reply) {
    TempFolder folder;
    PluginSearch search(folder.path());
    const std::string script = write_script(folder / "c.py",
                                            R"py(
import json, sys, time
for line in sys.stdin:
    q = json.loads(line)
    if q["do"] == "ask":
        )py" + reply + R"py(
        continue
    print('{"ok": {}, "state": 1}', flush=True)
)py");
    search.control({"python3", script});
    ErrorKind kind{};
    const std::string text = error_of([&] { search.run(); }, &kind);
    EXPECT_EQ(kind, ErrorKind::Input) << text;
    // Nothing is lost: with a better controller the run goes on.
    write_script(folder / "c.py", kController);
    std::string good = kController;
    good.replace(
        good.find("best, tried = tuple"),
        std::string("best, tried = tuple(q[\"state\"][\"best\"]), q[\"state\"][\"tried\"]").size(),
        "pass");
    write_script(folder / "c.py", good);
    EXPECT_EQ(search.run(), SearchEnd::Finished);
    return text;
  };
  EXPECT_THAT(error("print('what?', flush=True)"),
              AllOf(HasSubstr("controller (python3)"), HasSubstr("JSON object, found: what?")));
  EXPECT_THAT(error("print('[1]', flush=True)"), HasSubstr("found: [1]"));
  EXPECT_THAT(error("sys.exit(3)"), HasSubstr("ended with exit code 3"));
  EXPECT_THAT(error("print(json.dumps({'proposals': [{'values': {'widht': '1'}}]}), flush=True)"),
              AllOf(HasSubstr("widht"), HasSubstr("width")));
  EXPECT_THAT(error("print(json.dumps({'proposals': [{'values': {'width': '9'}}]}), flush=True)"),
              AllOf(HasSubstr("width"), HasSubstr("found \"9\""), HasSubstr("its line")));
  EXPECT_THAT(error("print(json.dumps({'proposals': []}), flush=True)"),
              HasSubstr("proposes nothing new"));
}

TEST(Plugins, AControllerThatHangsIsEndedInTime) {
  ProcessPeer peer({.command = {"sleep", "100"}, .name = "sleeper", .seconds = 0.2});
  const Stopwatch watch;
  EXPECT_THAT(error_of([&] {
                peer.call({{"do", "hello"}});
              }),
              AllOf(HasSubstr("sleeper (sleep)"), HasSubstr("no answer within 0.2 s")));
  EXPECT_LT(watch.seconds(), 5);
}

TEST(Plugins, APeerIsBoundedAndItsStartIsChecked) {
  EXPECT_THAT(error_of([] { ProcessPeer({.command = {"/no/such/program"}, .name = "mine"}); }),
              AllOf(HasSubstr("mine: cannot start /no/such/program"), HasSubstr("No such file")));
  EXPECT_THAT(error_of([] { ProcessPeer({.command = {}, .name = "mine"}); }),
              HasSubstr("found none"));
  ProcessPeer flood({.command = {"sh", "-c", "yes aaaaaaaaaaaaaaaa | tr -d '\\n'"},
                     .name = "flood",
                     .seconds = 20,
                     .most_bytes = 1 << 20});
  EXPECT_THAT(error_of([&] {
                flood.call({{"do", "hello"}});
              }),
              AllOf(HasSubstr("more than 1048576 bytes"), HasSubstr("aaaa...")));
  // Half a line is waited for, two lines in one write are two.
  ProcessPeer slow(
      {.command = {"sh", "-c", "printf '{\"a\"'; sleep 0.1; printf ':1}\\n{\"b\":2}\\n'; sleep 5"},
       .name = "slow"});
  EXPECT_EQ(slow.receive(5)->at("a"), 1);
  EXPECT_EQ(slow.receive(0)->at("b"), 2);
  EXPECT_FALSE(slow.receive(0.01));
}

/// An executor in shell: the score of a trial is read out of its line.
constexpr const char* kExecutor = R"sh(
while read -r line; do
  case "$line" in
    *'"do":"evaluate"'*)
      width=$(printf '%s' "$line" | sed 's/.*"width":"\([0-9]*\)".*/\1/')
      [ "$width" = 1 ] && echo 'no JSON' && continue
      [ "$width" = 2 ] && exit 9
      printf '{"report":{"step":1,"score":0.1}}\n{"result":{"score":0.%s,"metrics":{"seconds":1}}}\n' "$width";;
    *) echo '{"ok":{}}';;
  esac
done
)sh";

TEST(Plugins, AnExecutorInShellScoresTrialsAndItsFailuresAreRows) {
  TempFolder folder;
  PluginSearch search(folder.path());
  search.recipe.stages[0].set("trials", 16);
  search.recipe.stages[0].set("rungs", 1);
  ExternalExecutor executor(search.space,
                            search.evaluator,
                            {.command = {"sh", "-c", kExecutor}, .name = "executor", .seconds = 5});
  search.instead = &executor;
  EXPECT_EQ(search.run(), SearchEnd::Finished);
  int done = 0, lines = 0, ended = 0;
  for (const Trial& trial : search.trials()) {
    const int width = trial.genotype.values[0];
    if (width == 1) {
      EXPECT_EQ(trial.status, TrialStatus::Failed);
      EXPECT_THAT(trial.evaluation.message, HasSubstr("found: no JSON"));
      ++lines;
    } else if (width == 2) {
      EXPECT_EQ(trial.status, TrialStatus::Failed);
      ++ended;
    } else {
      EXPECT_EQ(trial.status, TrialStatus::Done) << trial.evaluation.message;
      EXPECT_DOUBLE_EQ(trial.evaluation.score, 0.1 * width);
      EXPECT_EQ(trial.evaluation.metrics.at("seconds"), 1);
      ++done;
    }
  }
  EXPECT_GT(done, 3);
  EXPECT_GT(lines + ended, 1) << "a program that ended is started again for the next trial";
  const ResultsDb db = ResultsDb::open(folder / "results.sqlite");
  EXPECT_EQ(static_cast<int>(db.reports().size()), done) << "scores on the way are kept";
}

TEST(Plugins, AListenerHearsEverythingAndMayStop) {
  TempFolder folder;
  const std::string script = write_script(folder / "listen.py", R"py(
import json, sys
log = open(sys.argv[1], "w")
ended = 0
for line in sys.stdin:
    q = json.loads(line)
    if q.get("do") == "hello":
        print('{"ok": {}}', flush=True)
        continue
    log.write(q["event"] + "\n"); log.flush()
    ended += q["event"] == "trial_ended"
    if ended == 3: print('{"stop": "three are enough"}', flush=True)
)py");
  PluginSearch search(folder.path());
  search.recipe.stages[0].set("trials", 25);
  search.recipe.stages[0].set("rungs", 1);
  search.recipe.stages[0].async = true;
  search.evaluator.sleep_us = 2000;
  const auto listener = make_external_listener(
      search.space, {.command = {"python3", script, (folder / "heard").string()}, .name = "ears"});
  search.listeners = {listener.get()};
  EXPECT_EQ(search.run(), SearchEnd::Finished);
  const std::string heard = read_file(folder / "heard", 1 << 20);
  for (const char* event : {"search_started",
                            "stage_started",
                            "proposed",
                            "trial_started",
                            "trial_ended",
                            "best_improved",
                            "stage_ended",
                            "search_ended"}) {
    EXPECT_THAT(heard, HasSubstr(event));
  }
  EXPECT_LT(search.trials().size(), 25u) << "stopped by its wish";
}

TEST(Plugins, AListenerHasGenotypesTriedAndNotesThings) {
  TempFolder folder;
  const std::string script = write_script(folder / "wish.py", R"py(
import json, sys
for line in sys.stdin:
    q = json.loads(line)
    if q.get("do") == "hello":
        print('{"ok": {}}', flush=True)
    elif q["event"] == "trial_ended":
        print(json.dumps({"annotate": {"trial": q["trial"], "key": "seen as", "value": q["stage"]}}), flush=True)
        if q["trial"] == 2:
            print('{"enqueue": {"values": {"width": "3", "depth": "1", "kind": "c"}}}', flush=True)
)py");
  PluginSearch search(folder.path());
  search.recipe.stages[0].set("trials", 12);
  search.recipe.stages[0].set("rungs", 1);
  search.recipe.stages[0].async = true;
  search.evaluator.sleep_us = 2000;
  const auto listener =
      make_external_listener(search.space, {.command = {"python3", script}, .name = "ears"});
  search.listeners = {listener.get()};
  EXPECT_EQ(search.run(), SearchEnd::Finished);
  std::vector<Trial> wanted = search.trials();
  std::erase_if(wanted, [](const Trial& t) { return t.asked_by.empty(); });
  ASSERT_EQ(wanted.size(), 1u);
  EXPECT_EQ(wanted[0].genotype_text, "width=3 depth=1 kind=c");
  EXPECT_EQ(wanted[0].asked_by, "listener ears");
  EXPECT_EQ(search.trials().size(), 13u);
  const ResultsDb db = ResultsDb::open(folder / "results.sqlite");
  EXPECT_EQ(db.annotations().size(), db.trials().size()) << "also of final trainings";
  EXPECT_EQ(db.annotations(1).at(0).value, "search");
}

TEST(Plugins, AListenerThatWishesNonsenseIsQuotedAndHearsNothingMore) {
  TempFolder folder;
  PluginSearch search(folder.path());
  const auto listener = make_external_listener(
      search.space,
      {.command = {"sh",
                   "-c",
                   "read a; echo '{\"ok\":1}'; read a; echo "
                   "'{\"enqueue\": {\"values\": {\"widht\": \"1\"}}}'; cat > /dev/null"},
       .name = "ears"});
  search.listeners = {listener.get()};
  testing::internal::CaptureStderr();
  EXPECT_EQ(search.run(), SearchEnd::Finished);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_THAT(said, AllOf(HasSubstr("listener"), HasSubstr("widht"), HasSubstr("its line: {")));
  EXPECT_THAT(said, HasSubstr("it hears nothing more"));
}

TEST(Plugins, AListenerThatEndsDoesNotEndTheSearch) {
  TempFolder folder;
  PluginSearch search(folder.path());
  const auto listener = make_external_listener(
      search.space, {.command = {"sh", "-c", "read a; echo '{\"ok\":1}'; exit 1"}, .name = "ears"});
  search.listeners = {listener.get()};
  EXPECT_EQ(search.run(), SearchEnd::Finished);
}

}  // namespace
}  // namespace nas
