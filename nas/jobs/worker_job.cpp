// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/worker_job.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include "nas/core/error.h"
#include "nas/core/log.h"
#include "nas/core/progress.h"
#include "nas/core/run_folder.h"
#include "nas/core/stop.h"
#include "nas/core/stopwatch.h"
#include "nas/jobs/leading/run_clock.h"
#include "nas/jobs/reopen.h"
#include "nas/plugins/external_executor.h"
#include "nas/results/process.h"
#include "nas/results/run_database.h"
#include "nas/search/log_listener.h"
#include "nas/search/worker.h"
#include "training/model/device.h"

namespace nas {
namespace {

constexpr auto kRenewEvery = std::chrono::seconds(1);  // the lease, and how soon a wish is seen
constexpr auto kShortestWait = std::chrono::milliseconds(1);
constexpr auto kLongestWait = std::chrono::milliseconds(250);

/// Says every second that the worker lives, whatever its training is busy with.
class Heartbeat {
 public:
  Heartbeat(std::unique_ptr<TrialStore> store, std::string name)
      : store_(std::move(store)), name_(std::move(name)), thread_([this] { beat(); }) {}
  ~Heartbeat() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      over_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;

  bool suspended() const { return suspended_; }
  bool stopped() const { return stopped_; }

 private:
  void beat() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (!over_) {
      lock.unlock();
      try {
        const std::string wish = store_->renew(name_);
        suspended_ = wish == "suspend";
        stopped_ = wish == "stop";
      } catch (const Error& error) {
        log_warning("worker ", name_, ": ", error.what());  // the next beat may get through
      }
      lock.lock();
      changed_.wait_for(lock, kRenewEvery, [this] { return over_; });
    }
  }

  const std::unique_ptr<TrialStore> store_;
  const std::string name_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  std::atomic<bool> suspended_ = false, stopped_ = false;
  std::thread thread_;
};

/// The stage that runs; nullptr between two.
const StageSpec* running_stage(const TrialStore& store, const Recipe& recipe, StageRecord& record) {
  for (const StageRecord& each : store.stages()) {
    if (each.status != "running") continue;
    record = each;
    const auto stage = std::ranges::find(recipe.stages, each.name, &StageSpec::name);
    return stage == recipe.stages.end() ? nullptr : &*stage;
  }
  return nullptr;
}

void check_name_is_free(const TrialStore& store, const std::string& name) {
  NAS_CHECK_KIND(Usage,
                 !name.empty() && name != TrialStore::kLeader && name.size() <= 100 &&
                     name.find_first_of("/\\\n\t \"'") == std::string::npos,
                 "--name: expected a name without blanks, slashes and quotes, found \"",
                 name.substr(0, 64),
                 "\"");
  for (const WorkerRecord& worker : store.workers()) {
    NAS_CHECK_KIND(Usage,
                   worker.name != name || !worker.alive,
                   "--name: a worker ",
                   name,
                   " of this run lives already, on ",
                   worker.host);
  }
}

}  // namespace

std::int64_t run_worker(const WorkerJob& job) {
  if (job.parent > 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != job.parent) request_stop();  // it ended before that
  }
  const RunFolder folder(job.run_folder);
  NAS_CHECK_KIND(Usage, has_database(folder), folder.text(), ": expected a run folder, found none");
  ResultsDb db = open_to_write(folder);
  const RunRecord run = db.run();
  if (!job.device.empty()) choose_device(job.device);  // a wrong name fails before any work
  check_code_version(folder, run, job.code_version, ": its workers must be of the same");
  const std::string name = job.name.empty() ? concat_text(host_name(), "-", ::getpid()) : job.name;
  check_name_is_free(db, name);
  Reopened opened;
  opened.open(
      db,
      folder,
      {.data = job.data, .device = job.device, .threads = job.threads, .show_progress = false});
  Workbench& bench = opened.bench;
  NAS_CHECK_KIND(
      Usage,
      opened.executor == job.executor,
      "--executor: the run was begun with ",
      opened.executor.empty() ? std::string("none") : "the program \"" + opened.executor + "\"",
      "; its workers need the same");
  if (const std::string known = db.measured(); !known.empty()) bench.evaluator->restore(known);
  const auto clock = make_run_clock(run.budget.has_clock(), db.clock());
  db.add_worker({.name = name,
                 .host = host_name(),
                 .process = this_process(),
                 .devices = choose_device(opened.base.device).str(),
                 .code_version = job.code_version});
  const auto log = make_log_listener(*bench.space, clock);
  const Heartbeat heartbeat(db.again(), name);
  std::int64_t finished = 0;
  WorkerSetup setup;
  setup.store = &db;
  const std::unique_ptr<Evaluator> executor =
      own_executor(job.executor, *bench.space, *bench.evaluator);
  setup.evaluator = executor ? executor.get() : bench.evaluator.get();
  setup.budget = run.budget;
  setup.clock = clock;
  setup.should_stop = [&] { return stop_requested() || heartbeat.stopped(); };
  setup.folder = folder.path();
  setup.name = name;
  setup.started = [&](const Trial& trial) { log->trial_started(trial); };
  setup.ended = [&](const Trial& trial) {
    log->trial_ended(trial);
    finished += trial.status != TrialStatus::Stopped;
  };
  Worker worker(std::move(setup));
  log_info("worker ", name, " of ", folder.text(), " on ", opened.base.device);
  auto wait = kShortestWait;
  Stopwatch idle;
  std::string told = "idle";
  const auto tell_state = [&](const std::string& state) {
    if (state != told) db.set_worker_state(name, told = state);
  };
  while (true) {
    if (stop_requested() || heartbeat.stopped()) break;
    const std::string state = db.state();
    if (state == "done") break;
    const bool led = state == "running";
    // Nobody leads, or not for long: a leader ends its own workers itself.
    if (!led && job.idle_seconds == 0 && job.parent == 0) break;
    if (job.max_trials > 0 && finished >= job.max_trials) break;
    if (job.idle_seconds > 0 && idle.seconds() > job.idle_seconds) break;
    StageRecord record;
    const StageSpec* stage =
        led && !heartbeat.suspended() ? running_stage(db, bench.recipe, record) : nullptr;
    const Worker::Did did = stage == nullptr ? Worker::Did::Nothing : worker.work(*stage, record);
    if (did == Worker::Did::Stopped) break;
    if (did == Worker::Did::Trials) {
      tell_state("busy");
      wait = kShortestWait;
      idle.restart();
      continue;
    }
    tell_state(heartbeat.suspended() ? "suspended" : "idle");
    std::this_thread::sleep_for(wait);
    wait = std::min(kLongestWait, 2 * wait);
  }
  db.set_worker_state(name, "ended");
  log_info("worker ", name, " ends after ", finished, " trial(s)");
  return finished;
}

}  // namespace nas
