// SPDX-License-Identifier: Apache-2.0
#include "nas/dashboard/live_run.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "nas/report/report.h"
#include "nas/results/run_watch.h"
#include "tests/support/support.h"
#include "tests/support/toy_search.h"

namespace nas {
namespace {

using test::TempFolder;

ResultsDb small_run(const std::filesystem::path& file) {
  ResultsDb db = ResultsDb::create(file, test::small_record({.steps = 10}));
  StageRecord stage;
  stage.name = "search";
  stage.status = "running";
  db.start_stage(stage);
  std::vector<Trial> trials(2);
  for (std::size_t i = 0; i < trials.size(); ++i) {
    trials[i].stage = "search";
    trials[i].proposal = static_cast<std::int64_t>(i);
  }
  db.add_trials("search", trials, {});
  return db;
}

Evaluation done(double score) {
  Evaluation evaluation;
  evaluation.status = TrialStatus::Done;
  evaluation.score = score;
  return evaluation;
}

TEST(RunWatch, SeesCommitsOfOthersAndNothingElse) {
  const TempFolder folder;
  ResultsDb db = small_run(folder / "results.sqlite");
  RunWatch watch(folder / "results.sqlite", 1);
  EXPECT_TRUE(watch.changed());
  EXPECT_FALSE(watch.changed());
  EXPECT_FALSE(watch.changed());
  db.set_clock(3);
  EXPECT_TRUE(watch.changed());
  EXPECT_EQ(watch.database().clock(), 3);
  EXPECT_FALSE(watch.changed());
}

TEST(RunWatch, FollowsWritersThatComeAndGo) {
  const TempFolder folder;
  const std::filesystem::path file = folder / "results.sqlite";
  { const ResultsDb db = small_run(file); }
  RunWatch watch(file, 1);
  EXPECT_TRUE(watch.changed());  // nobody has it open
  EXPECT_FALSE(watch.changed());
  for (int i = 1; i <= 3; ++i) {
    {
      ResultsDb db = ResultsDb::open(file);
      db.set_clock(2 * i);
      EXPECT_TRUE(watch.changed());
      EXPECT_EQ(watch.database().clock(), 2 * i);
      db.set_clock(2 * i + 1);
    }
    EXPECT_TRUE(watch.changed());
    EXPECT_EQ(watch.database().clock(), 2 * i + 1);
  }
}

TEST(LiveRun, TellsWhatChangedSinceARevision) {
  const TempFolder folder;
  ResultsDb db = small_run(folder / "results.sqlite");
  LiveRun run(folder / "results.sqlite", 1, folder.path().string());
  const Json all = run.changes("");
  EXPECT_TRUE(all.at("whole").get<bool>());
  EXPECT_EQ(all.at("trials").at("id"), (Json{1, 2}));
  db.finish(*db.claim("search", 1), done(0.5), 2);
  const Json one = run.refresh();
  EXPECT_FALSE(one.at("whole").get<bool>());
  EXPECT_EQ(one.at("trials").at("id"), (Json{1}));
  EXPECT_EQ(one.at("trials").at("status"), (Json{"done"}));
  EXPECT_TRUE(run.refresh().is_null());
  // Who missed that asks since what it knows; who knows another process's gets everything.
  EXPECT_EQ(run.changes(all.at("rev")).at("trials").at("id"), (Json{1}));
  LiveRun restarted(folder / "results.sqlite", 1, folder.path().string());
  const Json after = restarted.changes(one.at("rev"));
  EXPECT_TRUE(after.at("whole").get<bool>());
  EXPECT_EQ(after.at("trials").at("id"), (Json{1, 2}));
}

TEST(LiveRun, KeepsTheLastDataWhereTheDatabaseBreaks) {
  const TempFolder folder;
  const std::filesystem::path file = folder / "results.sqlite";
  { ResultsDb db = small_run(file); }
  LiveRun run(file, 1, folder.path().string());
  EXPECT_EQ(run.changes("").at("problem"), "");
  std::filesystem::rename(file, folder / "aside");
  std::ofstream(file) << "no database";
  const Json broken = run.changes("");
  EXPECT_NE(broken.at("problem").get<std::string>().find("results.sqlite"), std::string::npos);
  EXPECT_EQ(broken.at("trials").at("id").size(), 2U);
  std::filesystem::remove(file);
  std::filesystem::rename(folder / "aside", file);
  EXPECT_EQ(run.changes("").at("problem"), "");
}

TEST(LiveRun, NumbersAreTheReports) {
  const TempFolder folder;
  ResultsDb db = small_run(folder / "results.sqlite");
  db.finish(*db.claim("search", 1), done(0.1234567890123), 2);
  LiveRun run(folder / "results.sqlite", 1, folder.path().string());
  EXPECT_EQ(run.report(), report_data(folder.path()));
  const Json trials = run.changes("").at("trials");
  EXPECT_EQ(trials.at("score")[0], report_data(folder.path()).at("trials")[0].at("score"));
}

}  // namespace
}  // namespace nas
