// SPDX-License-Identifier: Apache-2.0
#include "nas/search/random_search.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/json.h"
#include "nas/search/ledger_strategy.h"
#include "nas/search/pareto.h"
#include "nas/search/sobol_points.h"
#include "nas/search/unit_space.h"

namespace nas {
namespace {

constexpr const char* kWhere = "state of strategy \"random\"";
constexpr double kKeep = 1.0 / 3;
// Where the baseline's final training has fewer steps than this, only cheaper networks are tried
// beside it, down to this part of its cost.
constexpr double kHardlyAnySteps = 300;
constexpr double kSmallestCost = 0.25;

/// Genotypes that lie evenly in the space of the free genes.
class Spread {
 public:
  Spread(const StrategyContext& context, const std::vector<std::string>& groups)
      : space_(*context.space, groups, context.start),
        whole_(*context.space),
        sobol_(space_.size()),
        shift_(sobol_.shift(context.rng.split("sobol"))) {}

  /// Where genes depend on each other so much that hardly any point is valid, one at random.
  std::optional<Genotype> next(Draws& draws, Rng& rng) {
    for (int i = 0; i < Draws::kRejections && !whole_.linked_genes(); ++i) {
      const Genotype genotype = space_.genotype(space_.spread(sobol_.point(index_++, shift_)));
      if (whole_.invalid_reason(genotype).empty() && draws.take(genotype)) return genotype;
    }
    return draws.sample(rng);
  }

 private:
  UnitSpace space_;
  const SearchSpace& whole_;
  SobolPoints sobol_;
  std::vector<std::uint64_t> shift_;
  std::size_t index_ = 0;
};

class RandomSearch : public LedgerStrategy {
 public:
  explicit RandomSearch(const StrategyContext& context) : LedgerStrategy(context, "random") {
    const std::int64_t wanted = std::max<std::int64_t>(1, context.budget.trials);
    std::vector<Genotype> first;
    if (draws_.take(context.baseline)) first.push_back(context.baseline);
    // What the stages before found takes part too, so that this one cannot end below it.
    if (context.start_found && std::ssize(first) < wanted && draws_.take(context.start)) {
      first.push_back(context.start);
    }
    Rng rng = context.rng.split("sample");
    Spread spread(context_, draws_.groups());
    const bool even = context.stage.word("design") == "sobol";
    while (std::ssize(first) < wanted) {
      const auto drawn = even ? spread.next(draws_, rng) : draws_.sample(rng);
      if (!drawn) break;
      first.push_back(*drawn);
    }
    draws_.check_any();
    sizes_ = halving_sizes(std::ssize(first), context.budget.rungs, context.stage.number("keep"));
    planned_ = 0;
    for (const std::int64_t size : sizes_) planned_ += size;
    add_rung(0, first);
  }

  Adoption adopt(const Genotype& genotype, const std::string& by) override {
    if (rung_ > 0) return {std::nullopt, "the stage's first rung is over"};
    return adopt_next(draws_, ledger_, of_rung(0, genotype), by);
  }

  /// Scores of one rung compare: the best of the highest one that has any.
  Winner winner() const override {
    for (int rung = rung_; rung >= 0; --rung) {
      const std::vector<const Ledger::Row*> order = ranked(rung);
      if (order.empty()) continue;
      Winner best{true, order.front()->proposal.genotype, order.front()->outcome.score, ""};
      best.how = concat_text("best of ",
                             rows_of(0).size(),
                             " by own training, rung ",
                             rung + 1,
                             " of ",
                             sizes_.size());
      return best;
    }
    return {};
  }

