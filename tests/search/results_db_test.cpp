// SPDX-License-Identifier: Apache-2.0
// Results databases of others: read without writing, and never believed where they name folders.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "nas/core/files.h"
#include "nas/report/report.h"
#include "nas/results/results_db.h"
#include "tests/support/support.h"

namespace nas {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::TempFolder;
using testing::AllOf;
using testing::HasSubstr;

RunRecord small_run() {
  RunRecord run;
  run.recipe_json = run.plan_json = run.space_json = run.setup_json = "{}";
  run.budget = {.steps = 10};
  return run;
}

Trial trial_of(std::int64_t proposal, TrialPurpose purpose, const std::string& label) {
  Trial trial;
  trial.proposal = proposal;
  trial.purpose = purpose;
  trial.label = label;
  trial.genotype = {{1, 2}};
  trial.genotype_text = "a=1 b=2";
  return trial;
}

Evaluation done(double score) {
  Evaluation e;
  e.status = TrialStatus::Done;
  e.score = score;
  return e;
}

/// Two finished trials, written into the log or, once closed, into the file.
ResultsDb write_run(const fs::path& file) {
  ResultsDb db = ResultsDb::create(file, small_run());
  db.start_stage({"search", "running", {}, 0, 0});
  db.add_trials(
      "search",
      {trial_of(0, TrialPurpose::Search, "baseline"), trial_of(1, TrialPurpose::Search, "")},
      {.state = "{}"});
  for (const double score : {0.5, 0.25}) {
    const auto trial = db.claim("search", 0);
    db.fix_plan(*trial, {10, "{}"}, 0);
    db.finish(*trial, done(score), 0);
  }
  db.add_event(3, 1, "best improved", "a=1 b=2: 0.5");
  return db;
}

void change(const fs::path& file, const std::string& sql) {
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(file.c_str(), &db), SQLITE_OK);
  EXPECT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(db);
}

/// Every file below a folder: its bytes and when it was last written.
std::map<std::string, std::pair<std::string, fs::file_time_type>> contents(const fs::path& folder) {
  std::map<std::string, std::pair<std::string, fs::file_time_type>> all;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    all[entry.path().string()] = {read_file(entry.path(), 1 << 26), entry.last_write_time()};
  }
  return all;
}

TEST(ResultsDbReadOnly, ReadsEveryStateOfARunAndWritesNothing) {
  TempFolder work;
  const fs::path live = work / "live";
  fs::create_directories(live);
  ResultsDb db = write_run(live / "results.sqlite");
  ASSERT_TRUE(fs::exists(live / "results.sqlite-wal"));
  // As a kill leaves it, and as a copy of the two files that look important.
  fs::copy(live, work / "killed");
  fs::copy(live, work / "copied");
  fs::remove(work / "copied/results.sqlite-shm");
  // Closed in order: all in one file.
  fs::create_directories(work / "closed");
  { write_run(work / "closed/results.sqlite"); }
  fs::remove(work / "closed/results.sqlite.lock");
  ASSERT_FALSE(fs::exists(work / "closed/results.sqlite-wal"));
  for (const char* state : {"live", "killed", "copied", "closed"}) {
    const fs::path folder = work / state;
    const auto before = contents(folder);
    {
      ResultsDb read = ResultsDb::open_read_only(folder / "results.sqlite");
      const std::vector<Trial> trials = read.trials();
      ASSERT_EQ(trials.size(), 2U) << state;
      EXPECT_EQ(trials[1].evaluation.score, 0.25) << state;
      EXPECT_EQ(read.file(), folder / "results.sqlite");
      const Json data = report_data(folder);
      EXPECT_EQ(data.at("trials").size(), 2U) << state;
      EXPECT_EQ(data.at("events").at(0).at("kind"), "best improved") << state;
      html_report(folder);
    }
    auto after = contents(folder);
    if (state == std::string("live")) {
      // SQLite shares the index within one process, and the writer's own may note readers in it.
      after[live / "results.sqlite-shm"] = before.at(live / "results.sqlite-shm");
    }
    EXPECT_EQ(after, before) << state;
  }
  // Members that write say that they cannot.
  ResultsDb read = ResultsDb::open_read_only(work / "closed/results.sqlite");
  EXPECT_THAT(error_of([&] { read.add_event(1, 0, "x", "y"); }), HasSubstr("results.sqlite"));
  EXPECT_TRUE(ResultsDb::open_read_only(work / "closed/results.sqlite").events().size() == 1);
}

