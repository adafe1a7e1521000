// SPDX-License-Identifier: Apache-2.0
#include "nas/search/run_search.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/json.h"
#include "nas/core/run_folder.h"
#include "nas/search/case_scores.h"
#include "nas/search/draws.h"
#include "nas/search/limits.h"
#include "nas/search/trial_request.h"

namespace nas {
namespace {

constexpr std::int64_t kAsk = 256;  // proposals wanted at once; a rung is one batch

/// Size of a genotype, with its measured step time where a limit or an objective asks for it.
TrialCost describe_for(const SearchSetup& setup, const Genotype& genotype) {
  TrialCost cost = setup.evaluator->describe(genotype);
  const bool timed =
      setup.recipe.limits.max_step_seconds > 0 ||
      std::any_of(
          setup.recipe.stages.begin(), setup.recipe.stages.end(), [](const StageSpec& stage) {
            return stage.kind->measures_step_time && stage.kind->measures_step_time(stage);
          });
  if (timed && cost.step_seconds == 0) {
    cost.step_seconds = setup.evaluator->step_seconds(genotype);
  }
  return cost;
}

/// The winner of the last stage before `index` whose role is (not) control; empty if none has one.
std::optional<Winner> winner_before(const SearchSetup& setup, std::size_t index, bool control) {
  std::optional<Winner> winner;
  for (std::size_t i = 0; i < index; ++i) {
    const StageSpec& stage = setup.recipe.stages[i];
    if (stage.control != control) continue;
    const auto record = setup.database->stage(stage.name);
    if (record && record->winner.found) winner = record->winner;
  }
  return winner;
}

/// Within the stage's cost limit, which is not for individual 0, and the recipe's hard limits.
std::function<bool(const Genotype&)> admission(const SearchSetup& setup,
                                               const StageRecord& record) {
  const double cost_limit = record.budget.cost_limit;
  const Limits& limits = setup.recipe.limits;
  if (cost_limit <= 0 && !limits.any()) return {};
  const TrialCost plan = setup.evaluator->describe(setup.space->baseline());
  return [&setup, limits, cost_limit, plan](const Genotype& genotype) {
    try {
      const TrialCost cost = describe_for(setup, genotype);
      const bool cheap =
          cost_limit <= 0 || genotype == setup.space->baseline() ||
          static_cast<double>(cost.macs) <= cost_limit * static_cast<double>(plan.macs);
      if (!cheap) return false;
      return broken_limit(limits, cost, plan).empty();
    } catch (const Error&) {
      return true;  // cannot be built: becomes a row that says so
    }
  };
}

/// What the stages before found, which stage `index` starts from; none for a control.
std::optional<Winner> start_of(const SearchSetup& setup, std::size_t index) {
  if (setup.recipe.stages[index].control) return std::nullopt;
  return winner_before(setup, index, false);
}

std::unique_ptr<Strategy> make_stage_strategy(const SearchSetup& setup,
                                              std::size_t index,
                                              const StageRecord& record) {
  StrategyContext context;
  context.space = setup.space;
  context.stage = setup.recipe.stages[index];
  context.stage.groups = searched_groups(*setup.space, context.stage);
  context.budget = record.budget;
  context.rng = Rng(setup.seed).split("stage", index);
  context.baseline = setup.space->baseline();
  context.start = setup.space->start();
  if (const auto winner = start_of(setup, index)) {
    context.start = winner->genotype;
    context.start_found = true;
  }
  if (const auto control = winner_before(setup, index, true)) context.control = control->genotype;
  context.has_clock = setup.budget.has_clock();
  context.admissible = admission(setup, record);
  const Limits& limits = setup.recipe.limits;
  context.max_parameters = limits.max_parameters;
  if (limits.parameters_of_plan > 0) {
    const auto planned = setup.evaluator->describe(context.baseline).parameters;
    const auto share =
        static_cast<std::int64_t>(limits.parameters_of_plan * static_cast<double>(planned));
    context.max_parameters =
        context.max_parameters > 0 ? std::min(context.max_parameters, share) : share;
  }
  context.cost = [&setup](const Genotype& genotype) { return describe_for(setup, genotype); };
  auto strategy = make_strategy(context);
  if (!record.strategy.empty()) strategy->load(record.strategy);
  return strategy;
}

TrialPurpose probe_purpose(const StageSpec& stage) {
  return stage.kind->final ? TrialPurpose::Retrain : TrialPurpose::Search;
}

/// Compute of so many steps of a trial, in steps of the plan at batch 2. A step of a super-network
/// counts as one of the plan, as when its steps were fixed.
double effort_of(const SearchSetup& setup, const Trial& trial, std::int64_t steps) {
  if (steps == 0) return 0;  // perhaps because its network cannot be built
  const double cost = trial.purpose == TrialPurpose::SuperNet
                          ? 1
                          : setup.evaluator->describe(trial.genotype).relative_cost;
  return cost * static_cast<double>(steps);
}

/// What the run's trainings took.
double spent_effort(const SearchSetup& setup) {
  double spent = 0;
  for (const Trial& trial : setup.database->trials()) {
    spent += effort_of(setup, trial, trial.evaluation.steps - trial_request(trial).done);
  }
  return spent;
}

StageRecord start_or_find_stage(const SearchSetup& setup, std::size_t index) {
  const StageSpec& stage = setup.recipe.stages[index];
  if (auto record = setup.database->stage(stage.name)) return *record;
  searched_groups(*setup.space, stage);  // refuses what the space does not have
  Probe probe;
  double candidate_seconds = 0, spent = setup.clock();
  std::optional<Probe> start;
  if (setup.budget.effort > 0) spent = spent_effort(setup);
  if (setup.budget.has_clock()) {
    probe = setup.evaluator->probe(setup.space->baseline(), probe_purpose(stage));
    if (!stage.kind->counts_with_baseline) {
      const auto winner = start_of(setup, index);
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

/// The trial whose weights a proposal uses: a proposal of the same stage, or the last super-network
/// of the stages before; 0 if there is none.
std::int64_t source_of(const ResultsDb& database, const std::string& stage, const Proposal& p) {
  if (p.source < 0) return p.warm_start ? database.last_super_network(stage) : 0;
  const std::int64_t source = database.trial_of(stage, p.source);
  NAS_CHECK_KIND(Internal,
                 source > 0,
                 "stage \"",
                 stage,
                 "\": proposal ",
                 p.number,
                 " uses the weights of proposal ",
                 p.source,
                 ", which is not there");
  return source;
}

/// Of a proposal of the stage, its row.
const Trial& row_of(const std::vector<Trial>& rows, std::int64_t proposal) {
  const auto found = std::ranges::find(rows, proposal, &Trial::proposal);
  NAS_CHECK_KIND(Internal,
                 found != rows.end() && found->status == TrialStatus::Done,
                 "proposal ",
                 proposal,
                 " cannot be continued: it has no finished training");
  return *found;
}

/// The training that chose `genotype` in the last search stage whose trainings can be continued and
/// whose winner it was; nullopt where the final one starts anew.
std::optional<Trial> training_to_continue(const SearchSetup& setup, const Genotype& genotype) {
  std::optional<Trial> found;
  for (const StageSpec& stage : setup.recipe.stages) {
    if (stage.kind->final) break;
    if (!stage.kind->continues) continue;
    for (const Trial& trial : setup.database->trials(stage.name)) {
      const bool longer = !found || trial.evaluation.steps > found->evaluation.steps;
      if (trial.status == TrialStatus::Done && trial.genotype == genotype && longer &&
          std::filesystem::exists(RunFolder::checkpoint(setup.folder / trial.checkpoint))) {
        found = trial;
      }
    }
  }
  return found;
}

/// Steps and request of a trial that is counted in effort, or that continues another.
void count_trial(const SearchSetup& setup,
                 const StageSpec& stage,
                 const StageBudget& budget,
                 const Proposal& proposal,
                 const TrialCost& cost,
                 const std::vector<Trial>& rows,
                 Trial& trial) {
  TrialRequest request;
  const auto go_on = [&](const Trial& before) {
    request = trial_request(before);
    request.continues = before.id;
    request.done = before.evaluation.steps;
  };
  if (stage.kind->continues) {
    request.horizon_steps =
        std::max<std::int64_t>(1, static_cast<std::int64_t>(budget.horizon / cost.relative_cost));
    if (proposal.continues >= 0) go_on(row_of(rows, proposal.continues));
  } else if (stage.kind->final) {
    if (const auto before = training_to_continue(setup, proposal.genotype)) go_on(*before);
    request.all_cases = proposal.all_cases;
  }
  if (budget.effort > 0) {
    const double paid = budget.effort * proposal.share / cost.relative_cost;
    trial.steps = request.done + std::max<std::int64_t>(1, static_cast<std::int64_t>(paid + 1e-6));
    if (request.horizon_steps == 0) request.horizon_steps = trial.steps;
  } else if (trial.steps > 0) {
    trial.steps = std::max(trial.steps, request.done + 1);  // a final training has its steps in all
  }
  request.finishes = !stage.kind->continues;
  trial.request = to_text(request);
}

/// Turns proposals into rows. A genotype that cannot be built is a row too: it fails when it is
/// evaluated.
std::vector<Trial> make_trials(const SearchSetup& setup,
                               const StageSpec& stage,
                               const StageRecord& record,
                               const std::vector<Proposal>& proposals) {
  std::vector<Trial> trials;
  const bool counted = stage.kind->continues || stage.kind->final || record.budget.effort > 0;
  const std::vector<Trial> rows =
      stage.kind->continues ? setup.database->trials(stage.name) : std::vector<Trial>{};
  for (const Proposal& proposal : proposals) {
    Trial trial;
    trial.stage = stage.name;
    trial.purpose = proposal.purpose;
    trial.request = proposal.request;
    trial.source = source_of(*setup.database, stage.name, proposal);
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
    if (!setup.budget.has_clock() && trial.purpose != TrialPurpose::Inherited) {
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
      const bool trains =
          trial.purpose == TrialPurpose::Search || trial.purpose == TrialPurpose::Retrain;
      if (counted && trains && cost.relative_cost > 0) {
        count_trial(setup, stage, record.budget, proposal, cost, rows, trial);
      }
    } catch (const Error&) {
      trial.graph_id = "";
    }
    trials.push_back(std::move(trial));
  }
  return trials;
}

/// Keeps what the evaluator has measured, before anything that follows from it is recorded.
void store_measured(const SearchSetup& setup) {
  const std::string now = setup.evaluator->measured();
  if (!now.empty() && now != setup.database->measured()) setup.database->set_measured(now);
}

/// Steps and settings are fixed once, when the trial is first claimed; from then on it is a
/// function of its row.
void fix_trial(const SearchSetup& setup, const StageRecord& record, Trial& trial) {
  if (!trial.settings.empty()) return;
  if (setup.budget.has_clock()) {
    const double fair = record.budget.seconds * trial.share;
    const double left = record.budget.ends_at - setup.clock();
    trial.seconds_limit = std::max(0.5 * fair, std::min(fair, left));
    // Steps are fixed already: the clock only says when the stage must end.
    if (trial.steps > 0) trial.seconds_limit = std::max(1.0, left);
  }
  const TrialPlan plan = setup.evaluator->plan(trial);
  store_measured(setup);
  NAS_CHECK_KIND(
      Internal,
      (plan.steps > 0 || trial.purpose == TrialPurpose::Inherited) && !plan.settings.empty(),
      "evaluator: the plan of trial ",
      trial.id,
      " needs steps > 0 and settings");
  setup.database->fix_plan(trial.id, plan, trial.seconds_limit);
  trial.steps = plan.steps;
  trial.settings = plan.settings;
}

/// Evaluates trials that the evaluator wants together (mostly one).
std::vector<Evaluation> evaluate(const SearchSetup& setup,
                                 const StageRecord& record,
                                 std::vector<Trial>& trials) {
  TrialContext context;
  context.folder = setup.folder / trials.front().checkpoint;
  create_folder(context.folder);
  context.clock = setup.clock;
  context.heartbeat = [&setup] { setup.database->set_clock(setup.clock()); };
  try {
    double limit = 0;
    for (Trial& trial : trials) {
      fix_trial(setup, record, trial);
      limit += trial.seconds_limit;
    }
    if (setup.budget.has_clock()) {
      // The stage's end, unless hardly anything were left: a trial of no steps tells nothing.
      context.deadline = std::max(record.budget.ends_at, setup.clock() + 0.5 * limit);
    }
    std::vector<Evaluation> evaluations;
    if (trials.size() == 1) {
      evaluations.push_back(setup.evaluator->evaluate(trials.front(), context));
    } else {
      evaluations = setup.evaluator->evaluate_batch(trials, context);
    }
    NAS_CHECK_KIND(Internal,
                   evaluations.size() == trials.size(),
                   "evaluator: expected ",
                   trials.size(),
                   " evaluations, found ",
                   evaluations.size());
    return evaluations;
  } catch (const Error& error) {
    // A genotype that cannot be built is data, and so is a stop; a broken disk or a bug is not.
    const bool stopped = error.kind() == ErrorKind::Stopped;
    if (!stopped && error.kind() != ErrorKind::Shape && error.kind() != ErrorKind::Input) throw;
    Evaluation failed;
    failed.status = stopped ? TrialStatus::Stopped : TrialStatus::Failed;
    failed.message = error.what();
    return std::vector<Evaluation>(trials.size(), failed);
  }
}

/// Checkpoints that nobody will go on from are removed.
void drop_checkpoints(const SearchSetup& setup,
                      const StageSpec& stage,
                      const std::function<bool(const Trial&)>& keep) {
  if (!stage.kind->continues) return;
  for (const Trial& trial : setup.database->trials(stage.name)) {
    if (trial.status == TrialStatus::Running || trial.status == TrialStatus::Queued) continue;
    if (keep(trial)) continue;
    std::error_code ignored;
    std::filesystem::remove(RunFolder::checkpoint(setup.folder / trial.checkpoint), ignored);
  }
}

/// Whether a stage with a clock has no time left to begin another trial.
bool time_is_over(const SearchSetup& setup, const StageSpec& stage, const StageRecord& record) {
  return setup.budget.has_clock() && !stage.kind->final && setup.clock() >= record.budget.ends_at;
}

/// What has ended and was not told yet, in the order of ids; then checkpoints that nobody wants.
void tell_outcomes(const SearchSetup& setup,
                   const StageSpec& stage,
                   const StageRecord& record,
                   Strategy& strategy) {
  ResultsDb& db = *setup.database;
  const std::vector<Trial> untold = db.untold_trials(stage.name);
  if (untold.empty()) return;
  std::vector<Outcome> outcomes;
  std::vector<std::int64_t> ids;
  for (const Trial& trial : untold) {
    outcomes.push_back({trial.proposal,
                        trial.status,
                        trial.evaluation.score,
                        trial.id,
                        trial.evaluation.decoded,
                        trial.evaluation.steps,
                        trial.evaluation.how});
    if (stage.kind->continues) {  // nobody else looks at curves, and every save keeps them
      outcomes.back().effort = effort_of(setup, trial, trial.evaluation.steps);
      outcomes.back().cases = case_scores(trial.evaluation);
    }
    ids.push_back(trial.id);
  }
  strategy.tell(outcomes);
  if (time_is_over(setup, stage, record)) strategy.close();
  db.mark_told(stage.name, ids, strategy.save());
  const std::vector<std::int64_t> resting = strategy.resting();
  drop_checkpoints(setup, stage, [&](const Trial& trial) {
    return std::ranges::find(resting, trial.proposal) != resting.end();
  });
}

/// A failed final training is survived as long as another one gives a network.
void check_any_retrained(const SearchSpace& space, const std::vector<Trial>& trials) {
  std::string reasons;
  for (const Trial& trial : trials) {
    if (trial.status == TrialStatus::Done) return;
    reasons += concat_text("\n  ",
                           trial.label,
                           " (",
                           space.short_text(trial.genotype),
                           "): ",
                           to_text(trial.status),
                           trial.evaluation.message.empty() ? "" : ", ",
                           trial.evaluation.message);
  }
  fail(ErrorKind::Input, "no final training succeeded:", reasons);
}

}  // namespace

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

SearchEnd run_search(const SearchSetup& setup) {
  ResultsDb& db = *setup.database;
  auto announce = [&](auto&& tell_listener) {
    for (SearchListener* listener : setup.listeners) tell_listener(*listener);
  };
  if (const std::int64_t open = db.requeue_interrupted(); open > 0) {
    db.add_event(setup.clock(), 0, "resumed", concat_text(open, " interrupted trial(s) queued"));
  }
  if (const std::string known = db.measured(); !known.empty()) setup.evaluator->restore(known);
  store_measured(setup);
  for (std::size_t index = 0; index < setup.recipe.stages.size(); ++index) {
    const StageSpec& stage = setup.recipe.stages[index];
    const StageRecord record = start_or_find_stage(setup, index);
    if (record.status == "done") continue;
    const auto strategy = make_stage_strategy(setup, index, record);
    const auto found_before = start_of(setup, index);
    const Genotype start = found_before ? found_before->genotype : setup.space->start();
    std::int64_t best_id = 0;  // of this stage: scores of different stages do not compare
    if (const auto best = db.best_trial(stage.name)) best_id = best->id;
    announce([&](SearchListener& l) {
      l.stage_started(stage, record.budget, start, strategy->planned_trials());
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
        if (time_is_over(setup, stage, record) && db.best_trial(stage.name)) {
          Evaluation late;
          late.status = TrialStatus::Timeout;
          late.message = "not begun: the stage's time was over";
          db.finish(trial->id, late, setup.clock());
          continue;
        }
        std::vector<Trial> batch{*trial};
        for (const std::int64_t wanted = setup.evaluator->batch_size(*trial);
             static_cast<std::int64_t>(batch.size()) < wanted;) {
          auto next = db.claim(stage.name, setup.clock(), &batch.front());
          if (!next) break;
          batch.push_back(*next);
        }
        for (const Trial& t : batch) announce([&](SearchListener& l) { l.trial_started(t); });
        const std::vector<Evaluation> evaluations = evaluate(setup, record, batch);
        store_measured(setup);
        bool stopped = false;
        for (std::size_t i = 0; i < batch.size(); ++i) {
          Trial& ended = batch[i];
          ended.evaluation = evaluations[i];
          ended.status = ended.evaluation.status;
          ended.ended = setup.clock();
          db.finish(ended.id, ended.evaluation, ended.ended);
          stopped = stopped || ended.status == TrialStatus::Stopped;
          announce([&](SearchListener& l) { l.trial_ended(ended); });
        }
        db.set_clock(setup.clock());
        if (stopped) return SearchEnd::Stopped;
        if (const auto best = db.best_trial(stage.name); best && best->id != best_id) {
          best_id = best->id;
          db.add_event(
              batch.back().ended,
              best->id,
              "best improved",
              concat_text(setup.space->short_text(best->genotype), ": ", best->evaluation.score));
          announce([&](SearchListener& l) { l.best_improved(*best); });
        }
      }
      tell_outcomes(setup, stage, record, *strategy);
      if (strategy->finished()) break;
      const std::vector<Proposal> proposals = strategy->ask(kAsk);
      NAS_CHECK_KIND(Internal,
                     !proposals.empty(),
                     "strategy \"",
                     stage.kind->name,
                     "\" is not finished but proposes nothing and waits for nothing");
      db.add_trials(stage.name, make_trials(setup, stage, record, proposals), strategy->save());
    }
    if (stage.kind->final) check_any_retrained(*setup.space, db.trials(stage.name));
    const Winner winner = strategy->winner();
    const auto last = training_to_continue(setup, winner.genotype);
    const auto plan = training_to_continue(setup, setup.space->baseline());
    drop_checkpoints(setup, stage, [&](const Trial& trial) {
      return (last && last->id == trial.id) || (plan && plan->id == trial.id);
    });
    db.end_stage(stage.name, setup.clock(), winner, strategy->story());
    if (winner.found) {
      db.add_event(
          setup.clock(),
          0,
          "stage ended",
          concat_text(
              stage.name, ": ", setup.space->short_text(winner.genotype), ", ", winner.how));
    }
    announce([&](SearchListener& l) { l.stage_ended(stage, winner); });
  }
  return SearchEnd::Finished;
}

}  // namespace nas
