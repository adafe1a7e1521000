// SPDX-License-Identifier: Apache-2.0
#include "nas/search/stage_controller.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/run_folder.h"
#include "nas/search/case_scores.h"
#include "nas/search/draws.h"
#include "nas/search/limits.h"
#include "nas/search/strategy_kind.h"
#include "nas/search/trial_request.h"

namespace nas {
namespace {

constexpr std::int64_t kAsk = 256;    // proposals wanted at once; a rung is one batch
constexpr double kLookSeconds = 0.2;  // between two looks for what was enqueued

/// The winner of the last stage before `index` whose role is (not) control; empty if none has one.
std::optional<Winner> winner_before(const ControllerSetup& setup, std::size_t index, bool control) {
  std::optional<Winner> winner;
  for (std::size_t i = 0; i < index; ++i) {
    const StageSpec& stage = setup.recipe->stages[i];
    if (stage.control != control) continue;
    const auto record = setup.store->stage(stage.name);
    if (record && record->winner.found) winner = record->winner;
  }
  return winner;
}

/// Within the stage's cost limit, which is not for individual 0, and the recipe's hard limits.
std::function<bool(const Genotype&)> admission(const ControllerSetup& setup,
                                               const StageRecord& record) {
  const double cost_limit = record.budget.cost_limit;
  const Limits& limits = setup.recipe->limits;
  if (cost_limit <= 0 && !limits.any()) return {};
  const TrialCost plan = setup.describe(setup.space->baseline());
  return [setup, limits, cost_limit, plan](const Genotype& genotype) {
    try {
      const TrialCost cost = setup.describe_timed(genotype);
      return (genotype == setup.space->baseline() || within_cost_limit(cost_limit, cost, plan)) &&
             broken_limit(limits, cost, plan).empty();
    } catch (const Error&) {
      return true;  // cannot be built: becomes a row that says so
    }
  };
}

std::unique_ptr<Strategy> make_stage_strategy(const ControllerSetup& setup,
                                              std::size_t index,
                                              const StageRecord& record) {
  StrategyContext context;
  context.space = setup.space;
  context.stage = setup.recipe->stages[index];
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
  context.portfolio = setup.portfolio;
  context.has_clock = setup.budget.has_clock();
  context.admissible = admission(setup, record);
  const Limits& limits = setup.recipe->limits;
  context.max_parameters = limits.max_parameters;
  if (limits.parameters_of_plan > 0) {
    const auto planned = setup.describe(context.baseline).parameters;
    const auto share =
        static_cast<std::int64_t>(limits.parameters_of_plan * static_cast<double>(planned));
    context.max_parameters =
        context.max_parameters > 0 ? std::min(context.max_parameters, share) : share;
  }
  context.cost = setup.describe_timed;
  return make_strategy(context);
}

/// Whether the stage's strategy, asked again, proposes the same: not if it is a program of the user,
/// or where step times, which are measured, decide.
bool proposes_again(const ControllerSetup& setup, const StageSpec& stage) {
  return stage.async && !stage.kind->starts_programs && !measures_step_times(*setup.recipe);
}

/// The trial whose weights a proposal uses: a proposal of the same stage, or the last super-network
/// of the stages before; 0 if there is none.
std::int64_t source_of(const TrialStore& database, const std::string& stage, const Proposal& p) {
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

/// Why a stage ends now, or "".
std::string reason_to_stop(const StopRules& rules, const std::vector<Trial>& trials) {
  std::vector<const Trial*> told;
  for (const Trial& trial : trials) {
    if (trial.told_order > 0) told.push_back(&trial);
  }
  std::ranges::sort(told, {}, &Trial::told_order);
  const auto count = static_cast<std::int64_t>(told.size());
  if (rules.trials > 0 && count >= rules.trials) {
    return concat_text(count, " outcomes, of at most ", rules.trials);
  }
  int rung = 0;
  double best = -INFINITY;
  std::int64_t since = 0;
  for (const Trial* trial : told) {
    ++since;
    if (trial->status != TrialStatus::Done || trial->purpose != TrialPurpose::Search) continue;
    const double score = trial->evaluation.score;
    if (trial->rung > rung || (trial->rung == rung && score > best)) {
      rung = trial->rung;
      best = score;
      since = 0;
    }
  }
  if (rules.score && best >= *rules.score) {
    return concat_text("a score of ", best, " was reached, ", *rules.score, " is enough");
  }
  if (rules.patience > 0 && since >= rules.patience) {
    return concat_text("the last ", since, " outcomes brought nothing better");
  }
  return "";
}

}  // namespace

std::optional<Winner> start_of(const ControllerSetup& setup, std::size_t index) {
  if (setup.recipe->stages[index].control) return std::nullopt;
  return winner_before(setup, index, false);
}

void refuse_enqueued(TrialStore& store,
                     const EnqueuedRecord& wanted,
                     const std::string& why,
                     double at) {
  store.refuse_enqueued(wanted.id, why);
  store.add_event(
      at, 0, "enqueue refused", concat_text(wanted.genotype, ", by ", wanted.asked_by, ": ", why));
}

double effort_of(const ControllerSetup& setup, const Trial& trial, std::int64_t steps) {
  if (steps == 0) return 0;  // perhaps because its network cannot be built
  // A step of a super-network counts as one of the plan, as when its steps were fixed.
  const double cost =
      trial.purpose == TrialPurpose::SuperNet ? 1 : setup.describe(trial.genotype).relative_cost;
  return cost * static_cast<double>(steps);
}

bool time_is_over(const Budget& budget,
                  const StageSpec& stage,
                  const StageRecord& record,
                  double now) {
  return budget.has_clock() && !stage.kind->final && now >= record.budget.ends_at;
}

StageController::StageController(const ControllerSetup& setup,
                                 std::size_t index,
                                 const StageRecord& record)
    : setup_(setup),
      stage_(setup.recipe->stages[index]),
      record_(record),
      strategy_(make_stage_strategy(setup_, index, record)),
      journal_(stage_.name, proposes_again(setup_, stage_)) {
  journal_.restore(
      *setup_.store, [this](const Trial& trial) { return outcome_of(trial); }, *strategy_);
}

Outcome StageController::outcome_of(const Trial& trial) const {
  Outcome outcome{trial.proposal,
                  trial.status,
                  trial.evaluation.score,
                  trial.id,
                  trial.evaluation.decoded,
                  trial.evaluation.steps,
                  trial.evaluation.how};
  // Only for those who look at them: every save keeps them.
  if (stage_.kind->continues) outcome.effort = effort_of(setup_, trial, trial.evaluation.steps);
  if (compares_cases(stage_)) outcome.cases = case_scores(trial.evaluation);
  return outcome;
}

/// The training that chose `genotype` in the last search stage whose trainings can be continued and
/// whose winner it was; nullopt where the final one starts anew.
std::optional<Trial> StageController::training_to_continue(const Genotype& genotype) const {
  std::optional<Trial> found;
  for (const StageSpec& stage : setup_.recipe->stages) {
    if (stage.kind->final) break;
    if (!stage.kind->continues) continue;
    for (const Trial& trial : setup_.store->trials(stage.name)) {
      const bool longer = !found || trial.evaluation.steps > found->evaluation.steps;
      if (trial.status == TrialStatus::Done && trial.genotype == genotype && longer &&
          std::filesystem::exists(RunFolder::checkpoint(setup_.folder / trial.checkpoint))) {
        found = trial;
      }
    }
  }
  return found;
}

/// Steps and request of a trial that is counted in effort, or that continues another.
void StageController::count_trial(const Proposal& proposal,
                                  const TrialCost& cost,
                                  const std::vector<Trial>& rows,
                                  Trial& trial) const {
  const StageBudget& budget = record_.budget;
  TrialRequest request;
  const auto go_on = [&](const Trial& before) {
    request = trial_request(before);
    request.continues = before.id;
    request.done = before.evaluation.steps;
  };
  if (stage_.kind->continues) {
    request.horizon_steps =
        std::max<std::int64_t>(1, static_cast<std::int64_t>(budget.horizon / cost.relative_cost));
    if (proposal.continues >= 0) go_on(row_of(rows, proposal.continues));
  } else if (stage_.kind->final) {
    if (const auto before = training_to_continue(proposal.genotype)) go_on(*before);
    request.all_cases = proposal.all_cases;
  }
  if (budget.effort > 0) {
    const double paid = budget.effort * proposal.share / cost.relative_cost;
    trial.steps = request.done + std::max<std::int64_t>(1, static_cast<std::int64_t>(paid + 1e-6));
    if (request.horizon_steps == 0) request.horizon_steps = trial.steps;
  } else if (trial.steps > 0) {
    trial.steps = std::max(trial.steps, request.done + 1);  // a final training has its steps in all
  }
  request.finishes = !stage_.kind->continues;
  trial.request = to_text(request);
}

/// Turns proposals into rows. A genotype that cannot be built is a row too: it fails when it is
/// evaluated.
std::vector<Trial> StageController::make_trials(const std::vector<Proposal>& proposals) const {
  std::vector<Trial> trials;
  const bool counted = stage_.kind->continues || stage_.kind->final || record_.budget.effort > 0;
  const std::vector<Trial> rows =
      stage_.kind->continues ? setup_.store->trials(stage_.name) : std::vector<Trial>{};
  for (const Proposal& proposal : proposals) {
    Trial trial;
    trial.stage = stage_.name;
    trial.purpose = proposal.purpose;
    trial.request = proposal.request;
    trial.source = source_of(*setup_.store, stage_.name, proposal);
    trial.label = proposal.label;
    trial.proposal = proposal.number;
    trial.rung = proposal.rung;
    trial.share = proposal.share;
    trial.asked_by = proposal.asked_by;
    trial.genotype = proposal.genotype;
    trial.genotype_text = setup_.space->to_text(proposal.genotype);
    trial.genotype_id = setup_.space->genotype_id(proposal.genotype);
    // Common random numbers: with the same seed, differences between trials are differences between
    // networks.
    trial.seed = setup_.seed;
    trial.created = setup_.clock();
    if (!setup_.budget.has_clock() && trial.purpose != TrialPurpose::Inherited) {
      trial.steps = std::max<std::int64_t>(
          1,
          static_cast<std::int64_t>(static_cast<double>(record_.budget.steps) * proposal.share +
                                    1e-6));
    }
    try {
      const TrialCost cost = setup_.describe(proposal.genotype);
      trial.graph_id = cost.graph_id;
      trial.parameters = cost.parameters;
      trial.macs = cost.macs;
      trial.memory_bytes = cost.memory_bytes;
      const bool trains =
          trial.purpose == TrialPurpose::Search || trial.purpose == TrialPurpose::Retrain;
      if (counted && trains && cost.relative_cost > 0) {
        count_trial(proposal, cost, rows, trial);
      }
    } catch (const Error&) {
      trial.graph_id = "";
    }
    trials.push_back(std::move(trial));
  }
  return trials;
}

/// Checkpoints that nobody will go on from are removed.
void StageController::drop_checkpoints(const std::function<bool(const Trial&)>& keep) const {
  if (!stage_.kind->continues) return;
  for (const Trial& trial : setup_.store->trials(stage_.name)) {
    if (trial.status == TrialStatus::Running || trial.status == TrialStatus::Queued) continue;
    if (keep(trial)) continue;
    std::error_code ignored;
    std::filesystem::remove(RunFolder::checkpoint(setup_.folder / trial.checkpoint), ignored);
  }
}

/// Tells the strategy, and keeps what follows from it in one transaction; then checkpoints that
/// nobody wants go.
bool StageController::tell_these(const std::vector<Trial>& ended) {
  if (ended.empty()) return false;
  std::vector<Outcome> outcomes;
  std::vector<std::int64_t> ids;
  for (const Trial& trial : ended) {
    outcomes.push_back(outcome_of(trial));
    ids.push_back(trial.id);
  }
  if (stage_.async) {
    for (const Outcome& outcome : outcomes) strategy_->tell({outcome});
  } else {
    strategy_->tell(outcomes);
  }
  const bool over = time_is_over(setup_.budget, stage_, record_, setup_.clock());
  if (over) strategy_->close();
  setup_.store->mark_told(stage_.name, ids, journal_.told(*strategy_, ids, over));
  const std::vector<std::int64_t> resting = strategy_->resting();
  drop_checkpoints([&](const Trial& trial) {
    return std::ranges::find(resting, trial.proposal) != resting.end();
  });
  return true;
}

bool StageController::ask(std::int64_t count) {
  const std::vector<Proposal> proposals = strategy_->ask(count);
  if (proposals.empty()) return false;
  const std::vector<std::int64_t> ids = setup_.store->add_trials(
      stage_.name, make_trials(proposals), journal_.asked(*strategy_, count));
  proposed_.insert(proposed_.end(), ids.begin(), ids.end());
  return true;
}

/// Each with the strategy's state in one transaction with its trial: a kill leaves it waiting or
/// taken.
std::int64_t StageController::adopt() {
  looked_.restart();
  if (!stage_.kind->adopts || strategy_->finished()) return 0;
  if (time_is_over(setup_.budget, stage_, record_, setup_.clock())) return 0;
  std::int64_t count = 0;
  for (const EnqueuedRecord& wanted : setup_.store->enqueued(true)) {
    Adoption adoption;
    try {
      const Genotype genotype = setup_.space->from_text(wanted.genotype);
      adoption.refusal = setup_.space->invalid_reason(genotype);
      if (adoption.refusal.empty()) adoption = strategy_->adopt(genotype, wanted.asked_by);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::Usage && error.kind() != ErrorKind::Input) throw;
      adoption = {std::nullopt, error.what()};
    }
    if (!adoption.proposal) {
      refuse_enqueued(*setup_.store, wanted, adoption.refusal, setup_.clock());
      continue;
    }
    const std::vector<std::int64_t> ids = setup_.store->add_trials(
        stage_.name, make_trials({*adoption.proposal}), journal_.whole(*strategy_), {wanted.id});
    setup_.store->add_event(
        setup_.clock(), ids.front(), "enqueued", wanted.genotype + ", by " + wanted.asked_by);
    proposed_.push_back(ids.front());
    ++count;
  }
  return count;
}

bool StageController::must_stop() {
  if (!stage_.stop.any()) return false;
  const std::string reason = reason_to_stop(stage_.stop, setup_.store->trials(stage_.name));
  if (!reason.empty()) stop(reason);
  return finished_;
}

void StageController::stop(const std::string& reason) {
  if (finished_) return;
  Evaluation not_begun;
  not_begun.status = TrialStatus::Aborted;
  not_begun.message = "not begun: the stage was stopped";
  while (const auto queued = setup_.store->claim(stage_.name, setup_.clock())) {
    setup_.store->finish(*queued, not_begun, setup_.clock());
  }
  for (const OpenTrial& open : setup_.store->open_trials(stage_.name)) {
    setup_.store->wish(open.id, "stop");
  }
  setup_.store->add_event(setup_.clock(), 0, "stage stopped", stage_.name + ": " + reason);
  strategy_->close();
  finished_ = true;
}

bool StageController::turn(std::int64_t workers) {
  proposed_.clear();
  if (finished_) return false;
  std::int64_t open = setup_.store->count_open(stage_.name);
  const bool asks = stage_.async ? open < workers : open == 0;
  const bool looks = asks || open != open_before_ || looked_.seconds() > kLookSeconds;
  const std::int64_t adopted = looks ? adopt() : 0;
  open += adopted;
  open_before_ = open;
  if (!stage_.async && open > 0) return adopted > 0;
  const bool told = tell_these(setup_.store->untold_trials(stage_.name, stage_.async));
  if (told && must_stop()) return true;
  if (strategy_->finished()) {
    finished_ = open == 0;
    return true;
  }
  const bool asked = stage_.async ? open < workers && ask(workers - open) : ask(kAsk);
  if (!asked && strategy_->finished()) {  // it found out when it was asked
    setup_.store->mark_told(stage_.name, {}, journal_.whole(*strategy_));
    finished_ = open == 0;
    return true;
  }
  NAS_CHECK_KIND(Internal,
                 asked || open > 0,
                 "strategy \"",
                 stage_.kind->name,
                 "\" is not finished but proposes nothing and waits for nothing");
  return told || asked || adopted > 0;
}

void StageController::rest() {
  if (!finished_) setup_.store->mark_told(stage_.name, {}, journal_.whole(*strategy_));
}

Winner StageController::end() {
  TrialStore& store = *setup_.store;
  if (stage_.kind->final) check_any_retrained(*setup_.space, store.trials(stage_.name));
  Winner winner = strategy_->winner();
  drop_checkpoints([&](const Trial& trial) {
    const auto last = training_to_continue(winner.genotype);
    const auto plan = training_to_continue(setup_.space->baseline());
    return (last && last->id == trial.id) || (plan && plan->id == trial.id);
  });
  store.end_stage(stage_.name, setup_.clock(), winner, strategy_->story());
  if (winner.found) {
    store.add_event(
        setup_.clock(),
        0,
        "stage ended",
        concat_text(
            stage_.name, ": ", setup_.space->short_text(winner.genotype), ", ", winner.how));
  }
  return winner;
}

}  // namespace nas
