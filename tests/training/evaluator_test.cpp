// SPDX-License-Identifier: Apache-2.0
// A whole search over a phantom with real trainings: select, search, retrain, compare, deliver;
// killed and resumed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#include <atomic>
#include <map>
#include <vector>

#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "nas/core/files.h"
#include "nas/core/log.h"
#include "nas/core/rng.h"
#include "nas/core/run_folder.h"
#include "nas/core/stop.h"
#include "nas/core/stopwatch.h"
#include "nas/core/threads.h"
#include "nas/jobs/search_job.h"
#include "nas/jobs/seeds_job.h"
#include "nas/report/report.h"
#include "nas/results/results_db.h"
#include "nas/search/trial_request.h"
#include "search_spaces/planned_unet/unet_space.h"
#include "tests/support/small_training.h"
#include "tests/support/support.h"
#include "training/data/cases.h"
#include "training/inference/evaluate_cases.h"
#include "training/inference/predict.h"
#include "training/model/model_folder.h"
#include "training/model/weights.h"
#include "training/train_evaluator.h"
#include "training/trial_run.h"

namespace nas {
namespace {

using testing::HasSubstr;

TEST(SearchCases, InnerValidationIsDrawnFromTheTrainingCasesAlone) {
  Split fold;
  for (int i = 0; i < 40; ++i) fold.train.push_back("t" + std::to_string(100 + i));
  fold.val = {"v1", "v2"};
  const CaseSelection cases = select_cases(fold, 0.2, 1);
  EXPECT_EQ(cases.inner_validation.size(), 8u);
  std::set<std::string> all(cases.inner_training.begin(), cases.inner_training.end());
  all.insert(cases.inner_validation.begin(), cases.inner_validation.end());
  EXPECT_EQ(all, std::set<std::string>(fold.train.begin(), fold.train.end()));
  EXPECT_EQ(cases.held_out, fold.val);
  EXPECT_EQ(select_cases(fold, 0.5, 1).inner_validation.size(), 20u);
  EXPECT_EQ(select_cases(fold, 0.2, 1), cases);
  EXPECT_NE(select_cases(fold, 0.2, 2), cases);
  EXPECT_EQ(case_selection_from_json(to_json(cases), "test"), cases);
  EXPECT_THROW(select_cases({{"a"}, {"b"}}, 0.2, 1), Error);
  EXPECT_THROW(select_cases({{"a", "b"}, {}}, 0.2, 1), Error);
}

/// A race over trainings that are continued, where the folder has a file "race".
SearchJobOptions tiny_race(const std::filesystem::path& folder) {
  SearchJobOptions job;
  job.data = folder / "data";
  job.run_folder = folder / "run";
  job.budget.effort = 40;
  job.recipe = "auto";
  job.compare = "yes";
  job.trials = 4;
  job.threads = 2;
  job.show_progress = false;
  job.command = "voxnas search data --effort 40 -o run";
  job.code_version = "test";
  return job;
}

SearchJobOptions tiny_job(const std::filesystem::path& folder) {
  if (std::filesystem::exists(folder / "race")) return tiny_race(folder);
  SearchJobOptions job;
  job.recipe = "random";
  job.data = folder / "data";
  job.run_folder = folder / "run";
  job.budget.steps = 4;
  job.trials = 3;
  job.seed = 5;
  job.threads = 2;
  job.show_progress = false;
  job.command = "voxnas search data --steps 4 -o run";
  job.code_version = "test";
  return job;
}

void make_tiny_data(const std::filesystem::path& folder) {
  test::write_small_phantom(folder, 6, {18, 20, 16});
}

/// Not a test of its own: the process that the next test kills.
TEST(SearchJob, Child) {
  const char* folder = test::child_folder();
  if (folder == nullptr) GTEST_SKIP() << "runs in a process of its own";
  install_stop_handler();
  set_log_sink([](LogLevel, const std::string&) {});
  const std::filesystem::path run = std::filesystem::path(folder) / "run";
  if (std::filesystem::exists(run / "results.sqlite")) {
    resume_search({.run_folder = run, .show_progress = false});
  } else {
    start_search(tiny_job(folder));
  }
}

/// Runs the same job in two folders: once straight, once killed and stopped again and again.
void run_straight_and_killed(const test::TempFolder& straight, const test::TempFolder& killed) {
  setenv("VOXNAS_DATA_CACHE", (straight / "cache").c_str(), 1);
  set_log_sink([](LogLevel, const std::string&) {});
  make_tiny_data(straight.path());
  make_tiny_data(killed.path());

  ASSERT_EQ(start_search(tiny_job(straight.path())), SearchEnd::Finished);

  // Killed by -9 and stopped by Ctrl-C in turn, a random moment after the next trial has left
  // something: however fast the machine is, the first round comes long before the end.
  Rng rng("search-job-kill");
  int interruptions = 0;
  const auto database = killed / "run" / "results.sqlite";
  const auto trials_begun = [&] {
    std::error_code none;  // no such folder yet
    return std::distance(std::filesystem::directory_iterator(killed / "run" / "trials", none), {});
  };
  for (int round = 0; round < 12; ++round) {
    const pid_t child = test::start_child("SearchJob.Child", killed.path());
    const bool let_it_end = round >= 4;
    const std::chrono::duration<double> wait(rng.uniform(0, 0.2));
    int status = 0;
    bool sent = false;
    while (waitpid(child, &status, WNOHANG) == 0) {
      if (!let_it_end && !sent && trials_begun() > round) {
        std::this_thread::sleep_for(wait);
        kill(child, round % 2 == 0 ? SIGKILL : SIGINT);
        sent = true;
        ++interruptions;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    if (!sent) {
      ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
      break;
    }
  }
  EXPECT_GE(interruptions, 1);

  const std::vector<Trial> a = ResultsDb::open(straight / "run" / "results.sqlite").trials();
  const std::vector<Trial> b = ResultsDb::open(database).trials();
  EXPECT_EQ(results_table(a), results_table(b));
  EXPECT_EQ(read_file(straight / "run" / "model" / "weights.safetensors", 1 << 28),
            read_file(killed / "run" / "model" / "weights.safetensors", 1 << 28));
}

TEST(SearchJob, ARaceOfContinuedTrainingsKilledInAnyStateEndsAsTheStraightOne) {
  test::TempFolder straight, killed;
  write_file_atomic(straight / "race", "");
  write_file_atomic(killed / "race", "");
  run_straight_and_killed(straight, killed);
  const std::filesystem::path run = straight / "run";
  const ResultsDb db = ResultsDb::open_read_only(run / "results.sqlite");
  const std::vector<Trial> trials = db.trials();
  std::map<std::int64_t, const Trial*> by_id;
  std::int64_t continued = 0;
  double spent = 0;
  for (const Trial& trial : trials) {
    by_id[trial.id] = &trial;
    EXPECT_EQ(trial.status, TrialStatus::Done) << trial.evaluation.message;
    const TrialRequest request = trial_request(trial);
    std::int64_t before = 0;
    if (request.continues > 0) {
      ++continued;
      before = by_id.at(request.continues)->evaluation.steps;
      EXPECT_EQ(by_id.at(request.continues)->genotype, trial.genotype);
      EXPECT_GT(trial.steps, before) << "goes on";
    }
    EXPECT_EQ(trial.evaluation.steps, trial.steps) << "every trial does its planned compute";
    const double cost = static_cast<double>(trial.macs) / static_cast<double>(trials[0].macs);
    spent += cost * static_cast<double>(trial.steps - before);
    EXPECT_FALSE(trial.purpose == TrialPurpose::Retrain &&
                 std::abs(trial.evaluation.metrics.at("learning_rate_at_end")) > 1e-12);
  }
  EXPECT_GE(continued, 3) << "rungs and final trainings";
  EXPECT_GT(spent, 20);
  EXPECT_LT(spent, 45) << "about the effort; here counted in multiply-adds";
  EXPECT_TRUE(trial_request(trials.back()).all_cases);
  // Checkpoints of losers are gone.
  std::int64_t left = 0;
  for (const Trial& trial : trials) {
    left += std::filesystem::exists(run / trial.checkpoint / "checkpoint.pt");
  }
  EXPECT_LE(left, 2);
  const Json data = report_data(run);
  EXPECT_EQ(data.at("delivered"),
            db.stage("race")->winner.genotype == trials[0].genotype ? "baseline" : "best");
  set_log_sink(nullptr);
}

/// Both cores are taken for the middle third of a search. \returns false if the machine is too busy
/// already for so short a budget.
bool search_while_busy(SearchJobOptions job, double seconds) {
  job.budget = {.seconds = seconds};
  std::atomic<bool> over = false;
  std::vector<std::thread> burners;
  const Stopwatch watch;
  for (int i = 0; i < 2 * processor_count(); ++i) {
    burners.emplace_back([&] {
      volatile double x = 1;
      while (!over && watch.seconds() < 2 * seconds / 3) {
        if (watch.seconds() < seconds / 3) {
          std::this_thread::sleep_for(std::chrono::milliseconds(20));
        } else {
          for (int k = 0; k < 100000; ++k) x = x * 1.0000001;
        }
      }
    });
  }
  const std::string error = test::error_of([&] { start_search(job); });
  const double spent = watch.seconds();
  over = true;
  for (std::thread& burner : burners) burner.join();
  if (error.find("give --budget") != std::string::npos) return false;
  EXPECT_EQ(error, "");
  EXPECT_LT(spent, 1.25 * seconds) << "the command ends in time";
  return true;
}

TEST(SearchJob, OnABusyMachineEveryRankedTrialDidItsComputeAndTheCommandEndsInTime) {
  test::TempFolder folder;
  setenv("VOXNAS_DATA_CACHE", (folder / "cache").c_str(), 1);
  set_log_sink([](LogLevel, const std::string&) {});
  make_tiny_data(folder.path());
  const SearchJobOptions job = tiny_race(folder.path());
  double seconds = 30;
  while (!search_while_busy(job, seconds)) {
    seconds *= 2;
    ASSERT_LE(seconds, 240) << "no budget is enough";
  }
  std::int64_t ranked = 0;
  for (const Trial& trial : ResultsDb::open_read_only(folder / "run/results.sqlite").trials()) {
    if (trial.status != TrialStatus::Done) continue;
    if (trial.purpose == TrialPurpose::Search) {
      ++ranked;
      EXPECT_EQ(trial.evaluation.steps, trial.steps);
    } else {
      EXPECT_NEAR(trial.evaluation.metrics.at("learning_rate_at_end"), 0, 1e-12);
      EXPECT_FALSE(trial.evaluation.metrics.contains("stopped_by_time"));
    }
  }
  EXPECT_GE(ranked, 2);
  set_log_sink(nullptr);
}

TEST(SearchJob, WholeSearchDeliversAModelAndKilledItEndsAlike) {
  test::TempFolder straight, killed;
  run_straight_and_killed(straight, killed);
  const std::vector<Trial> a = ResultsDb::open(straight / "run" / "results.sqlite").trials();

  // What the straight run left behind.
  const std::filesystem::path run = straight / "run";
  const Json data = report_data(run);
  const Json setup = Json::parse(ResultsDb::open(run / "results.sqlite").run().setup_json);
  const CaseSelection cases = case_selection_from_json(setup.at("cases"), "test");
  for (const Trial& trial : a) {
    EXPECT_EQ(trial.status, TrialStatus::Done) << trial.evaluation.message;
    EXPECT_EQ(trial.evaluation.steps, trial.steps);
    const Json details = Json::parse(trial.evaluation.details);
    std::vector<std::string> scored;
    for (const Json& c : details.at("cases")) scored.push_back(c.at("id"));
    EXPECT_EQ(scored,
              trial.purpose == TrialPurpose::Search ? cases.inner_validation : cases.held_out);
    EXPECT_FALSE(std::filesystem::exists(run / trial.checkpoint / "checkpoint.pt"));
  }
  EXPECT_EQ(a.back().label, "baseline");
  EXPECT_EQ(a.back().steps, 4);
  EXPECT_NO_THROW(load_model(run / "model"));
  EXPECT_NO_THROW(load_model(run / "baseline"));
  const std::string report = read_file(run / "report.html", 1 << 28);
  EXPECT_THAT(report, HasSubstr("data:image/png;base64,"));
  EXPECT_THAT(report, HasSubstr("Drawing ("));
  EXPECT_THAT(report, testing::Not(HasSubstr("No drawing")));

  // A finished run is left alone, a new one does not overwrite it, another data set is noticed.
  EXPECT_EQ(resume_search({.run_folder = run, .show_progress = false}), SearchEnd::Finished);
  EXPECT_THROW(start_search(tiny_job(straight.path())), Error);
  std::filesystem::copy_file(
      straight / "data" / "labelsTr" / std::filesystem::path(cases.training[0] + ".nii.gz"),
      straight / "data" / "labelsTr" / std::filesystem::path(cases.training[1] + ".nii.gz"),
      std::filesystem::copy_options::overwrite_existing);
  EXPECT_THROW(resume_search({.run_folder = run, .show_progress = false}), Error);
  set_log_sink(nullptr);
}

TEST(SearchJob, RefusesABudgetThatCannotBuyASearchAndWritesNothing) {
  test::TempFolder folder;
  setenv("VOXNAS_DATA_CACHE", (folder / "cache").c_str(), 1);
  set_log_sink([](LogLevel, const std::string&) {});
  make_tiny_data(folder.path());
  SearchJobOptions job = tiny_job(folder.path());
  job.budget = {.seconds = 3};
  std::string message;
  try {
    start_search(job);
  } catch (const Error& error) {
    message = error.what();
  }
  EXPECT_THAT(message, HasSubstr("give --budget"));
  EXPECT_FALSE(std::filesystem::exists(job.run_folder));
  job.budget = {.steps = 4};
  job.fold = 99;
  EXPECT_THROW(start_search(job), Error);
  set_log_sink(nullptr);
}

TEST(SearchJob, ARefusalBeforeTheFirstTrialBlocksNoOtherStart) {
  test::TempFolder folder;
  setenv("VOXNAS_DATA_CACHE", (folder / "cache").c_str(), 1);
  set_log_sink([](LogLevel, const std::string&) {});
  make_tiny_data(folder.path());
  SearchJobOptions job = tiny_job(folder.path());
  job.trials = 2;
  job.budget.steps = 2;
  const Limits free = job.limits;
  for (const std::int64_t seeds : {1, 2}) {
    job.limits.max_parameters = 1;
    const auto start = [&] {
      if (seeds > 1) {
        start_seeds(job, seeds);
      } else {
        start_search(job);
      }
    };
    EXPECT_THAT(test::error_of(start), HasSubstr("within the limits"));
    EXPECT_FALSE(std::filesystem::exists(RunFolder(job.run_folder).database()));
    EXPECT_FALSE(is_seeds_run(job.run_folder));
    job.limits = free;
    EXPECT_EQ(test::error_of(start), "");
    job.run_folder = folder / "second";
  }
  set_log_sink(nullptr);
}

TEST(SearchJob, ARunGoesOnWhereItsDataMovedAndSaysWhatChanged) {
  test::TempFolder folder;
  setenv("VOXNAS_DATA_CACHE", (folder / "cache").c_str(), 1);
  set_log_sink([](LogLevel, const std::string&) {});
  make_tiny_data(folder.path());
  SearchJobOptions job = tiny_job(folder.path());
  job.trials = 1;
  job.budget.steps = 2;
  start_search(job);
  const RunFolder run(job.run_folder);
  std::filesystem::rename(folder / "data", folder / "elsewhere");
  const auto resume = [&](const std::filesystem::path& data) {
    return test::error_of(
        [&] { resume_search({.run_folder = run.path(), .data = data, .show_progress = false}); });
  };
  EXPECT_THAT(resume({}), HasSubstr("no longer there"));
  EXPECT_EQ(resume(folder / "elsewhere"), "");
  EXPECT_EQ(resume({}), "");
  EXPECT_EQ(ResultsDb::open(run.database()).run().data_folder, (folder / "elsewhere").string());
  const DataSet data = open_data_set(folder / "elsewhere");
  std::filesystem::copy_file(data.training[0].images[0],
                             data.training[4].images[0],
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(resume({}), HasSubstr("the content of " + data.training[4].images[0].string()));
  set_log_sink(nullptr);
}

TEST(SearchJob, MirroringThatCannotBeTriedStaysOff) {
  test::TempFolder folder;
  setenv("VOXNAS_DATA_CACHE", (folder / "cache").c_str(), 1);
  std::string log;
  set_log_sink([&](LogLevel, const std::string& line) { log += line + "\n"; });
  make_tiny_data(folder.path());
  SearchJobOptions job = tiny_job(folder.path());
  job.trials = 1;
  job.budget.steps = 95;  // 63 passes of batch 2 over three cases: the rule would mirror
  start_search(job);
  set_log_sink(nullptr);
  EXPECT_THAT(log, HasSubstr("mirroring stays off"));
  const ResultsDb db = ResultsDb::open(RunFolder(job.run_folder).database());
  const Json setup = Json::parse(db.run().setup_json);
  EXPECT_FALSE(setup.at("forecast").at("mirroring").at("mirror").get<bool>());
  for (const Trial& trial : db.trials()) {
    EXPECT_FALSE(Json::parse(trial.settings).at("mirror").get<bool>());
  }
}

TEST(SearchJob, MirroringAndStrengthOfAugmentationAreContendersOfTheRace) {
  test::TempFolder folder;
  setenv("VOXNAS_DATA_CACHE", (folder / "cache").c_str(), 1);
  std::string log;
  set_log_sink([&](LogLevel, const std::string& line) { log += line + "\n"; });
  test::write_left_right(folder.path(), 4);  // organs that differ in their place alone
  SearchJobOptions job = tiny_race(folder.path());
  job.budget.effort = 32;
  job.trials = 8;
  job.compare = "no";
  start_search(job);
  set_log_sink(nullptr);
  EXPECT_THAT(log, HasSubstr("mirroring is offered to the race"));
  EXPECT_THAT(log, HasSubstr("recipe auto:"));
  EXPECT_THAT(log, HasSubstr("stage cells (single-path super-network (C2FNAS, cells)): left out"));
  EXPECT_THAT(log, HasSubstr("own trainings would check its ranking"));
  const ResultsDb db = ResultsDb::open_read_only(RunFolder(job.run_folder).database());
  const auto mirrors = [](const Trial& trial) {
    const bool mirror = Json::parse(trial.settings).at("mirror").get<bool>();
    EXPECT_EQ(mirror, trial.genotype_text.find("mirror=rule") != std::string::npos);
    return mirror;
  };
  std::int64_t mirrored = 0;
  std::map<std::string, std::set<double>> strengths;  // by network
  for (const Trial& trial : db.trials("race")) {
    mirrored += mirrors(trial);
    strengths[trial.graph_id].insert(Json::parse(trial.settings).at("augmentation").get<double>());
  }
  EXPECT_GE(mirrored, 1) << "took part";
  EXPECT_TRUE(std::ranges::any_of(strengths, [](const auto& one) {
    return one.second.size() == 3;
  })) << "of one network every strength";
  const std::vector<Trial> finals = db.trials("final");
  ASSERT_EQ(finals.size(), 1U);
  EXPECT_FALSE(mirrors(db.trials("race").front())) << "the plan is trained without";
  EXPECT_EQ(load_model(RunFolder(job.run_folder).model()).mirrored, mirrors(finals[0]));
}

TEST(SearchJob, SurvivesAStopByItsKindAlone) {
  const Evaluation stopped =
      survive([]() -> Evaluation { throw Error(ErrorKind::Stopped, "stopped while predicting"); });
  EXPECT_EQ(stopped.status, TrialStatus::Stopped);
  request_stop();
  EXPECT_THROW(survive([]() -> Evaluation { throw Error(ErrorKind::Io, "the disk is full"); }),
               Error);
  request_stop(false);
}

TEST(SeedsJob, EverySeedHasAClockOfItsOwn) {
  test::TempFolder folder;
  setenv("VOXNAS_DATA_CACHE", (folder / "cache").c_str(), 1);
  set_log_sink([](LogLevel, const std::string&) {});
  test::write_small_phantom(folder.path(), 5, {12, 16, 12});
  SearchJobOptions job = tiny_job(folder.path());
  job.trials = 1;
  job.budget = {.seconds = 100};
  ASSERT_EQ(start_seeds(job, 2, /*spent_seconds=*/1), SearchEnd::Finished);
  const RunFolder run(job.run_folder);
  double spent = 0;
  for (const std::uint64_t seed : {5, 6}) {
    const ResultsDb db = ResultsDb::open(run.seed(seed).database());
    const Budget budget = db.run().budget;
    EXPECT_NEAR(budget.seconds, (100 - spent) / (seed == 5 ? 2 : 1), 1e-9);
    EXPECT_LT(db.clock(), 1.2 * budget.seconds);
    EXPECT_GT(db.trials().back().evaluation.steps, 0);
    spent += db.clock();
  }
  EXPECT_EQ(read_json(run.summary()).at("runs").size(), 2u);
  EXPECT_EQ(resume_seeds({.run_folder = run.path(), .show_progress = false}), SearchEnd::Finished)
      << "nothing is left to do";
  set_log_sink(nullptr);
}

}  // namespace
}  // namespace nas
