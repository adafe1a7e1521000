// SPDX-License-Identifier: Apache-2.0
#include "evolution/nsga2.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "nas/core/error.h"
#include "nas/search/one_by_one.h"
#include "nas/search/pareto.h"

namespace nas {
namespace {

constexpr int kChildren = 64;  // attempts at a new child before a random genotype takes its place
constexpr double kCrossover = 0.9;  // of children have two parents; the paper's

class Nsga2 : public OneByOne {
 public:
  explicit Nsga2(const StrategyContext& context)
      : OneByOne(context, "nsga2"),
        objectives_(context.stage.words("objectives")),
        size_(
            std::min(context.stage.count("population"), std::max<std::int64_t>(2, planned_ / 2))) {
    begin();
  }

 protected:
  std::optional<Genotype> next() override {
    const std::vector<const Ledger::Row*> population = survivors();
    Rng rng = context_.rng.split("next", ledger_.size());
    const bool growing = std::ssize(ledger_.rows()) < size_ || population.empty();
    for (int i = 0; i < kChildren && !growing; ++i) {
      Genotype child = parent(population, rng);
      if (rng.chance(kCrossover)) child = crossed(child, parent(population, rng), rng);
      // What is no valid mixture is not mutated: the mutation of its first parent is.
      if (!context_.space->invalid_reason(child).empty()) child = parent(population, rng);
      child = context_.space->mutate(child, rng, draws_.groups());
      if (draws_.take(child)) return child;
    }
    return draws_.sample(rng);
  }

  void tell_more(Json& story) const override {
    story["population"] = size_;
    story["objectives"] = objectives_;
  }

 private:
  /// The population, best first.
  std::vector<const Ledger::Row*> survivors() const {
    std::vector<const Ledger::Row*> rows;
    std::vector<std::vector<double>> points;
    for (const Ledger::Row& row : ledger_.rows()) {
      if (!row.done()) continue;
      rows.push_back(&row);
      points.push_back({-row.outcome.score});
      if (objectives_.empty()) continue;
      const TrialCost cost = context_.cost(row.proposal.genotype);
      for (const std::string& name : objectives_) points.back().push_back(cost_value(cost, name));
    }
    const std::vector<int> fronts = pareto_fronts(points);
    const std::vector<double> crowding = crowding_distances(points, fronts);
    std::vector<std::size_t> order(rows.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) {
      return fronts[a] != fronts[b] ? fronts[a] < fronts[b] : crowding[a] > crowding[b];
    });
    std::vector<const Ledger::Row*> kept;
    for (const std::size_t i : order) {
      if (std::ssize(kept) < size_) kept.push_back(rows[i]);
    }
    return kept;
  }

  /// The population is sorted: the first of those drawn is the best.
  const Genotype& parent(const std::vector<const Ledger::Row*>& population, Rng& rng) const {
    std::int64_t best = std::ssize(population);
    for (std::int64_t i = 0; i < context_.stage.count("tournament"); ++i) {
      best = std::min(best, rng.integer(0, std::ssize(population)));
    }
    return population[static_cast<std::size_t>(best)]->proposal.genotype;
  }

  /// Each gene of one of the two, linked genes together.
  Genotype crossed(const Genotype& a, const Genotype& b, Rng& rng) const {
    Genotype child = a;
    const LinkedGenes* linked = context_.space->linked_genes();
    bool of_b = false;
    for (std::size_t g = 0; g < child.values.size(); ++g) {
      const bool inside =
          linked && g > linked->first && g < linked->first + linked->combinations.front().size();
      if (!inside) of_b = rng.chance(0.5);
      if (of_b) child.values[g] = b.values[g];
    }
    return context_.space->canonical(std::move(child));
  }

  const std::vector<std::string> objectives_;
  const std::int64_t size_;
};

}  // namespace

const StrategyKind& nsga2_kind() {
  static const StrategyKind kind{
      .name = "nsga2",
      .words = "NSGA-II",
      .options = {trials_option(),
                  parallel_option(),
                  words_option("objectives", cost_objectives()),
                  count_option("population", 20, 2, 10000),
                  count_option("tournament", 4, 1, 100)},
      .async = true,
      .adopts = true,
      .measures_step_time = has_step_time_objective,
      .budget = trained_once_budget,
      .least_trainings = least_trained_once,
      .forecast = trained_once_forecast,
      .make = [](const StrategyContext& context) -> std::unique_ptr<Strategy> {
        return std::make_unique<Nsga2>(context);
      }};
  return kind;
}

}  // namespace nas
