// SPDX-License-Identifier: Apache-2.0
// What the queue itself costs, on this machine: processes that claim a trial and write a metric as
// fast as they can (with some of them killed), and whole searches whose trials do nothing. Prints
// Markdown. Figures are of one machine; the shares (least-served worker, lost, twice) are not.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <vector>

#include "nas/core/error.h"
#include "nas/core/stopwatch.h"
#include "nas/jobs/strategies/strategies.h"
#include "nas/results/process.h"
#include "nas/results/results_db.h"
#include "nas/search/recipe.h"
#include "nas/search/run_search.h"
#include "nas/search/worker.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

constexpr Budget kBudget{.steps = 1'000'000'000};

/// Ten genes of ten values: no two trials need be alike.
class Digits : public SearchSpace {
 public:
  Digits() {
    for (int g = 0; g < 10; ++g) {
      genes_.push_back(
          {"g" + std::to_string(g), "scale", {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}});
    }
  }
  std::string name() const override { return "digits"; }
  const std::vector<Gene>& genes() const override { return genes_; }
  std::string invalid_reason(const Genotype&) const override { return ""; }
  Phenotype build(const Genotype&) const override { return {}; }
  Genotype baseline() const override { return {std::vector<int>(10, 0)}; }
  Json describe() const override { return {{"name", "digits"}}; }

 private:
  std::vector<Gene> genes_;
};

class NoTraining : public Evaluator {
 public:
  TrialCost describe(const Genotype&) override {
    TrialCost cost;
    cost.graph_id = "none";
    return cost;
  }
  Probe probe(const Genotype&, TrialPurpose) override { return {1, 0, 0}; }
  TrialPlan plan(const Trial& trial) override { return {trial.steps, "{}"}; }
  Evaluation evaluate(const Trial& trial, const TrialContext&) override {
    Evaluation e;
    e.status = TrialStatus::Done;
    e.steps = trial.steps;
    e.score = std::accumulate(trial.genotype.values.begin(), trial.genotype.values.end(), 0) / 90.0;
    return e;
  }
};

RunRecord record() {
  RunRecord run;
  run.recipe_json = run.plan_json = run.space_json = run.setup_json = "{}";
  run.budget = kBudget;
  return run;
}

template <class Body>
pid_t in_child(Body&& body) {
  const pid_t child = fork();
  if (child != 0) return child;
  int code = 1;
  try {
    body();
    code = 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
  }
  _exit(code);
}

void wait_for(const std::vector<pid_t>& children) {
  for (const pid_t child : children) {
    int status = 0;
    waitpid(child, &status, 0);
  }
}

struct Served {
  double per_second = 0, least = 0;  // transactions; the least-served worker against the mean
  std::int64_t lost = 0, twice = 0;
};

/// `processes` claim trials and write one metric each, for `seconds`; `killed` of them die halfway.
Served serve(const fs::path& folder, int processes, int killed, double seconds) {
  const fs::path file = folder / "queue.sqlite";
  fs::remove(file);
  fs::remove(file.string() + "-wal");
  fs::remove(file.string() + "-shm");
  constexpr std::int64_t kQueued = 60000;
  {
    ResultsDb db = ResultsDb::create(file, record());
    db.start_stage({"search", "running", {}, 0, 0});
    std::vector<Trial> trials(kQueued);
    for (std::int64_t i = 0; i < kQueued; ++i) {
      trials[static_cast<std::size_t>(i)].proposal = i;
      trials[static_cast<std::size_t>(i)].genotype = {{0}};
    }
    db.add_trials("search", trials, {});
  }
  std::vector<pid_t> children;
  // All are ready before any begins: opening checks the whole file.
  int ready[2], go[2];
  NAS_CHECK_KIND(Io, pipe(ready) == 0 && pipe(go) == 0, "cannot make a pipe");
  for (int i = 0; i < processes; ++i) {
    children.push_back(in_child([&] {
      ResultsDb db = ResultsDb::open(file);
      const std::string name = "W" + std::to_string(i);
      db.add_worker(
          {.name = name, .host = host_name(), .process = this_process(), .devices = "cpu"});
      char byte = 0;
      NAS_CHECK(write(ready[1], &byte, 1) == 1 && read(go[0], &byte, 1) == 1, "no start");
      const Stopwatch watch;
      Evaluation e;
      e.status = TrialStatus::Done;
      while (watch.seconds() < seconds) {
        const auto trial = db.claim("search", 0, nullptr, name);
        if (!trial) break;
        db.add_report(*trial, 1, "score", 0.5, 0);
        if (!db.finish(*trial, e, 0)) std::cerr << name << ": fenced off\n";
      }
    }));
  }
  char byte = 0;
  for (int i = 0; i < processes; ++i) NAS_CHECK(read(ready[0], &byte, 1) == 1, "a process failed");
  const std::string bytes(static_cast<std::size_t>(processes), 'g');
  NAS_CHECK(write(go[1], bytes.data(), bytes.size()) == processes, "no start");
  for (int i = 0; i < killed; ++i) {
    ::usleep(static_cast<useconds_t>(1e6 * seconds * 0.5 / std::max(1, killed)));
    kill(children[static_cast<std::size_t>(i)], SIGKILL);
  }
  wait_for(children);
  for (const int end : {ready[0], ready[1], go[0], go[1]}) close(end);
  ResultsDb db = ResultsDb::open(file);
  db.requeue_lost(0, false);
  std::map<std::string, std::int64_t> done;
  for (int i = killed; i < processes; ++i) done["W" + std::to_string(i)] = 0;
  Served served;
  std::int64_t total = 0;
  for (const Trial& trial : db.trials()) {
    if (trial.status == TrialStatus::Done) {
      ++total;
      if (done.contains(trial.owner)) ++done[trial.owner];
    } else if (trial.status != TrialStatus::Queued) {
      ++served.lost;
    }
  }
  const auto reports = static_cast<std::int64_t>(db.reports().size());
  served.twice = std::max<std::int64_t>(0, total - reports);
  double mean = 0, least = 1e300;
  for (const auto& [name, count] : done) {
    mean += static_cast<double>(count) / static_cast<double>(done.size());
    least = std::min(least, static_cast<double>(count));
  }
  served.per_second = 3.0 * static_cast<double>(total) / seconds;
  served.least = mean > 0 ? least / mean : 0;
  return served;
}

/// Seconds of a whole search of `trials` trials that do nothing.
double search(const fs::path& folder, std::int64_t trials, int workers, double* least) {
  fs::remove_all(folder / "run");
  fs::create_directories(folder / "run");
  const fs::path file = folder / "run/results.sqlite";
  ResultsDb db = ResultsDb::create(file, record());
  Recipe recipe = load_recipe("random", strategy_kinds());
  recipe.stages[0].set("trials", trials);
  recipe.stages[0].set("rungs", 1);
  recipe.stages[0].async = true;
  std::vector<pid_t> children;
  for (int i = 0; i < workers; ++i) {
    children.push_back(in_child([&] {
      ResultsDb mine = ResultsDb::open(file);
      NoTraining evaluator;
      WorkerSetup setup;
      setup.store = &mine;
      setup.evaluator = &evaluator;
      setup.budget = kBudget;
      setup.clock = [] { return 0.0; };
      setup.folder = folder / "run";
      setup.name = "W" + std::to_string(i);
      mine.add_worker(
          {.name = setup.name, .host = host_name(), .process = this_process(), .devices = "cpu"});
      Worker worker(setup);
      StageRecord stage;
      stage.name = "search";
      useconds_t wait = 50;
      while (true) {
        const auto now = mine.stage("search");
        if (now && now->status == "done") break;
        if (now && worker.work(recipe.stages[0], stage) == Worker::Did::Trials) {
          wait = 50;
          continue;
        }
        ::usleep(wait);
        wait = std::min<useconds_t>(2000, 2 * wait);
      }
    }));
  }
  Digits space;
  NoTraining evaluator;
  SearchSetup setup;
  setup.database = &db;
  setup.space = &space;
  setup.evaluator = &evaluator;
  recipe.stages.resize(1);
  setup.recipe = recipe;
  setup.budget = kBudget;
  setup.clock = [] { return 0.0; };
  setup.folder = folder / "run";
  if (workers > 0) setup.workers = [workers] { return std::int64_t{workers}; };
  const Stopwatch watch;
  run_search(setup);
  const double seconds = watch.seconds();
  wait_for(children);
  std::map<std::string, std::int64_t> done;
  for (const Trial& trial : db.trials()) ++done[trial.owner];
  if (workers > 0 && least != nullptr) {
    std::int64_t fewest = trials;
    for (const auto& [name, count] : done) fewest = std::min(fewest, count);
    if (static_cast<int>(done.size()) < workers) fewest = 0;
    *least = static_cast<double>(fewest) * workers / static_cast<double>(trials);
  }
  return seconds;
}

int run(double seconds, std::int64_t trials) {
  const fs::path folder =
      fs::temp_directory_path() / ("voxnas-bench-queue-" + std::to_string(getpid()));
  fs::create_directories(folder);
  std::puts("| processes | killed | transactions/s | least-served / mean | lost | done twice |");
  std::puts("|---|---|---|---|---|---|");
  for (const auto& [processes, killed] : {std::pair{1, 0}, {16, 0}, {64, 0}, {64, 8}}) {
    const Served s = serve(folder, processes, killed, seconds);
    std::printf("| %d | %d | %.0f | %.2f | %lld | %lld |\n",
                processes,
                killed,
                s.per_second,
                s.least,
                static_cast<long long>(s.lost),
                static_cast<long long>(s.twice));
    std::fflush(stdout);
  }
  std::puts(
      "\n| trials that do nothing | workers | ms a trial | least-served / mean "
      "|\n|---|---|---|---|");
  for (const int workers : {0, 1, 8}) {
    double least = 1;
    const double spent = search(folder, trials, workers, &least);
    std::printf("| %lld | %s | %.2f | %.2f |\n",
                static_cast<long long>(trials),
                workers == 0 ? "in the leader" : std::to_string(workers).c_str(),
                1000 * spent / static_cast<double>(trials),
                least);
    std::fflush(stdout);
  }
  fs::remove_all(folder);
  return 0;
}

}  // namespace
}  // namespace nas

int main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 5;
  const std::int64_t trials = argc > 2 ? std::atoll(argv[2]) : 10000;
  return nas::run(seconds, trials);
}
