// SPDX-License-Identifier: Apache-2.0
#include "nas/search/run_search.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/json.h"

namespace nas {
namespace {

constexpr std::int64_t kAsk = 256;  // proposals wanted at once; a rung is one batch

/// The best of the search stages that are over, or the baseline.
Genotype best_so_far(const SearchSetup& setup) {
  const auto best = best_search_trial(setup.database->trials());
  return best ? best->genotype : setup.space->baseline();
}

std::unique_ptr<Strategy> make_stage_strategy(const SearchSetup& setup,
                                              std::size_t index,
                                              const StageRecord& record) {
  StrategyContext context;
  context.space = setup.space;
  context.stage = setup.recipe.stages[index];
  context.stage.trials = record.budget.trials;
  context.stage.rungs = record.budget.rungs;
  context.rng = Rng(setup.seed).split("stage", index);
  context.best = best_so_far(setup);
  context.has_clock = setup.budget.has_clock();
  if (record.budget.cost_limit > 0) {
    const double macs =
        static_cast<double>(setup.evaluator->describe(setup.space->baseline()).macs);
    const double limit = record.budget.cost_limit * macs;
    context.admissible = [&setup, limit](const Genotype& genotype) {
      try {
        return static_cast<double>(setup.evaluator->describe(genotype).macs) <= limit;
      } catch (const Error&) {
        return true;  // cannot be built: becomes a row that says so
      }
    };
  }
  auto strategy =
      context.stage.kind == "retrain" ? make_retrain_strategy(context) : setup.strategies(context);
  if (!record.strategy.empty()) strategy->load(record.strategy);
  return strategy;
}

TrialPurpose purpose_of(const StageSpec& stage) {
  return stage.kind == "retrain" ? TrialPurpose::Retrain : TrialPurpose::Search;
}

StageRecord start_or_find_stage(const SearchSetup& setup, std::size_t index) {
  const StageSpec& stage = setup.recipe.stages[index];
  if (auto record = setup.database->stage(stage.name)) return *record;
  Probe probe;
  if (setup.budget.has_clock()) {
    probe = setup.evaluator->probe(setup.space->baseline(), purpose_of(stage));
  }
  StageRecord record;
  record.name = stage.name;
  record.status = "running";
  record.started = setup.clock();
  record.budget = stage_budget(setup.recipe, index, setup.budget, record.started, probe);
  setup.database->start_stage(record);
  return record;
}

/// Turns proposals into rows. A genotype that cannot be built is a row too: it fails when it is
/// evaluated.
std::vector<Trial> make_trials(const SearchSetup& setup,
                               const StageSpec& stage,
                               const StageRecord& record,
                               const std::vector<Proposal>& proposals) {
  std::vector<Trial> trials;
  for (const Proposal& proposal : proposals) {
    Trial trial;
    trial.stage = stage.name;
    trial.purpose = purpose_of(stage);
    trial.label = proposal.label;
    trial.proposal = proposal.number;
    trial.rung = proposal.rung;
    trial.share = proposal.share;
    trial.genotype = proposal.genotype;
    trial.genotype_text = setup.space->to_text(proposal.genotype);
    trial.genotype_id = setup.space->genotype_id(proposal.genotype);
    // Common random numbers: with the same seed, differences between trials are differences between
    // networks.
    trial.seed = setup.seed;
    trial.created = setup.clock();
    if (!setup.budget.has_clock()) {
      trial.steps = std::max<std::int64_t>(
          1,
          static_cast<std::int64_t>(static_cast<double>(record.budget.steps) * proposal.share +
                                    1e-6));
    }
    try {
      const TrialCost cost = setup.evaluator->describe(proposal.genotype);
      trial.graph_id = cost.graph_id;
      trial.parameters = cost.parameters;
      trial.macs = cost.macs;
      trial.memory_bytes = cost.memory_bytes;
    } catch (const Error&) {
      trial.graph_id = "";
    }
    trials.push_back(std::move(trial));
  }
  return trials;
}

/// Steps and settings are fixed once, when the trial is first claimed; from then on it is a
/// function of its row.
void fix_trial(const SearchSetup& setup, const StageRecord& record, Trial& trial) {
  if (!trial.settings.empty()) return;
  if (setup.budget.has_clock()) {
    const double fair = record.budget.seconds * trial.share;
    const double left = record.budget.ends_at - setup.clock();
    trial.seconds_limit = std::max(0.5 * fair, std::min(fair, left));
  }
  const TrialPlan plan = setup.evaluator->plan(trial);
  NAS_CHECK_KIND(Internal,
                 plan.steps > 0 && !plan.settings.empty(),
                 "evaluator: the plan of trial ",
                 trial.id,
                 " needs steps > 0 and settings");
  setup.database->fix_plan(trial.id, plan, trial.seconds_limit);
  trial.steps = plan.steps;
  trial.settings = plan.settings;
}

Evaluation evaluate(const SearchSetup& setup, const StageRecord& record, Trial& trial) {
  TrialContext context;
  context.folder = setup.folder / trial.checkpoint;
  std::filesystem::create_directories(context.folder);
  context.clock = setup.clock;
  context.heartbeat = [&setup] { setup.database->set_clock(setup.clock()); };
  try {
    fix_trial(setup, record, trial);
    if (setup.budget.has_clock()) {
      // The stage's end, unless hardly anything were left: a trial that is cut to nothing says
      // nothing.
      context.deadline = std::max(record.budget.ends_at, setup.clock() + 0.5 * trial.seconds_limit);
    }
    return setup.evaluator->evaluate(trial, context);
  } catch (const Error& error) {
    // A genotype that cannot be built is data; a broken disk or a bug is not.
    if (error.kind() != ErrorKind::Shape && error.kind() != ErrorKind::Input) throw;
    Evaluation failed;
    failed.status = TrialStatus::Failed;
    failed.message = error.what();
    return failed;
  }
}

/// A failed final training is survived as long as another one gives a network.
void check_any_retrained(const std::vector<Trial>& trials) {
  std::string reasons;
  for (const Trial& trial : trials) {
    if (trial.status == TrialStatus::Done) return;
    reasons += concat_text("\n  ",
                           trial.label,
                           " (",
                           trial.genotype_text,
                           "): ",
                           to_text(trial.status),
                           trial.evaluation.message.empty() ? "" : ", ",
                           trial.evaluation.message);
  }
  fail(ErrorKind::Input, "no final training succeeded:", reasons);
}

}  // namespace

std::unique_ptr<Strategy> make_retrain_strategy(const StrategyContext& context) {
  class Retrain : public Strategy {
   public:
    explicit Retrain(const StrategyContext& c) {
      const Genotype baseline = c.space->baseline();
      const bool same = c.best == baseline;
      add(c.best, same && c.has_clock ? 1.0 : 0.5, same ? "baseline" : "best");
      if (!same) add(baseline, 0.5, "baseline");
    }
    std::vector<Proposal> ask(std::int64_t count) override {
      std::vector<Proposal> result;
      for (; asked_ < proposals_.size() && count > 0; ++asked_, --count) {
        result.push_back(proposals_[asked_]);
      }
      return result;
    }
    void tell(const std::vector<Outcome>& outcomes) override { told_ += outcomes.size(); }
    bool finished() const override { return told_ == proposals_.size(); }
    std::int64_t planned_trials() const override {
      return static_cast<std::int64_t>(proposals_.size());
    }
    std::string save() const override { return Json{{"asked", asked_}, {"told", told_}}.dump(); }
    void load(const std::string& state) override {
      const Json value = parse_json(state, "state of strategy \"retrain\"");
      const JsonReader reader(value, "state of strategy \"retrain\"");
      const auto size = static_cast<std::int64_t>(proposals_.size());
      asked_ = static_cast<std::size_t>(reader.at("asked").integer(0, size));
      told_ = static_cast<std::size_t>(reader.at("told").integer(0, size));
    }

   private:
    void add(const Genotype& genotype, double share, const std::string& label) {
      Proposal p;
      p.number = static_cast<std::int64_t>(proposals_.size());
      p.genotype = genotype;
      p.share = share;
      p.label = label;
      proposals_.push_back(p);
    }
    std::vector<Proposal> proposals_;
    std::size_t asked_ = 0, told_ = 0;
  };
  return std::make_unique<Retrain>(context);
}

SearchEnd run_search(const SearchSetup& setup) {
  ResultsDb& db = *setup.database;
  auto announce = [&](auto&& tell_listener) {
    for (SearchListener* listener : setup.listeners) tell_listener(*listener);
  };
  if (const std::int64_t open = db.requeue_interrupted(); open > 0) {
    db.add_event(setup.clock(), 0, "resumed", concat_text(open, " interrupted trial(s) queued"));
  }
  std::int64_t best_id = 0;
  if (const auto best = best_search_trial(db.trials())) best_id = best->id;

  for (std::size_t index = 0; index < setup.recipe.stages.size(); ++index) {
    const StageSpec& stage = setup.recipe.stages[index];
    const StageRecord record = start_or_find_stage(setup, index);
    if (record.status == "done") continue;
    const auto strategy = make_stage_strategy(setup, index, record);
    announce([&](SearchListener& l) {
      l.stage_started(stage, record.budget, strategy->planned_trials());
    });

    while (true) {
      // Outcomes are told in the order of ids once nothing is queued, so any number of workers
      // gives the same search.
      while (auto trial = db.claim(stage.name, setup.clock())) {
        if (setup.should_stop && setup.should_stop()) {
          Evaluation stopped;
          stopped.status = TrialStatus::Stopped;
          db.finish(trial->id, stopped, setup.clock());
          return SearchEnd::Stopped;
        }
        announce([&](SearchListener& l) { l.trial_started(*trial); });
        trial->evaluation = evaluate(setup, record, *trial);
        trial->status = trial->evaluation.status;
        trial->ended = setup.clock();
        db.finish(trial->id, trial->evaluation, trial->ended);
        db.set_clock(trial->ended);
        announce([&](SearchListener& l) { l.trial_ended(*trial); });
        if (trial->status == TrialStatus::Stopped) return SearchEnd::Stopped;
        if (const auto best = best_search_trial(db.trials()); best && best->id != best_id) {
          best_id = best->id;
          db.add_event(trial->ended,
                       best->id,
                       "best improved",
                       concat_text(best->genotype_text, ": ", best->evaluation.score));
          announce([&](SearchListener& l) { l.best_improved(*best); });
        }
      }
      if (const std::vector<Trial> untold = db.untold_trials(stage.name); !untold.empty()) {
        std::vector<Outcome> outcomes;
        std::vector<std::int64_t> ids;
        for (const Trial& trial : untold) {
          outcomes.push_back({trial.proposal, trial.status, trial.evaluation.score});
          ids.push_back(trial.id);
        }
        strategy->tell(outcomes);
        db.mark_told(stage.name, ids, strategy->save());
      }
      if (strategy->finished()) break;
      const std::vector<Proposal> proposals = strategy->ask(kAsk);
      NAS_CHECK_KIND(Internal,
                     !proposals.empty(),
                     "strategy \"",
                     stage.kind,
                     "\" is not finished but proposes nothing and waits for nothing");
      db.add_trials(stage.name, make_trials(setup, stage, record, proposals), strategy->save());
    }
    if (stage.kind == "retrain") check_any_retrained(db.trials(stage.name));
    db.end_stage(stage.name, setup.clock());
    announce([&](SearchListener& l) { l.stage_ended(stage); });
  }
  return SearchEnd::Finished;
}

}  // namespace nas
