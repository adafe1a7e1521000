// SPDX-License-Identifier: Apache-2.0
#include "nas/search/run_search.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <thread>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/exception_text.h"
#include "nas/core/log.h"
#include "nas/core/stopwatch.h"
#include "nas/search/draws.h"
#include "nas/search/stage_controller.h"
#include "nas/search/trial_request.h"
#include "nas/search/worker.h"

namespace nas {
namespace {

constexpr double kLookSeconds = 1;  // between two looks for workers that died
constexpr auto kShortestWait = std::chrono::microseconds(200);
constexpr auto kLongestWait = std::chrono::microseconds(20000);

/// Size of a genotype, with its measured step time where a limit or an objective asks for it.
TrialCost describe_timed(const SearchSetup& setup, const Genotype& genotype) {
  TrialCost cost = setup.evaluator->describe(genotype);
  if (measures_step_times(setup.recipe) && cost.step_seconds == 0) {
    cost.step_seconds = setup.evaluator->step_seconds(genotype);
  }
  return cost;
}

ControllerSetup controller_setup(const SearchSetup& setup) {
  ControllerSetup result;
  result.store = setup.database;
  result.space = setup.space;
  result.recipe = &setup.recipe;
  result.budget = setup.budget;
  result.seed = setup.seed;
  result.clock = setup.clock;
  result.folder = setup.folder;
  result.portfolio = setup.portfolio;
  result.describe = [&setup](const Genotype& g) { return setup.evaluator->describe(g); };
  result.describe_timed = [&setup](const Genotype& g) { return describe_timed(setup, g); };
  return result;
}

TrialPurpose probe_purpose(const StageSpec& stage) {
  return stage.kind->final ? TrialPurpose::Retrain : TrialPurpose::Search;
}

/// Compute that the run's trainings took, in steps of the plan at batch 2. What others enqueued
/// comes on top of the budget.
double spent_effort(const ControllerSetup& setup) {
  double spent = 0;
  for (const Trial& trial : setup.store->trials()) {
    if (!trial.asked_by.empty()) continue;
    spent += effort_of(setup, trial, trial.evaluation.steps - trial_request(trial).done);
  }
  return spent;
}

StageRecord start_or_find_stage(const SearchSetup& setup,
                                const ControllerSetup& control,
                                std::size_t index) {
  const StageSpec& stage = setup.recipe.stages[index];
  if (auto record = setup.database->stage(stage.name)) return *record;
  searched_groups(*setup.space, stage);  // refuses what the space does not have
  Probe probe;
  double candidate_seconds = 0, spent = setup.clock();
  std::optional<Probe> start;
  if (setup.budget.effort > 0) spent = spent_effort(control);
  if (setup.budget.has_clock()) {
    probe = setup.evaluator->probe(setup.space->baseline(), probe_purpose(stage));
    if (!stage.kind->counts_with_baseline) {
      const auto winner = start_of(control, index);
      start = setup.evaluator->probe(winner ? winner->genotype : setup.space->start(),
                                     TrialPurpose::Search);
    }
    if (stage.kind->counts_candidates) {
      candidate_seconds =
          setup.evaluator->probe(setup.space->start(), TrialPurpose::Inherited).evaluation_seconds;
    }
  }
  StageRecord record;
  record.name = stage.name;
  record.status = "running";
  record.started = setup.clock();
  record.budget =
      stage_budget(setup.recipe, index, setup.budget, spent, probe, candidate_seconds, start);
  setup.database->start_stage(record);
  return record;
}

/// What happens, told to listeners. One that throws is named in the log and does not end the search.
class Announcer {
 public:
  explicit Announcer(const SearchSetup& setup) : setup_(setup) {}

  template <class Tell>
  void tell(Tell&& tell_one) {
    for (SearchListener* listener : setup_.listeners) {
      try {
        tell_one(*listener);
      } catch (const Error& error) {
        if (error.kind() == ErrorKind::Internal) throw;
        log_warning("listener ", listener->name(), ": ", error.what());
      } catch (const std::exception& error) {
        log_warning("listener ", listener->name(), ": ", exception_text(error));
      }
    }
  }

