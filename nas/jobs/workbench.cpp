// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/workbench.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/log.h"
#include "nas/core/progress.h"
#include "nas/jobs/mirroring.h"
#include "nas/search/forecast.h"
#include "nas/search/strategy_kind.h"
#include "nas/search/trial_request.h"
#include "search_spaces/training_genes.h"
#include "supernet/search/optional_stages.h"
#include "training/settings/plan_training.h"

namespace nas {
namespace {

/// Measured speeds of the planned network and the space's first one. \throws Error(Usage) if the
/// budget is below the smallest that buys the recipe.
SearchProbes measure_speeds(Workbench& bench,
                            const Budget& budget,
                            const std::function<double()>& clock) {
  const Recipe recipe = without_optional_stages(bench.recipe);
  const Genotype baseline = bench.space->baseline();
  SearchProbes probes;
  double smallest = 0;
  const bool needs_candidates =
      bench.space->has_super_network() &&
      std::ranges::any_of(bench.recipe.stages,
                          [](const StageSpec& stage) { return stage.kind->counts_candidates; });
  const auto measure = [&] {
    probes.search = bench.evaluator->probe(baseline, TrialPurpose::Search);
    probes.retrain = bench.evaluator->probe(baseline, TrialPurpose::Retrain);
    if (bench.space->start() != baseline) {
      probes.start = bench.evaluator->probe(bench.space->start(), TrialPurpose::Search);
    }
    if (needs_candidates) {
      probes.candidate_seconds =
          bench.evaluator->probe(bench.space->start(), TrialPurpose::Inherited).evaluation_seconds;
    }
    smallest = smallest_budget_seconds(recipe, clock(), probes.search, probes.retrain);
  };
  measure();
  if (budget.seconds < smallest && budget.seconds > 0.1 * smallest) {
    // Two steps may have met a busy moment of the machine: nobody is turned away because of that.
    bench.evaluator->trainer().probe_again(6);
    measure();
  }
  NAS_CHECK_KIND(Usage,
                 budget.seconds >= smallest,
                 "a budget of ",
                 to_text(budget),
                 " cannot buy a search of this data set on this machine: a step of the planned "
                 "network takes ",
                 format_duration(probes.search.step_seconds),
                 ", scoring the held-out cases ",
                 format_duration(probes.retrain.evaluation_seconds),
                 "; give --budget ",
                 static_cast<std::int64_t>(std::ceil(smallest / 10) * 10),
                 "s or more, or --steps n");
  return probes;
}

std::string probe_line(const Workbench& bench, const SearchProbes& probes) {
  return concat_text("probe: ",
                     format_duration(probes.search.step_seconds),
                     " a step of ",
                     kSmallestBatch,
                     " patches; scoring ",
                     format_duration(probes.search.evaluation_seconds),
                     " (",
                     bench.cases.inner_validation.size(),
                     " inner validation cases), ",
                     format_duration(probes.retrain.evaluation_seconds),
                     " (",
                     bench.cases.held_out.size(),
                     " held-out cases)");
}

/// Of the planned network's final training.
std::int64_t final_steps(const std::vector<StageForecast>& stages) {
  for (const StageForecast& stage : stages) {
    if (stage.final) return stage.trials.front().steps;
  }
  return 0;
}

/// What the budget is too small for.
std::vector<std::string> not_in_budget(Workbench& bench,
                                       const Budget& budget,
                                       const std::vector<StageForecast>& stages) {
  std::vector<std::string> cannot;
  std::int64_t most = 0;
  for (const StageForecast& stage : stages) {
    if (stage.final) continue;
    for (const TrialForecast& t : stage.trials) most = std::max(most, t.steps > 0 ? t.count : 0);
  }
  if (final_steps(stages) < kLongSteps) {
    std::string text = concat_text("nnU-Net's own recipe (250,000 steps");
    if (budget.has_clock()) {
      const std::int64_t batch = bench.prepared.configuration().batch;
      const double step = bench.evaluator->trainer().step_seconds(bench.space->baseline(), batch);
      text += concat_text(": about ", format_duration(250000.0 * step), " here");
    }
    cannot.push_back(text + "); a short schedule is used instead");
  }
  if (most > 0)
    cannot.push_back(concat_text("own trainings of more than ",
                                 most,
                                 " of the space's ",
                                 format_count(bench.space->count()),
                                 " networks"));
  return cannot;
}

/// The options that a genotype is trained with whose training has `horizon` effort in all.
std::string settings_at(Workbench& bench, const Genotype& genotype, double horizon) {
  Trial trial;
  trial.genotype = genotype;
  trial.genotype_text = bench.space->to_text(genotype);
  const double cost = std::max(bench.evaluator->describe(genotype).relative_cost, 1e-9);
  trial.steps = std::max<std::int64_t>(1, static_cast<std::int64_t>(horizon / cost));
  TrialRequest request;
  request.horizon_steps = trial.steps;
  trial.request = to_text(request);
  return bench.evaluator->plan(trial).settings;
}

/// Where mirroring is a contender of a race: what the races try first, without those that would be
/// trained like others before them. \returns what is recorded of mirroring.
Json contend(Workbench& bench, const Budget& budget, double elapsed, const SearchProbes& probes) {
  bench.evaluator->trainer().allow_mirroring(true);  // genes say where
  double horizon = 0;
  for (std::size_t i = 0; i < bench.recipe.stages.size(); ++i) {
    if (!bench.recipe.stages[i].kind->continues) continue;
    horizon =
        stage_budget(
            bench.recipe, i, budget, elapsed, probes.search, probes.candidate_seconds, probes.start)
            .horizon;
  }
  const bool given = !bench.portfolio.empty();
  std::vector<Starter> portfolio = given ? bench.portfolio : bench.space->portfolio();
  std::set<std::pair<std::string, std::string>> known;
  std::string mirrored;
  std::erase_if(portfolio, [&](const Starter& starter) {
    if (!starter.missing.empty()) return false;
    const std::string settings = settings_at(bench, starter.genotype, horizon);
    const std::string graph = bench.evaluator->describe(starter.genotype).graph_id;
    if (!known.emplace(graph, settings).second) return true;
    if (parse_json(settings, "settings").at("mirror").get<bool>()) mirrored = starter.name;
    return false;
  });
  bench.portfolio = std::move(portfolio);
  const std::string reason =
      mirrored.empty()
          ? "no mirroring: none of the trainings is long enough for it"
          : concat_text("mirroring is offered to the race (", mirrored, "): it has to win it");
  log_info(reason);
  return {{"mirror", true}, {"steps", 0}, {"reason", reason}};
}

/// Whether the trainings of this search may be mirrored: decided for the final training of the
/// planned network, and for all of them. Null if that training would not be mirrored anyway.
Json decide(Workbench& bench, const Budget& budget, std::int64_t steps) {
  TrainEvaluator& trainer = bench.evaluator->trainer();
  const TrainEvaluatorSetup& setup = trainer.setup();
  const Genotype baseline = bench.space->baseline();
  const auto step_seconds = [&](std::int64_t batch) {
    return trainer.step_seconds(baseline, batch);
  };
  MirrorQuestion question;
  TrainBudget final_budget{
      .steps = std::max(budget.steps, static_cast<std::int64_t>(std::llround(budget.effort)))};
  if (budget.has_clock()) {
    final_budget.seconds = static_cast<double>(steps) * step_seconds(kSmallestBatch);
    question.step_seconds = step_seconds;
  }
  if (final_budget.seconds <= 0 && final_budget.steps <= 0) return nullptr;
  question.configuration = setup.configuration;
  question.planned = plan_training(setup.configuration,
                                   static_cast<std::int64_t>(setup.cases.inner_training.size()),
                                   final_budget,
                                   question.step_seconds,
                                   setup.base);
  trainer.allow_mirroring(false);
  if (!question.planned.mirror) return nullptr;
  const auto phenotype = trainer.build(baseline);
  question.configuration.patch = phenotype->patch;
  question.graph = &phenotype->graph;
  question.cache = &bench.prepared.cache;
  question.cases = {setup.cases.inner_training, setup.cases.inner_validation};
  question.base = setup.base;
  question.seconds = final_budget.seconds;
  if (budget.has_clock()) {
    question.scoring_seconds = trainer.evaluation_seconds(baseline, TrialPurpose::Search);
  }
  question.show_progress = setup.show_progress;
  const MirrorCheck check = decide_mirroring(question);
  trainer.allow_mirroring(check.mirror);
  return to_json(check);
}

}  // namespace

void Workbench::make_evaluator(const TrainOptions& base,
                               const RunFolder& folder,
                               bool show_progress) {
  TrainEvaluatorSetup setup;
  setup.space = space.get();
  setup.configuration = prepared.configuration();
  setup.preprocessing = prepared.preprocessing;
  setup.data = &prepared.data;
  setup.cache = &prepared.cache;
  setup.cases = cases;
  setup.base = base;
  setup.run_folder = folder.path();
  setup.metric = recipe.metric;
  setup.show_progress = show_progress;
  evaluator = std::make_unique<SuperEvaluator>(std::move(setup));
}

Json make_forecast(Workbench& bench, const Budget& budget, const std::function<double()>& clock) {
  const TrialCost cost = bench.evaluator->describe(bench.space->baseline());
  Json forecast = {
      {"budget", to_text(budget)},
      {"baseline",
       {{"parameters", cost.parameters}, {"macs", cost.macs}, {"memory_bytes", cost.memory_bytes}}},
      {"space_size", bench.space->count()}};
  std::vector<std::string> lines;
  SearchProbes probes;
  if (budget.has_clock()) {
    probes = measure_speeds(bench, budget, clock);
    forecast["probe"] = {{"step_seconds", probes.search.step_seconds},
                         {"inner_validation_seconds", probes.search.evaluation_seconds},
                         {"held_out_seconds", probes.retrain.evaluation_seconds},
                         {"prepared_seconds", clock()}};
    lines.push_back(probe_line(bench, probes));
    lines.push_back(concat_text("preparation took ", format_duration(clock())));
  }
  const double begun = clock();
  const std::vector<std::string> chosen =
      choose_optional_stages(bench.recipe, *bench.space, budget, begun, probes);
  forecast["recipe"] = chosen;
  log_info("recipe ", bench.recipe.name, ":");
  for (const std::string& line : chosen) log_info("  ", line);
  auto stages = forecast_stages(bench.recipe, budget, begun, probes);
  check_all_bought(stages);
  const bool contends = mirroring_is_searched(*bench.space);
  forecast["mirroring"] =
      contends ? contend(bench, budget, begun, probes) : decide(bench, budget, final_steps(stages));
  if (!forecast["mirroring"].is_null()) {  // which took its time
    stages = forecast_stages(bench.recipe, budget, clock(), probes);
    check_all_bought(stages);
  }
  forecast["stages"] = Json::array();
  for (const StageForecast& stage : stages) {
    lines.push_back(to_text(stage));
    forecast["stages"].push_back(to_json(stage));
  }
  lines.push_back(concat_text("memory: about ",
                              format_bytes(static_cast<double>(cost.memory_bytes)),
                              " for a step of the planned network"));
  const std::vector<std::string> cannot = not_in_budget(bench, budget, stages);
  forecast["cannot_buy"] = cannot;
  log_info("forecast for ", to_text(budget), ":");
  for (const std::string& line : lines) log_info("  ", line);
  for (const std::string& line : cannot) log_info("  not in this budget: ", line);
  return forecast;
}

}  // namespace nas
