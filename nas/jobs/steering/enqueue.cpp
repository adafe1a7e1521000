// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/steering/enqueue.h"

#include <algorithm>

#include "nas/core/error.h"
#include "nas/core/json.h"
#include "nas/core/text.h"
#include "nas/jobs/strategies/strategies.h"
#include "nas/search/draws.h"
#include "nas/search/limits.h"
#include "nas/search/recipe.h"
#include "nas/search/stage_controller.h"
#include "search_spaces/network_costs.h"
#include "search_spaces/planned_unet/plan.h"
#include "search_spaces/spaces.h"

namespace nas {
namespace {

/// The first stage that is not over and takes genotypes of others.
const StageSpec& stage_that_takes(const Recipe& recipe, const ResultsDb& db) {
  std::vector<std::string> others;
  for (const StageSpec& stage : recipe.stages) {
    const auto record = db.stage(stage.name);
    if (record && record->status == "done") continue;
    if (stage.kind->adopts) return stage;
    others.push_back(stage.name + " (" + stage.kind->words + ")");
  }
  fail(ErrorKind::Usage,
       "no stage is left that takes genotypes of others; left: ",
       others.empty() ? std::string("none") : joined(others));
}

void check_size(const RunRecord& run,
                const Recipe& recipe,
                const StageRecord& record,
                const SearchSpace& space,
                const Genotype& genotype) {
  const Plan plan = plan_from_json(parse_json(run.plan_json, "plan"), "plan");
  const Configuration& planned = plan.configurations.front();
  NetworkCosts costs(space, planned.patch, planned.batch);
  std::string reason;
  try {
    const TrialCost cost = costs.of(genotype), of_plan = costs.of(space.baseline());
    reason = broken_limit(recipe.limits, cost, of_plan);
    const double most = record.budget.cost_limit;
    if (reason.empty() && genotype != space.baseline() && !within_cost_limit(most, cost, of_plan)) {
      reason = concat_text(cost.macs,
                           " multiply-adds, with this budget at most ",
                           most,
                           " times the planned network's ",
                           of_plan.macs);
    }
  } catch (const Error& error) {
    reason = concat_text("it cannot be built: ", error.what());
  }
  NAS_CHECK_KIND(Usage, reason.empty(), "", reason);
}

/// What the stage itself will ask, as far as it has begun.
void check_stage(const Recipe& recipe,
                 const StageSpec& stage,
                 ResultsDb& db,
                 const SearchSpace& space,
                 const Genotype& genotype) {
  ControllerSetup setup;
  setup.store = &db;
  setup.space = &space;
  setup.recipe = &recipe;
  const auto index = static_cast<std::size_t>(&stage - recipe.stages.data());
  const auto winner = start_of(setup, index);
  const Genotype start = winner ? winner->genotype : space.start();
  const std::vector<std::string> groups = searched_groups(space, stage);
  for (std::size_t g = 0; g < space.genes().size(); ++g) {
    const Gene& gene = space.genes()[g];
    const bool free = std::ranges::find(groups, gene.group) != groups.end();
    NAS_CHECK_KIND(Usage,
                   free || genotype.values[g] == start.values[g],
                   "gene ",
                   gene.name,
                   ": stage \"",
                   stage.name,
                   "\" does not search it: expected ",
                   gene.text(start.values[g]),
                   ", found ",
                   gene.text(genotype.values[g]));
  }
  for (const Trial& trial : db.trials(stage.name)) {
    NAS_CHECK_KIND(Usage,
                   trial.genotype != genotype,
                   "trial ",
                   trial.id,
                   " has this genotype already (",
                   to_text(trial.status),
                   ")");
  }
}

}  // namespace

std::string enqueue_genotype(ResultsDb& db, const std::string& asked, const std::string& asked_by) {
  const std::string state = db.state();
  NAS_CHECK_KIND(Usage, state != "done", "the run is done; nothing is tried any more");
  const RunRecord run = db.run();
  const std::string where = db.file().string();
  const Recipe recipe =
      recipe_from_json(parse_json(run.recipe_json, where), where, strategy_kinds());
  const auto space = make_space(parse_json(run.space_json, where));
  const Genotype genotype = space->from_text(asked);
  const std::string reason = space->invalid_reason(genotype);
  NAS_CHECK_KIND(Usage, reason.empty(), "", reason);
  const std::string text = space->to_text(genotype);
  for (const EnqueuedRecord& other : db.enqueued(true)) {
    NAS_CHECK_KIND(Usage, other.genotype != text, "it waits already, by ", other.asked_by);
  }
  const StageSpec& stage = stage_that_takes(recipe, db);
  const auto record = db.stage(stage.name);
  if (record) check_stage(recipe, stage, db, *space, genotype);
  check_size(run, recipe, record.value_or(StageRecord{}), *space, genotype);
  db.enqueue({text}, asked_by);
  return concat_text(text,
                     ": the next trial of stage \"",
                     stage.name,
                     "\"",
                     !record              ? ", which has not begun"
                     : state == "running" ? ""
                                          : ", once the run goes on");
}

}  // namespace nas
