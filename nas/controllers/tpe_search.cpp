// SPDX-License-Identifier: Apache-2.0
#include "nas/controllers/tpe_search.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "nas/controllers/parzen.h"
#include "nas/search/earlier_run.h"
#include "nas/search/one_by_one.h"
#include "nas/search/unit_space.h"

namespace nas {
namespace {

constexpr std::int64_t kStart = 10;
constexpr double kGoodShare = 0.2;
constexpr std::size_t kMostGood = 25;
constexpr int kCandidates = 48;
constexpr int kAttempts = 16;  // lots of candidates of which none can be taken

class TpeSearch : public OneByOne {
 public:
  explicit TpeSearch(const StrategyContext& context)
      : OneByOne(context, "tpe"),
        space_(*context_.space, draws_.groups(), context_.start),
        earlier_(earlier_runs(context_.stage, *context_.space)) {
    begin();
  }

 protected:
  std::optional<Genotype> next() override {
    Rng rng = context_.rng.split("next", ledger_.size());
    const bool done =
        std::ranges::any_of(ledger_.rows(), [](const Ledger::Row& row) { return row.done(); });
    if (std::ssize(ledger_.rows()) < context_.stage.count("start") || !done) {
      return draws_.sample(rng);
    }
    const auto [good, bad] = split();
    const Parzen of_good(space_, good), of_bad(space_, bad);
    for (int attempt = 0; attempt < kAttempts; ++attempt) {
      std::vector<std::pair<double, Genotype>> candidates;
      for (int i = 0; i < kCandidates; ++i) {
        const std::vector<double> point = of_good.draw(rng);
        candidates.emplace_back(of_bad.log_density(point) - of_good.log_density(point),
                                space_.genotype(point));
      }
      std::ranges::stable_sort(candidates, {}, &std::pair<double, Genotype>::first);
      for (const auto& [ratio, genotype] : candidates) {
        if (context_.space->invalid_reason(genotype).empty() && draws_.take(genotype)) {
          return genotype;
        }
      }
    }
    return draws_.sample(rng);
  }

  void tell_more(Json& story) const override {
    story["starts"] =
        std::min<std::int64_t>(context_.stage.count("start"), std::ssize(ledger_.rows()));
    story["good"] = good_count();
  }

 private:
  std::int64_t good_count() const {
    std::int64_t told = 0;
    for (const EarlierRun& run : earlier_) told += std::ssize(run.results);
    for (const Ledger::Row& row : ledger_.rows()) told += row.done();
    return std::min<std::int64_t>(std::llround(std::ceil(kGoodShare * static_cast<double>(told))),
                                  static_cast<std::int64_t>(kMostGood));
  }

  /// Points of the good and of the bad trials, oldest first.
  std::pair<std::vector<std::vector<double>>, std::vector<std::vector<double>>> split() const {
    struct Seen {
      double score;
      std::vector<double> point;
    };
    std::vector<Seen> seen;
    double mean = 0, done = 0;
    for (const Ledger::Row& row : ledger_.rows()) {
      mean += row.done() ? row.outcome.score : 0;
      done += row.done();
    }
    mean /= done;
    for (const EarlierRun& run : earlier_) {
      double of_run = 0;
      for (const EarlierResult& r : run.results) {
        of_run += r.score / static_cast<double>(run.results.size());
      }
      for (const EarlierResult& r : run.results) {
        seen.push_back({r.score - of_run + mean, space_.point(r.genotype)});
      }
    }
    for (const Ledger::Row& row : ledger_.rows()) {
      seen.push_back(
          {row.done() ? row.outcome.score : -INFINITY, space_.point(row.proposal.genotype)});
    }
    std::vector<std::size_t> order(seen.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(
        order, [&](std::size_t a, std::size_t b) { return seen[a].score > seen[b].score; });
    std::vector<char> is_good(seen.size(), 0);
    for (std::int64_t i = 0; i < good_count(); ++i) is_good[order[static_cast<std::size_t>(i)]] = 1;
    std::pair<std::vector<std::vector<double>>, std::vector<std::vector<double>>> halves;
    for (std::size_t i = 0; i < seen.size(); ++i) {
      (is_good[i] ? halves.first : halves.second).push_back(std::move(seen[i].point));
    }
    return halves;
  }

  const UnitSpace space_;
  const std::vector<EarlierRun> earlier_;
};

}  // namespace

const StrategyKind& tpe_kind() {
  static const StrategyKind kind{
      .name = "tpe",
      .words = "tree-structured Parzen estimator",
      .options = {trials_option(),
                  parallel_option(),
                  earlier_option(),
                  count_option("start", kStart, 1, 10000)},
      .async = true,
      .adopts = true,
      .budget = trained_once_budget,
      .least_trainings = least_trained_once,
      .forecast = trained_once_forecast,
      .make = [](const StrategyContext& context) -> std::unique_ptr<Strategy> {
        return std::make_unique<TpeSearch>(context);
      }};
  return kind;
}

}  // namespace nas