TEST(ResultsDbRows, ThatNameFoldersOutsideTheirRunAreRefused) {
  TempFolder work;
  const fs::path file = work / "results.sqlite";
  {
    ResultsDb db = write_run(file);
    db.add_trials("final", {trial_of(0, TrialPurpose::Retrain, "best")}, {.state = "{}"});
  }
  const auto refused = [&](const std::string& column, const std::string& value, int id) {
    const fs::path copy = work / "copy.sqlite";
    fs::copy_file(file, copy, fs::copy_options::overwrite_existing);
    change(copy,
           "UPDATE trials SET " + column + " = '" + value + "' WHERE id = " + std::to_string(id));
    ResultsDb db = ResultsDb::open(copy);
    EXPECT_THAT(error_of([&] { db.claim("final", 0); }),
                id == 3 ? HasSubstr(value) : HasSubstr(""));
    ErrorKind kind{};
    const std::string message = error_of([&] { db.trials(); }, &kind);
    EXPECT_EQ(kind, ErrorKind::Input) << column << ' ' << value;
    EXPECT_THAT(message,
                AllOf(HasSubstr("copy.sqlite: trial " + std::to_string(id) + ": " + column),
                      HasSubstr("found \"" + value + "\"")));
  };
  for (const char* value : {"../x", "..", "/tmp/x", "best/../../x", "model", ""}) {
    refused("label", value, 3);
  }
  for (const char* value : {"../x", "trials/1", "/tmp/x", "trials/3/../../x", ""}) {
    refused("checkpoint", value, 3);
  }
  refused("label", "best", 2);  // a role of final trainings
  EXPECT_NO_THROW(ResultsDb::open(file).trials());
}

TEST(ResultsDb, FindsTheBestTrialAndSourcesWithoutReadingAllRows) {
  TempFolder work;
  ResultsDb db = ResultsDb::create(work / "r.sqlite", small_run());
  EXPECT_FALSE(db.best_trial("search"));
  EXPECT_EQ(db.last_super_network("search"), 0);
  db.start_stage({"search", "running", {}, 0, 0});
  std::vector<Trial> trials;
  for (int i = 0; i < 5; ++i) trials.push_back(trial_of(i, TrialPurpose::Search, ""));
  trials[3].rung = trials[4].rung = 1;
  trials.push_back(trial_of(5, TrialPurpose::SuperNet, ""));
  db.add_trials("search", trials, {.state = "{}"});
  const double scores[] = {0.9, 0.1, 0.9, 0.3, 0.3, 0.99};
  for (int i = 0; i < 6; ++i) {
    const auto trial = db.claim("search", 0);
    db.finish(*trial, done(scores[i]), 0);
    if (i == 2) {
      EXPECT_EQ(db.best_trial("search")->id, 1) << "ties: the lower id";
    }
  }
  EXPECT_EQ(db.best_trial("search")->id, 4) << "scores of the highest rung";
  EXPECT_FALSE(db.best_trial("other"));
  EXPECT_EQ(db.trial_of("search", 5), 6);
  EXPECT_EQ(db.trial_of("search", 17), 0);
  EXPECT_EQ(db.last_super_network("scale"), 6);
  EXPECT_EQ(db.last_super_network("search"), 0) << "of the stages before";
}

}  // namespace
}  // namespace nas
