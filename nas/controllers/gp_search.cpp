// SPDX-License-Identifier: Apache-2.0
#include "nas/controllers/gp_search.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "nas/controllers/acquisition_search.h"
#include "nas/controllers/gaussian_process.h"
#include "nas/controllers/observations.h"
#include "nas/core/error.h"
#include "nas/search/one_by_one.h"
#include "nas/search/sobol_points.h"
#include "nas/search/unit_space.h"

namespace nas {
namespace {

constexpr std::int64_t kStartPart = 3;  // of the trials, at most one in so many starts
constexpr int kStartAttempts = 256;     // at a valid start point before one is drawn at random
constexpr std::size_t kBestKept = 200, kNewestKept = 600;
constexpr int kFirstFit = 60, kNextFit = 25;  // evaluations
constexpr double kBoundDeviations = 2;

class GpSearch : public OneByOne {
 public:
  explicit GpSearch(const StrategyContext& context)
      : OneByOne(context, "gp"),
        space_(*context_.space, draws_.groups(), context_.start),
        sobol_(space_.size()),
        earlier_(earlier_runs(context_.stage, *context_.space)) {
    const auto d = static_cast<std::int64_t>(space_.size());
    const std::int64_t asked = context_.stage.count("start");
    starts_ =
        asked > 0 ? asked : std::min(2 * d + 2, std::max<std::int64_t>(2, planned_ / kStartPart));
    begin();
  }

 protected:
  std::optional<Genotype> next() override {
    const std::int64_t done =
        std::ranges::count_if(ledger_.rows(), [](const Ledger::Row& row) { return row.done(); });
    if (std::ssize(ledger_.rows()) < starts_ || done < 2) return spread();
    return improve();
  }

  Json save_more() const override {
    Json more = {{"started", started_}, {"fallbacks", fallbacks_}, {"expected", expected_}};
    if (parameters_) {
      const Eigen::VectorXd packed = parameters_->packed();
      more["parameters"] = std::vector<double>(packed.begin(), packed.end());
    }
    return more;
  }

  void load_more(const JsonReader& more) override {
    constexpr std::int64_t kMany = 1 << 30;
    started_ = more.at("started").integer(0, kMany);
    fallbacks_ = more.at("fallbacks").integer(0, kMany);
    expected_ = more.at("expected").numbers();
    parameters_.reset();
    if (!more.has("parameters")) return;
    const std::vector<double> packed = more.at("parameters").numbers();
    NAS_CHECK(packed.size() == space_.size() + 2,
              more.where(),
              ".parameters: expected ",
              space_.size() + 2,
              " numbers, found ",
              packed.size());
    parameters_ = GpParameters::unpacked(
        Eigen::Map<const Eigen::VectorXd>(packed.data(), std::ssize(packed)));
  }

