// SPDX-License-Identifier: Apache-2.0
#include "compound_scaling/scaling.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/json.h"
#include "nas/search/ledger_strategy.h"
#include "nas/search/pareto.h"

namespace nas {
namespace {

constexpr const char* kWhere = "state of strategy \"scaling\"";
constexpr std::int64_t kMostCombinations = 100000;

using Logs = std::array<double, 3>;  // of depth, width, resolution

Logs logs_of(const ScaleFactors& f) {
  return {std::log(f.depth), std::log(f.width), std::log(f.resolution)};
}
Logs logs_of(const ScalingRule& r) {
  return {std::log(r.alpha), std::log(r.beta), std::log(r.gamma)};
}

double dot(const Logs& a, const Logs& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

enum class Scales { Depth, Width, Resolution, Other };

Scales what_scales(const std::string& gene) {
  const auto says = [&](std::initializer_list<const char*> words) {
    return std::ranges::any_of(
        words, [&](const char* word) { return gene.find(word) != std::string::npos; });
  };
  if (says({"cells", "stages", "blocks", "depth"})) return Scales::Depth;
  if (says({"filters", "features", "width"})) return Scales::Width;
  if (says({"patch", "resolution"})) return Scales::Resolution;
  return Scales::Other;
}

/// "0.75", "x0.75", "64x96x96" -> the geometric mean of the numbers.
double number_of(const Gene& gene, int value) {
  const std::string text = gene.text(value);
  double sum = 0;
  int count = 0;
  const char* at = text.c_str();
  if (*at == 'x') ++at;
  while (true) {
    char* end = nullptr;
    const double number = std::strtod(at, &end);
    NAS_CHECK(end != at && std::isfinite(number) && number > 0 && (*end == 'x' || *end == '\0'),
              "compound scaling: gene ",
              gene.name,
              ": expected values such as 0.75 or 64x96x96, found '",
              text,
              "'");
    sum += std::log(number);
    ++count;
    if (*end == '\0') return std::exp(sum / count);
    at = end + 1;
  }
}

Json to_json(const ScalingRule& rule) {
  return {{"depth", rule.alpha}, {"width", rule.beta}, {"resolution", rule.gamma}};
}

class CompoundScaling : public LedgerStrategy {
 public:
  explicit CompoundScaling(const StrategyContext& context)
      : LedgerStrategy(with_scale_group(context), "scaling") {
    const std::int64_t wanted = std::max<std::int64_t>(1, context.budget.trials);
    const auto grid = draws_.enumerate(kMostCombinations);
    NAS_CHECK_KIND(Usage,
                   grid.has_value(),
                   "stage \"",
                   context.stage.name,
                   "\": compound scaling tries every combination of its groups, and there are more "
                   "than ",
                   kMostCombinations,
                   "; expected groups such as [\"scale\"]");
    grid_ = static_cast<std::int64_t>(grid->size());
    std::vector<Genotype> chosen;
    for (const std::size_t place : scaling_order(*context.space, context.start, *grid)) {
      if (std::ssize(chosen) == wanted) break;
      if (draws_.take((*grid)[place])) chosen.push_back((*grid)[place]);
    }
    draws_.check_any();
    for (const Genotype& genotype : chosen) {
      Proposal proposal;
      proposal.genotype = genotype;
      proposal.share = 1.0 / static_cast<double>(chosen.size());
      proposal.warm_start = context.stage.flag("warm_start");
      if (genotype == context.baseline) proposal.label = "baseline";
      ledger_.add(std::move(proposal));
    }
    planned_ = static_cast<std::int64_t>(ledger_.size());
  }

  bool finished() const override { return ledger_.complete(); }

  std::string story() const override {
    Json points = Json::array();
    std::vector<ScaledPoint> trained;
    double start_macs = 0;
    if (context_.cost) start_macs = static_cast<double>(context_.cost(context_.start).macs);
    for (const Ledger::Row& row : ledger_.rows()) {
      const ScaleFactors f = scale_factors(*context_.space, context_.start, row.proposal.genotype);
      Json point = {{"trial", row.outcome.trial},
                    {"depth", f.depth},
                    {"width", f.width},
                    {"resolution", f.resolution},
                    {"distance_to_rule", distance_to_rule(f)},
                    {"score", row.done() ? Json(row.outcome.score) : Json(nullptr)}};
      if (row.done() && start_macs > 0) {
        const double cost =
            static_cast<double>(context_.cost(row.proposal.genotype).macs) / start_macs;
        point["cost"] = cost;
        trained.push_back({f, cost, row.outcome.score});
      }
      points.push_back(std::move(point));
    }
    const auto fitted = fit_scaling_rule(trained);
    return Json{{"grid", grid_},
                {"points", points},
                {"rule", to_json(kEfficientNetRule)},
                {"fitted", fitted ? to_json(*fitted) : Json(nullptr)},
                {"fitted_points", fitted ? fitted->points : 0},
                {"draws", draws_.counts()},
                {"front", pareto_story(context_, ledger_)}}
        .dump();
  }

  std::string save() const override {
    return Json{
        {"version", 1}, {"grid", grid_}, {"draws", draws_.counts()}, {"ledger", ledger_.save()}}
        .dump();
  }
  void load(const std::string& state) override {
    const Json value = parse_json(state, kWhere);
    const JsonReader reader(value, kWhere);
    reader.at("version").integer(1, 1);
    grid_ = reader.at("grid").integer(0, kMostCombinations);
    ledger_.load(reader.at("ledger"));
    draws_.load(reader.at("draws"), ledger_);
  }

 private:
  void go_on() override {}  // all of it is proposed at once

  static StrategyContext with_scale_group(StrategyContext context) {
    if (context.stage.groups.empty()) context.stage.groups = {"scale"};
    return context;
  }

  std::int64_t grid_ = 0;  // combinations
};

}  // namespace

double distance_to_rule(const ScaleFactors& factors, const ScalingRule& rule) {
  const Logs point = logs_of(factors), line = logs_of(rule);
  const double phi = dot(point, line) / dot(line, line);
  double sum = 0;
  for (std::size_t i = 0; i < 3; ++i) {
    sum += (point[i] - phi * line[i]) * (point[i] - phi * line[i]);
  }
  return std::sqrt(sum);
}

std::optional<FittedRule> fit_scaling_rule(const std::vector<ScaledPoint>& points) {
  Logs weighted{};
  double squares = 0;
  std::int64_t count = 0;
  for (const ScaledPoint& point : points) {
    const bool matched = std::ranges::any_of(points, [&](const ScaledPoint& other) {
      const bool no_worse = other.cost <= point.cost && other.score >= point.score;
      return no_worse && (other.cost < point.cost || other.score > point.score);
    });
    if (matched) continue;
    const double phi = std::log2(point.cost);
    if (std::abs(phi) > 1e-6) ++count;
    const Logs logs = logs_of(point.factors);
    for (std::size_t i = 0; i < 3; ++i) weighted[i] += phi * logs[i];
    squares += phi * phi;
  }
  if (count < 2) return std::nullopt;
  return FittedRule{{std::exp(weighted[0] / squares),
                     std::exp(weighted[1] / squares),
                     std::exp(weighted[2] / squares)},
                    count};
}

std::vector<std::size_t> scaling_order(const SearchSpace& space,
                                       const Genotype& start,
                                       const std::vector<Genotype>& grid) {
  // Logarithms that differ by rounding only are equal.
  const auto rounded = [](double x) { return std::round(x * 1e9) / 1e9; };
  std::vector<ScaleFactors> factors;
  std::vector<Logs> logs;
  std::vector<double> length;
  for (const Genotype& genotype : grid) {
    const ScaleFactors& f = factors.emplace_back(scale_factors(space, start, genotype));
    Logs& l = logs.emplace_back(logs_of(f));
    for (double& x : l) x = rounded(x);
    length.push_back(rounded(std::sqrt(dot(l, l))));
  }
  std::vector<std::size_t> order(grid.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {}, [&](std::size_t g) { return length[g]; });

  enum Group { Start, StepUp, StepDown, Other };
  std::vector<Group> group(grid.size(), Other);
  std::set<std::pair<std::size_t, Group>> found;  // steps of each factor alone; shortest is first
  for (const std::size_t g : order) {
    std::vector<std::size_t> changed;
    for (std::size_t i = 0; i < logs[g].size(); ++i) {
      if (logs[g][i] != 0) changed.push_back(i);
    }
    if (changed.size() == 1) {
      const Group step = logs[g][changed[0]] > 0 ? StepUp : StepDown;
      if (found.emplace(changed[0], step).second) group[g] = step;
    }
    if (grid[g] == start) group[g] = Start;
  }
  std::ranges::stable_sort(order, {}, [&](std::size_t g) {
    return std::pair(group[g], group[g] == Other ? rounded(distance_to_rule(factors[g])) : 0.0);
  });
  return order;
}

ScaleFactors scale_factors(const SearchSpace& space,
                           const Genotype& start,
                           const Genotype& genotype) {
  ScaleFactors factors;
  for (std::size_t g = 0; g < space.genes().size(); ++g) {
    const Gene& gene = space.genes()[g];
    if (gene.group != "scale" || start.values[g] == genotype.values[g]) continue;
    const Scales scales = what_scales(gene.name);
    if (scales == Scales::Other) continue;
    const double ratio = number_of(gene, genotype.values[g]) / number_of(gene, start.values[g]);
    if (scales == Scales::Depth) factors.depth *= ratio;
    if (scales == Scales::Width) factors.width *= ratio;
    if (scales == Scales::Resolution) factors.resolution *= ratio;
  }
  return factors;
}

const StrategyKind& scaling_kind() {
  static const StrategyKind kind{
      .name = "scaling",
      .words = "compound scaling",
      .options = {trials_option(), flag_option("warm_start", false)},
      .budget = trained_once_budget,
      .least_trainings = least_trained_once,
      .forecast = trained_once_forecast,
      .make = [](const StrategyContext& context) -> std::unique_ptr<Strategy> {
        return std::make_unique<CompoundScaling>(context);
      }};
  return kind;
}

}  // namespace nas
