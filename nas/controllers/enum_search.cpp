// SPDX-License-Identifier: Apache-2.0
#include "nas/controllers/enum_search.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "nas/core/error.h"
#include "nas/search/grid.h"
#include "nas/search/ledger_strategy.h"
#include "nas/search/pareto.h"

namespace nas {
namespace {

constexpr const char* kWhere = "state of strategy \"enum\"";
constexpr double kMostLooked = 1 << 22;  // combinations, whatever the limit

class EnumSearch : public LedgerStrategy {
 public:
  explicit EnumSearch(const StrategyContext& context) : LedgerStrategy(context, "enum") {
    std::vector<Genotype> all = product();
    if (context_.stage.flag("shuffled")) {
      Rng rng = context_.rng.split("order");
      rng.shuffle(all);
    }
    // Wherever it is: the first, so that whatever the budget allows is compared with it.
    const auto first = std::ranges::find(all, context_.baseline);
    if (first != all.end()) std::rotate(all.begin(), first, first + 1);
    std::erase_if(all, [&](const Genotype& genotype) { return !draws_.take(genotype); });
    draws_.check_any();
    planned_ = std::ssize(all);
    for (const Genotype& genotype : all) {
      ledger_.add(equal_share(context_, genotype, planned_));
    }
  }

  std::string story() const override {
    return Json{{"product", combinations_},
                {"duplicates", duplicates_},
                {"invalid", invalid_},
                {"best_after", ledger_.best_after()},
                {"draws", draws_.counts()},
                {"front", pareto_story(context_, ledger_)}}
        .dump();
  }

  // All proposals follow from the arguments.
  std::string save() const override {
    return Json{{"version", 1}, {"finished", finished_}, {"ledger", ledger_.save()}}.dump();
  }
  void load(const std::string& state) override {
    const Json value = parse_json(state, kWhere);
    const JsonReader reader(value, kWhere);
    reader.at("version").integer(1, 1);
    finished_ = reader.at("finished").boolean();
    Ledger loaded("enum");
    loaded.load(reader.at("ledger"));
    NAS_CHECK(std::cmp_equal(loaded.size(), planned_),
              kWhere,
              ": ledger: expected ",
              planned_,
              " rows, found ",
              loaded.size());
    for (std::int64_t i = 0; i < planned_; ++i) {
      NAS_CHECK(loaded.row(i).proposal == ledger_.row(i).proposal,
                kWhere,
                ": ledger: proposal ",
                i,
                " is not the one that the space gives");
    }
    ledger_ = std::move(loaded);
  }

 private:
  void go_on() override { finished_ = true; }

  /// Values that a gene is tried at, in order.
  std::vector<int> values_of(const Gene& gene, int planned) const {
    const std::int64_t points = context_.stage.count("points");
    std::vector<int> values;
    if (gene.kind != Gene::Kind::Real || gene.count() <= points) {
      for (int v = 0; v < gene.count(); ++v) values.push_back(v);
      return values;
    }
    std::set<int> levels = {planned};
    for (std::int64_t i = 0; i < points; ++i) {
      levels.insert(gene.index_of_unit(static_cast<double>(i) / static_cast<double>(points - 1)));
    }
    return {levels.begin(), levels.end()};
  }

  std::vector<Genotype> product() {
    const std::vector<Gene>& genes = context_.space->genes();
    const Grid grid(*context_.space, draws_.groups(), context_.start, [&](std::size_t g) {
      return values_of(genes[g], context_.start.values[g]);
    });
    combinations_ = grid.combinations();
    const auto limit = static_cast<double>(context_.stage.count("limit"));
    if (combinations_ > std::min(limit, kMostLooked)) {
      fail(ErrorKind::Usage,
           "stage \"",
           context_.stage.name,
           "\": kind enum would try all ",
           combinations_,
           " combinations of ",
           grid.axes(),
           " genes; its limit is ",
           limit,
           ". Search fewer groups, raise \"limit\", or use the kind random, gp or tpe");
    }
    std::vector<Genotype> found;
    std::set<Genotype> seen;
    grid.walk([&](const Genotype& genotype) {
      Genotype canonical = context_.space->canonical(genotype);
      if (!context_.space->invalid_reason(canonical).empty()) {
        ++invalid_;
      } else if (!seen.insert(canonical).second) {
        ++duplicates_;
      } else {
        found.push_back(std::move(canonical));
      }
      return true;
    });
    return found;
  }

  double combinations_ = 1;
  std::int64_t duplicates_ = 0, invalid_ = 0;
};

}  // namespace

const StrategyKind& enum_kind() {
  static const StrategyKind kind{
      .name = "enum",
      .words = "all combinations",
      .options = {trials_option(),  // what budgets and forecasts count with: the product is not
                                    // known before the space is
                  count_option("points", 3, 2, 1000),
                  count_option("limit", 10000, 1, 1 << 22),
                  flag_option("shuffled", false)},
      .budget = trained_once_budget,
      .least_trainings = least_trained_once,
      .forecast = trained_once_forecast,
      .make = [](const StrategyContext& context) -> std::unique_ptr<Strategy> {
        return std::make_unique<EnumSearch>(context);
      }};
  return kind;
}

}  // namespace nas