  void tell_more(Json& story) const override {
    story["starts"] = std::min<std::int64_t>(starts_, std::ssize(ledger_.rows()));
    story["fallbacks"] = fallbacks_;
    story["log_improvement"] = expected_;
    story["relevance"] = Json::array();
    if (!parameters_) return;
    // Inverse squared length scales: what a gene contributes to the distance of two networks.
    const Eigen::VectorXd weights = (-2 * parameters_->log_length.array()).exp();
    std::vector<std::size_t> order(space_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    const auto weight = [&](std::size_t d) { return weights[static_cast<Eigen::Index>(d)]; };
    std::ranges::stable_sort(order,
                             [&](std::size_t a, std::size_t b) { return weight(a) > weight(b); });
    for (const std::size_t d : order) {
      story["relevance"].push_back({{"gene", space_.gene(d).name},
                                    {"length_scale", std::pow(weight(d), -0.5)},
                                    {"share", weight(d) / weights.sum()}});
    }
    story["noise_share"] = std::exp(parameters_->log_noise) /
                           (std::exp(parameters_->log_noise) + std::exp(parameters_->log_variance));
  }

 private:
  /// A start point.
  std::optional<Genotype> spread() {
    const auto shift = sobol_.shift(context_.rng.split("start"));
    for (int i = 0; i < kStartAttempts && !context_.space->linked_genes(); ++i) {
      const Genotype genotype =
          space_.genotype(space_.spread(sobol_.point(static_cast<std::size_t>(started_++), shift)));
      if (context_.space->invalid_reason(genotype).empty() && draws_.take(genotype)) {
        return genotype;
      }
    }
    return random();
  }

  std::optional<Genotype> random() {
    Rng rng = context_.rng.split("random", ledger_.size());
    return draws_.sample(rng);
  }

  std::optional<Genotype> fall_back() {
    ++fallbacks_;
    return random();
  }

  std::optional<Genotype> improve() {
    Observations seen = observations(earlier_, ledger_, space_);
    seen.keep(kBestKept, kNewestKept);
    GaussianProcess told = seen.process(false);
    parameters_ = told.fitted(seen.values,
                              parameters_.value_or(GpParameters::standard(told.dimensions())),
                              parameters_ ? kNextFit : kFirstFit);
    if (!told.factor(*parameters_)) return fall_back();
    told.condition(seen.values);
    const bool any_pending = seen.pending.cols() > 0;
    GaussianProcess all = any_pending ? seen.process(true) : std::move(told);
    if (any_pending) {
      // Outcomes that are not known yet: as the process expects them.
      Eigen::VectorXd means, variances;
      told.predict_all(seen.pending, means, variances);
      Eigen::VectorXd values(seen.values.size() + means.size());
      values << seen.values, means;
      if (!all.factor(*parameters_)) return fall_back();
      all.condition(values);
    }
    AcquisitionSearch search{*context_.space, space_, sobol_, draws_, all, seen.best};
    search.around = seen.best_points;
    search.find(context_.rng.split("candidates", ledger_.size()));
    if (context_.stage.flag("stop_when_settled") && settled(search, seen)) return std::nullopt;
    if (context_.stage.flag("cost_aware")) {
      search.discount(
          [&](const Genotype& genotype) { return 0.5 * std::log(step_cost(genotype)); });
    }
    const auto found = search.take();
    if (!found) return fall_back();
    expected_.push_back(found->second + std::log(seen.deviation));
    return found->first;
  }

  /// Of a training step; 1 where it is not known.
  double step_cost(const Genotype& genotype) const {
    if (!context_.cost) return 1;
    try {
      const TrialCost cost = context_.cost(genotype);
      const double known = cost.step_seconds > 0    ? cost.step_seconds
                           : cost.relative_cost > 0 ? cost.relative_cost
                                                    : static_cast<double>(cost.macs);
      return known > 0 ? known : 1;
    } catch (const Error&) {  // cannot be built: becomes a row that says so
      return 1;
    }
  }

  /// Nothing is left to gain that the cases could show.
  bool settled(const AcquisitionSearch& search, const Observations& seen) {
    const auto best = ledger_.best();
    if (!best) return false;
    const std::vector<double>& cases = ledger_.row(*best).outcome.cases;
    // Against the baseline; where that is the best itself, against the second.
    const Ledger::Row* other = nullptr;
    for (const Ledger::Row& row : ledger_.rows()) {
      if (!row.done() || row.proposal.number == *best) continue;
      if (row.proposal.label == "baseline") {
        other = &row;
        break;
      }
      if (!other || row.outcome.score > other->outcome.score) other = &row;
    }
    if (!other) return false;
    const auto half_width = paired_half_width(cases, other->outcome.cases);
    if (!half_width) return false;
    const double gain = seen.deviation * (search.upper_bound(kBoundDeviations) - seen.best);
    if (gain >= *half_width) return false;
    end(concat_text("nothing left to gain: at most ",
                    gain,
                    " above the best, whose paired interval is ",
                    *half_width,
                    " to either side"));
    return true;
  }

  const UnitSpace space_;
  SobolPoints sobol_;
  const std::vector<EarlierRun> earlier_;
  std::int64_t starts_ = 0;
  std::int64_t started_ = 0;  // Sobol points looked at
  std::int64_t fallbacks_ = 0;
  std::vector<double> expected_;  // log improvement of each suggestion, of the score
  std::optional<GpParameters> parameters_;
};

}  // namespace

const StrategyKind& gp_kind() {
  static const StrategyKind kind{
      .name = "gp",
      .words = "Bayesian optimisation with a Gaussian process",
      .options = {trials_option(),
                  parallel_option(),
                  count_option("start", 0, 0, 10000),  // 0: from the number of genes
                  earlier_option(),
                  flag_option("cost_aware", false),
                  flag_option("stop_when_settled", false)},
      .async = true,
      .adopts = true,
      .compares_cases = [](const StageSpec& stage) { return stage.flag("stop_when_settled"); },
      .budget = trained_once_budget,
      .least_trainings = least_trained_once,
      .forecast = trained_once_forecast,
      .make = [](const StrategyContext& context) -> std::unique_ptr<Strategy> {
        return std::make_unique<GpSearch>(context);
      }};
  return kind;
}

}  // namespace nas