  void begin_stage(const StageSpec& stage) {
    stage_ = &stage;
    open_.clear();
    best_ = setup_.database->best_trial(stage.name);
    for (const OpenTrial& open : setup_.database->open_trials(stage.name)) open_[open.id] = 0;
  }
  void started(const Trial& trial) {
    open_[trial.id] = trial.attempt;
    tell([&](SearchListener& l) { l.trial_started(trial); });
  }
  void ended(const Trial& trial) {
    open_.erase(trial.id);
    tell([&](SearchListener& l) { l.trial_ended(trial); });
    const bool counts = trial.status == TrialStatus::Done && trial.purpose == TrialPurpose::Search;
    // Of this stage: scores of different stages do not compare.
    if (!counts || (best_ && !better(trial, *best_))) return;
    best_ = trial;
    setup_.database->add_event(
        trial.ended,
        trial.id,
        "best improved",
        concat_text(setup_.space->short_text(trial.genotype), ": ", trial.evaluation.score));
    tell([&](SearchListener& l) { l.best_improved(trial); });
  }
  void proposed(const std::vector<std::int64_t>& ids) {
    for (const std::int64_t id : ids) open_.emplace(id, 0);
    if (!ids.empty()) tell([&](SearchListener& l) { l.proposed(*stage_, ids); });
  }
  /// What other processes have begun and ended since the last look.
  void look() {
    std::map<std::int64_t, int> now;
    for (const OpenTrial& open : setup_.database->open_trials(stage_->name)) {
      now[open.id] = open.running ? open.attempt : 0;
    }
    const std::map<std::int64_t, int> before = open_;
    for (const auto& [id, attempt] : before) {
      const auto found = now.find(id);
      bool over = found == now.end();
      if (!over && (found->second == 0 || found->second == attempt)) continue;
      const auto trial = setup_.database->trial(id);
      if (!trial) continue;
      over = over && !is_open(trial->status);  // it may be queued again by now
      const bool begun = over || trial->status == TrialStatus::Running;
      if (begun && attempt != trial->attempt && trial->attempt > 0) started(*trial);
      if (over) ended(*trial);
    }
    for (const auto& [id, attempt] : now) open_.emplace(id, 0);
  }

 private:
  static bool better(const Trial& a, const Trial& b) {
    if (a.rung != b.rung) return a.rung > b.rung;
    if (a.evaluation.score != b.evaluation.score) return a.evaluation.score > b.evaluation.score;
    return a.id < b.id;
  }
  const SearchSetup& setup_;
  const StageSpec* stage_ = nullptr;
  std::map<std::int64_t, int> open_;  // id to the attempt that was told; 0: none yet
  std::optional<Trial> best_;
};

/// The only loop: decide, carry out (here, or by others), tell.
class Leader {
 public:
  explicit Leader(const SearchSetup& setup)
      : setup_(setup), control_(controller_setup(setup)), announce_(setup) {
    WorkerSetup worker;
    worker.store = setup.database;
    worker.evaluator = setup.evaluator;
    worker.budget = setup.budget;
    worker.clock = setup.clock;
    worker.should_stop = [this] { return should_stop(); };
    worker.folder = setup.folder;
    worker.started = [this](const Trial& trial) { announce_.started(trial); };
    worker.ended = [this](const Trial& trial) { announce_.ended(trial); };
    worker_ = std::make_unique<Worker>(std::move(worker));
    for (SearchListener* listener : setup.listeners) {
      listener->attach(*setup.database, *setup.space);
    }
  }

  SearchEnd run() {
    TrialStore& db = *setup_.database;
    db.set_state("running");
    const std::vector<std::string> open = db.requeue_lost(setup_.clock(), true);
    if (!open.empty()) {
      db.add_event(
          setup_.clock(), 0, "resumed", concat_text(open.size(), " interrupted trial(s) queued"));
    }
    if (const std::string known = db.measured(); !known.empty()) setup_.evaluator->restore(known);
    store_measured(db, *setup_.evaluator);
    announce_.tell([&](SearchListener& l) { l.search_started(*setup_.space, setup_.recipe); });
    SearchEnd end = SearchEnd::Finished;
    try {
      end = run_stages();
    } catch (...) {
      db.set_state("failed");
      throw;
    }
    db.set_state(end == SearchEnd::Finished ? "done" : "stopped");
    announce_.tell([&](SearchListener& l) { l.search_ended(end); });
    return end;
  }

 private:
  SearchEnd run_stages() {
    SearchEnd end = SearchEnd::Finished;
    for (std::size_t i = 0; i < setup_.recipe.stages.size() && end == SearchEnd::Finished; ++i) {
      end = run_stage(i);
    }
    return end;
  }

