// SPDX-License-Identifier: Apache-2.0
#include "evolution/regularized.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/json.h"
#include "nas/search/ledger_strategy.h"
#include "nas/search/pareto.h"

namespace nas {
namespace {

constexpr const char* kWhere = "state of strategy \"regularized\"";
constexpr int kMutations = 64;  // attempts at a new child before a random genotype takes its place

/// The youngest finished rows, and how good each is as a parent (higher is better).
struct Population {
  std::vector<const Ledger::Row*> rows;
  std::vector<double> merit;
};

Population youngest(const StrategyContext& context,
                    const Ledger& ledger,
                    TrialPurpose purpose,
                    std::int64_t size,
                    const std::vector<std::string>& objectives) {
  Population population;
  for (const Ledger::Row& row : ledger.rows()) {
    if (row.done() && row.proposal.purpose == purpose) population.rows.push_back(&row);
  }
  const auto count = static_cast<std::int64_t>(population.rows.size());
  population.rows.erase(population.rows.begin(),
                        population.rows.begin() + std::max<std::int64_t>(0, count - size));
  if (objectives.empty()) {
    for (const Ledger::Row* row : population.rows) population.merit.push_back(row->outcome.score);
    return population;
  }
  std::vector<std::vector<double>> points;
  for (const Ledger::Row* row : population.rows) {
    const TrialCost cost = context.cost(row->proposal.genotype);
    points.push_back({-row->outcome.score});
    for (const std::string& name : objectives) points.back().push_back(cost_value(cost, name));
  }
  // The front decides, inside a front the crowding distance: its place among all distances.
  const std::vector<int> fronts = pareto_fronts(points);
  const std::vector<double> crowding = crowding_distances(points, fronts);
  for (std::size_t i = 0; i < points.size(); ++i) {
    const auto less_crowded = static_cast<double>(
        std::ranges::count_if(crowding, [&](double other) { return other < crowding[i]; }));
    population.merit.push_back(-fronts[i] +
                               less_crowded / (static_cast<double>(points.size()) + 1));
  }
  return population;
}

const Genotype& tournament(const Population& population, std::int64_t sample, Rng& rng) {
  const auto size = static_cast<std::int64_t>(population.rows.size());
  std::size_t best = static_cast<std::size_t>(rng.integer(0, size));
  for (std::int64_t i = 1; i < sample; ++i) {
    const auto other = static_cast<std::size_t>(rng.integer(0, size));
    if (population.merit[other] > population.merit[best]) best = other;
  }
  return population.rows[best]->proposal.genotype;
}

class RegularizedEvolution : public LedgerStrategy {
 public:
  explicit RegularizedEvolution(const StrategyContext& context)
      : LedgerStrategy(context, "regularized") {
    planned_ = std::max<std::int64_t>(1, context.budget.trials);
    objectives_ = context.stage.words("objectives");
    sizes_ = aging_sizes(planned_);
    for (const Genotype& anchor : draws_.anchors()) {
      if (static_cast<std::int64_t>(ledger_.size()) < planned_ && draws_.take(anchor)) {
        propose(anchor);
      }
    }
    go_on();
    draws_.check_any();
  }

  Adoption adopt(const Genotype& genotype, const std::string& by) override {
    return adopt_next(draws_, ledger_, equal_share(context_, genotype, planned_), by);
  }

  std::string story() const override {
    return Json{{"population", sizes_.population},
                {"sample", sizes_.sample},
                {"batch", sizes_.batch},
                {"best_after", ledger_.best_after()},
                {"draws", draws_.counts()},
                {"front", pareto_story(context_, ledger_)}}
        .dump();
  }

  std::string save() const override {
    return Json{{"version", 1},
                {"finished", finished_},
                {"draws", draws_.counts()},
                {"ledger", ledger_.save()}}
        .dump();
  }
  void load(const std::string& state) override {
    const Json value = parse_json(state, kWhere);
    const JsonReader reader(value, kWhere);
    reader.at("version").integer(1, 1);
    finished_ = reader.at("finished").boolean();
    ledger_.load(reader.at("ledger"));
    draws_.load(reader.at("draws"), ledger_);
  }

 private:
  void propose(const Genotype& genotype) { ledger_.add(equal_share(context_, genotype, planned_)); }

  void go_on() override {
    const std::int64_t left =
        planned_ + ledger_.adopted() - static_cast<std::int64_t>(ledger_.size());
    const std::vector<Genotype> next =
        next_generation(context_, ledger_, TrialPurpose::Search, sizes_, left, objectives_, draws_);
    for (const Genotype& genotype : next) propose(genotype);
    finished_ = next.empty() && ledger_.complete();
  }

  AgingSizes sizes_;
  std::vector<std::string> objectives_;  // beside the score
};

}  // namespace

AgingSizes aging_sizes(std::int64_t trials) {
  AgingSizes sizes;
  sizes.population = std::clamp<std::int64_t>(trials / 3, 2, 50);
  sizes.sample = std::max<std::int64_t>(2, (sizes.population + 2) / 4);
  sizes.batch = std::max<std::int64_t>(1, sizes.population / 4);
  return sizes;
}

std::vector<Genotype> next_generation(const StrategyContext& context,
                                      const Ledger& ledger,
                                      TrialPurpose purpose,
                                      const AgingSizes& sizes,
                                      std::int64_t wanted,
                                      const std::vector<std::string>& objectives,
                                      Draws& draws) {
  std::int64_t proposed = 0;
  for (const Ledger::Row& row : ledger.rows()) proposed += row.proposal.purpose == purpose;
  const bool growing = proposed < sizes.population;
  wanted = std::min(wanted, growing ? sizes.population - proposed : sizes.batch);
  const Population population = youngest(context, ledger, purpose, sizes.population, objectives);
  Rng rng = context.rng.split(growing ? "population" : "children", ledger.size());
  std::vector<Genotype> next;
  while (static_cast<std::int64_t>(next.size()) < wanted) {
    std::optional<Genotype> child;
    // Where everything failed there is no parent: random ones go on.
    for (int i = 0; i < kMutations && !growing && !population.rows.empty() && !child; ++i) {
      const Genotype& parent = tournament(population, sizes.sample, rng);
      Genotype mutant = context.space->mutate(parent, rng, draws.groups());
      if (draws.take(mutant)) child = std::move(mutant);
    }
    if (!child) child = draws.sample(rng);
    if (!child) break;
    next.push_back(std::move(*child));
  }
  return next;
}

const StrategyKind& regularized_kind() {
  static const StrategyKind kind{
      .name = "regularized",
      .words = "regularized evolution",
      .options = {trials_option(), words_option("objectives", cost_objectives())},
      .adopts = true,
      .measures_step_time = has_step_time_objective,
      .budget = trained_once_budget,
      .least_trainings = least_trained_once,
      .forecast = trained_once_forecast,
      .make = [](const StrategyContext& context) -> std::unique_ptr<Strategy> {
        return std::make_unique<RegularizedEvolution>(context);
      }};
  return kind;
}

}  // namespace nas