  std::string story() const override {
    Json rungs = Json::array();
    for (int rung = 0; rung <= rung_; ++rung) {
      const std::vector<const Ledger::Row*> rows = rows_of(rung), order = ranked(rung);
      Json scores = Json::array();
      for (const Ledger::Row* row : order) scores.push_back(row->outcome.score);
      rungs.push_back({{"trials", rows.size()},
                       {"scores", scores},
                       {"steps", order.empty() ? 0 : order.front()->outcome.steps},
                       {"promoted", rung < rung_ ? rows_of(rung + 1).size() : 0}});
    }
    return Json{
        {"rungs", rungs}, {"draws", draws_.counts()}, {"front", pareto_story(context_, ledger_)}}
        .dump();
  }

  std::string save() const override {
    return Json{{"version", 2},
                {"sizes", sizes_},
                {"finished", finished_},
                {"draws", draws_.counts()},
                {"ledger", ledger_.save()}}
        .dump();
  }

  void load(const std::string& state) override {
    const Json value = parse_json(state, kWhere);
    const JsonReader reader(value, kWhere);
    reader.at("version").integer(2, 2);
    sizes_ = reader.at("sizes").integers();
    planned_ = 0;
    for (std::size_t r = 0; r < sizes_.size(); ++r) {
      planned_ += reader.at("sizes").at(r).integer(1, 1 << 20);
    }
    finished_ = reader.at("finished").boolean();
    ledger_.load(reader.at("ledger"));
    NAS_CHECK(ledger_.size() > 0, kWhere, ": ledger: expected at least one row");
    rung_ = 0;
    for (const Ledger::Row& row : ledger_.rows()) rung_ = std::max(rung_, row.proposal.rung);
    NAS_CHECK(rung_ < std::ssize(sizes_),
              kWhere,
              ": sizes: expected more than ",
              rung_,
              " rungs, found ",
              sizes_.size());
    draws_.load(reader.at("draws"), ledger_);
  }

 private:
  void add_rung(int rung, const std::vector<Genotype>& genotypes) {
    rung_ = rung;
    for (const Genotype& genotype : genotypes) ledger_.add(of_rung(rung, genotype));
  }

  Proposal of_rung(int rung, const Genotype& genotype) const {
    Proposal p;
    p.genotype = genotype;
    p.rung = rung;
    p.share = 1.0 / static_cast<double>(sizes_.size()) /
              static_cast<double>(sizes_[static_cast<std::size_t>(rung)]);
    if (genotype == context_.baseline) p.label = "baseline";
    return p;
  }

  std::vector<const Ledger::Row*> rows_of(int rung) const {
    std::vector<const Ledger::Row*> rows;
    for (const Ledger::Row& row : ledger_.rows()) {
      if (row.proposal.rung == rung) rows.push_back(&row);
    }
    return rows;
  }

  /// The finished trials of a rung, best first, equal scores in the order of their number.
  std::vector<const Ledger::Row*> ranked(int rung) const {
    std::vector<const Ledger::Row*> rows = rows_of(rung);
    std::erase_if(rows, [](const Ledger::Row* row) { return !row->done(); });
    std::ranges::stable_sort(rows, [](const Ledger::Row* a, const Ledger::Row* b) {
      return a->outcome.score > b->outcome.score;
    });
    return rows;
  }

  /// The best of this rung go on.
  void go_on() override {
    const std::vector<const Ledger::Row*> order = ranked(rung_);
    if (rung_ + 1 == std::ssize(sizes_) || order.empty()) {
      finished_ = true;
      return;
    }
    std::vector<Genotype> promoted;
    for (const Ledger::Row* row : order) {
      if (std::ssize(promoted) == sizes_[static_cast<std::size_t>(rung_ + 1)]) break;
      promoted.push_back(row->proposal.genotype);
    }
    add_rung(rung_ + 1, promoted);
  }