  SearchEnd run_stage(std::size_t index) {
    const StageSpec& stage = setup_.recipe.stages[index];
    const StageRecord record = start_or_find_stage(setup_, control_, index);
    if (record.status == "done") return SearchEnd::Finished;
    StageController controller(control_, index, record);
    refuse_late(index);
    const auto found_before = start_of(control_, index);
    const Genotype start = found_before ? found_before->genotype : setup_.space->start();
    announce_.begin_stage(stage);
    announce_.tell([&](SearchListener& l) {
      l.stage_started(stage, record.budget, start, controller.planned_trials());
    });
    auto wait = kShortestWait;
    while (!controller.finished()) {
      bool active = false;
      if (setup_.workers) {
        if (should_stop()) return stopped(controller);
        tend();
        announce_.look();
      } else {
        const Worker::Did did = worker_->work(stage, record);
        if (did == Worker::Did::Stopped) return stopped(controller);
        active = did == Worker::Did::Trials;
        if (!active) {  // others may work on the run too
          tend();
          announce_.look();
        }
      }
      active = controller.turn(setup_.workers ? setup_.workers() : 1) || active;
      announce_.proposed(controller.proposed());
      announce_.tell([&](SearchListener& l) {
        const std::string reason = l.wants_to_stop();
        if (reason.empty() || stage.kind->final) return;  // what was found is trained to its end
        controller.stop(concat_text(l.name(), ": ", reason));
      });
      wait = active ? kShortestWait : std::min(kLongestWait, 2 * wait);
      if (!active && !controller.finished()) std::this_thread::sleep_for(wait);
    }
    if (setup_.workers) announce_.look();
    const Winner winner = controller.end();
    announce_.tell([&](SearchListener& l) { l.stage_ended(stage, winner); });
    return SearchEnd::Finished;
  }

  static SearchEnd stopped(StageController& controller) {
    controller.rest();
    return SearchEnd::Stopped;
  }

  /// What was enqueued and no stage is left to try.
  void refuse_late(std::size_t index) {
    const auto& stages = setup_.recipe.stages;
    const auto adopts = [](const StageSpec& stage) { return stage.kind->adopts; };
    if (std::any_of(stages.begin() + static_cast<std::ptrdiff_t>(index), stages.end(), adopts)) {
      return;
    }
    for (const EnqueuedRecord& wanted : setup_.database->enqueued(true)) {
      log_warning("not tried: ", wanted.genotype, ", enqueued by ", wanted.asked_by);
      refuse_enqueued(*setup_.database, wanted, "no stage is left that takes any", setup_.clock());
    }
  }

  /// The user of this process, or another one by the store (`voxnas ctl RUN stop`).
  bool should_stop() {
    if (setup_.should_stop && setup_.should_stop()) return true;
    if (!stopping_ && asked_.seconds() > kLookSeconds) {
      asked_.restart();
      stopping_ = setup_.database->state() == "stopping";
    }
    return stopping_;
  }

  /// Trials of workers that died are given back.
  void tend() {
    if (looked_.seconds() < kLookSeconds) return;
    looked_.restart();
    setup_.database->set_clock(setup_.clock());
    for (const std::string& lost : setup_.database->requeue_lost(setup_.clock(), false)) {
      log_warning(lost);
      setup_.database->add_event(setup_.clock(), 0, "lost", lost);
    }
  }

  const SearchSetup& setup_;
  const ControllerSetup control_;
  Announcer announce_;
  std::unique_ptr<Worker> worker_;
  Stopwatch looked_, asked_;
  bool stopping_ = false;
};

}  // namespace

void SearchListener::enqueue(const Genotype& genotype) {
  const std::string reason = space_->invalid_reason(genotype);
  NAS_CHECK(reason.empty(), "enqueue: ", reason);
  store().enqueue({space_->to_text(genotype)}, "listener " + name());
}

void SearchListener::annotate(std::int64_t trial,
                              const std::string& key,
                              const std::string& value) {
  store().annotate({trial, key, value, name()});
}

TrialStore& SearchListener::store() const {
  NAS_CHECK_KIND(Internal, store_ != nullptr, "listener ", name(), ": is attached to no run");
  return *store_;
}

void check_space(const Recipe& recipe, const SearchSpace& space) {
  for (const StageSpec& stage : recipe.stages) {
    if (!stage.kind->final) searched_groups(space, stage);
    NAS_CHECK_KIND(Usage,
                   !stage.kind->needs_super_network || space.has_super_network(),
                   "stage \"",
                   stage.name,
                   "\" (",
                   stage.kind->words,
                   ") needs a super-network, and space \"",
                   space.name(),
                   "\" has none");
  }
}

SearchEnd run_search(const SearchSetup& setup) { return Leader(setup).run(); }

}  // namespace nas
