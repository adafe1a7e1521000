// SPDX-License-Identifier: Apache-2.0
#include "nas/controllers/enum_search.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "nas/core/error.h"
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
      Proposal p;
      p.genotype = genotype;
      p.share = 1.0 / static_cast<double>(planned_);
      if (genotype == context_.baseline) p.label = "baseline";
      ledger_.add(std::move(p));
    }
  }

  std::string story() const override {
    Json best = Json::array();
    std::optional<double> top;
    for (const Ledger::Row& row : ledger_.rows()) {
      if (row.done() && (!top || row.outcome.score > *top)) top = row.outcome.score;
      if (row.told) best.push_back(score_to_json(top));
    }
    return Json{{"product", combinations_},
                {"duplicates", duplicates_},
                {"invalid", invalid_},
                {"best_after", best},
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
    struct Axis {
      std::size_t first;
      std::vector<std::vector<int>> values;  // of genes first, first + 1, ...
    };
    std::vector<Axis> axes;
    const std::vector<Gene>& genes = context_.space->genes();
    const LinkedGenes* linked = context_.space->linked_genes();
    const std::vector<std::string>& groups = draws_.groups();
    for (std::size_t g = 0; g < genes.size(); ++g) {
      if (std::ranges::find(groups, genes[g].group) == groups.end()) continue;
      Axis axis{g, {}};
      if (linked && g == linked->first) {
        axis.values = linked->combinations;
        std::ranges::sort(axis.values);
        g += axis.values.front().size() - 1;
      } else {
        for (const int v : values_of(genes[g], context_.start.values[g]))
          axis.values.push_back({v});
      }
      combinations_ *= static_cast<double>(axis.values.size());
      axes.push_back(std::move(axis));
    }
    const auto limit = static_cast<double>(context_.stage.count("limit"));
    if (combinations_ > std::min(limit, kMostLooked)) {
      fail(ErrorKind::Usage,
           "stage \"",
           context_.stage.name,
           "\": kind enum would try all ",
           combinations_,
           " combinations of ",
           axes.size(),
           " genes; its limit is ",
           limit,
           ". Search fewer groups, raise \"limit\", or use the kind random, gp or tpe");
    }
    std::vector<Genotype> found;
    std::set<Genotype> seen;
    Genotype genotype = context_.start;
    std::vector<std::size_t> at(axes.size(), 0);
    for (bool more = true; more;) {
      for (std::size_t a = 0; a < axes.size(); ++a) {
        std::ranges::copy(axes[a].values[at[a]],
                          genotype.values.begin() + static_cast<std::ptrdiff_t>(axes[a].first));
      }
      Genotype canonical = context_.space->canonical(genotype);
      if (!context_.space->invalid_reason(canonical).empty()) {
        ++invalid_;
      } else if (!seen.insert(canonical).second) {
        ++duplicates_;
      } else {
        found.push_back(std::move(canonical));
      }
      // The next combination: the last axis runs fastest.
      more = false;
      for (std::size_t a = axes.size(); a-- > 0 && !more;) {
        at[a] = (at[a] + 1) % axes[a].values.size();
        more = at[a] > 0;
      }
    }
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