  std::vector<std::int64_t> sizes_;  // trials per rung
  int rung_ = 0;                     // the highest that has begun
};

// ---- what the engine knows of the kind

std::int64_t rungs_for(std::int64_t trials) { return trials >= 12 ? 3 : trials >= 4 ? 2 : 1; }

/// As asked for, or as many as go with the trials and `affordable(rungs)` trials allow.
template <typename Affordable>
std::int64_t rungs_within(std::int64_t asked, std::int64_t trials, const Affordable& affordable) {
  if (asked > 0) return asked;
  std::int64_t rungs = rungs_for(trials);
  while (rungs > 1 && affordable(rungs) < trials) --rungs;
  return rungs;
}

/// Trials and rungs that the recipe leaves open are chosen so that the baseline gets at least
/// kSmallestTraining steps in the first rung.
StageBudget halving_budget(const BudgetQuestion& question) {
  const std::int64_t trials = question.stage.count("trials");
  const std::int64_t rungs = question.stage.count("rungs");
  StageBudget result = question.means;
  if (!question.has_clock) {
    result.trials = trials > 0 ? trials : trials_in_steps(static_cast<double>(result.steps));
    result.rungs = rungs_within(
        rungs, result.trials, [&](std::int64_t r) { return result.steps / (r * kStepsOfTrial); });
    return result;
  }
  result.cost_limit = question.final_steps < kHardlyAnySteps
                          ? std::max(kSmallestCost, question.final_steps / kHardlyAnySteps)
                          : usual_cost_limit(question.final_steps);
  const auto affordable = [&](std::int64_t r) {
    return static_cast<std::int64_t>(result.seconds / static_cast<double>(r) /
                                     question.smallest_seconds);
  };
  if (trials > 0) {
    result.trials = trials;
    result.rungs = rungs_within(rungs, trials, affordable);
    if (affordable(result.rungs) < trials) question.refuse(trials, result.rungs);
    return result;
  }
  for (std::int64_t r = rungs > 0 ? rungs : 3; r >= 1; --r) {
    const std::int64_t most = std::min(kMostTrials, affordable(r));
    if (most >= kFewestTrials && (rungs > 0 || r == 1 || rungs_for(most) >= r)) {
      result.trials = most;
      result.rungs = r;
      return result;
    }
    if (rungs > 0) break;
  }
  question.refuse(kFewestTrials, std::max<std::int64_t>(1, rungs));
}

std::vector<TrialForecast> halving_forecast(const StageSpec& stage,
                                            const StageBudget& budget,
                                            const StepsOfShare& steps) {
  const auto sizes = halving_sizes(budget.trials, budget.rungs, stage.number("keep"));
  std::vector<TrialForecast> trials;
  for (const std::int64_t size : sizes) {
    trials.push_back(
        {"trials",
         size,
         steps(1.0 / static_cast<double>(size) * (1.0 / static_cast<double>(sizes.size())))});
  }
  return trials;
}

}  // namespace

std::vector<std::int64_t> halving_sizes(std::int64_t trials, std::int64_t rungs, double keep) {
  std::vector<std::int64_t> sizes;
  for (std::int64_t r = 0; r < std::max<std::int64_t>(1, rungs); ++r) {
    sizes.push_back(std::max<std::int64_t>(1, trials));
    trials = std::llround(static_cast<double>(trials) * keep);
  }
  return sizes;
}

const StrategyKind& random_kind() {
  static const StrategyKind kind{
      .name = "random",
      .words = "random search, successive halving",
      .options = {trials_option(),
                  count_option("rungs", 0, 0, 16),  // 0: from the number of trials
                  word_option("design", "random", {"random", "sobol"}),
                  // Share of a rung that is promoted.
                  number_option("keep", kKeep, {.low_open = true, .high_open = true})},
      .adopts = true,
      .counts_with_baseline = true,
      .budget = halving_budget,
      .least_trainings =
          [](const StageSpec& stage, std::int64_t finals) {
            return least_trained_once(stage, finals) *
                   static_cast<double>(std::max<std::int64_t>(1, stage.count("rungs")));
          },
      .forecast = halving_forecast,
      .make = [](const StrategyContext& context) -> std::unique_ptr<Strategy> {
        return std::make_unique<RandomSearch>(context);
      }};
  return kind;
}

}  // namespace nas
