// SPDX-License-Identifier: Apache-2.0
#include "nas/search/curve.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "nas/core/error.h"
#include "nas/search/statistics.h"

namespace nas {
namespace {

constexpr double kReferenceSteps = 100;  // where a is the distance from c
// Deviations of a curve from its group, in standard deviations, with the normal density as weight.
constexpr double kNodes[] = {-2, -1, 0, 1, 2};
// A curve that no power law explains (a training that collapsed) must not decide what the group is
// taken for: its evidence has this floor for each point.
constexpr double kOddEvidence = 0.01, kOddDensity = 0.5;
constexpr double kUnknownCases = 10;  // where no case scores are known
constexpr double kTwoPi = 2 * M_PI;

double log_normal_density(double distance, double variance) {
  return -0.5 * (distance * distance / variance + std::log(kTwoPi * variance));
}

/// One point of the grid of a curve given that of its group: what is known of c there.
struct Place {
  double weight = 0;        // log, then cumulative probability
  double mean = 0, sd = 0;  // of c
  double distance = 0;      // from c at the horizon
  double slope = 0;         // there, by log effort
};

/// A point of the grid of groups.
struct Group {
  double deficit = 0, exponent = 0;
  double weight = 0;                       // log, then cumulative probability
  std::vector<std::vector<Place>> places;  // of each curve
};

/// What the likelihood needs of one curve.
struct Observed {
  std::vector<double> log_steps, score, variance;  // of each point; log of steps / 100
  double log_horizon = 0, shift = 0;
};

struct Fit {
  double mean = 0, variance = 0, log_evidence = 0;
};

/// c as the points alone tell it, for given a and b.
Fit fit_asymptote(const Observed& curve, double deficit, double exponent, double misfit) {
  double precision = 0, sum = 0, squares = 0, logs = 0;
  for (std::size_t r = 0; r < curve.score.size(); ++r) {
    const double distance = deficit * std::exp(-exponent * curve.log_steps[r]);
    const double z = curve.score[r] + distance;
    const double v = curve.variance[r] + misfit * misfit * distance * distance;
    precision += 1 / v;
    sum += z / v;
    squares += z * z / v;
    logs += std::log(kTwoPi * v);
  }
  Fit fit;
  fit.variance = 1 / precision;
  fit.mean = sum / precision;
  // Density of the points given c, at its best, as a function of c a normal of this variance.
  fit.log_evidence =
      -0.5 * (squares - sum * sum / precision + logs) + 0.5 * std::log(kTwoPi * fit.variance);
  return fit;
}

double log_sum(const std::vector<Place>& places) {
  double most = -INFINITY;
  for (const Place& p : places) most = std::max(most, p.weight);
  double sum = 0;
  for (const Place& p : places) sum += std::exp(p.weight - most);
  return most + std::log(sum);
}

/// Log weights to cumulative probabilities.
template <class Item>
void normalise(std::vector<Item>& items) {
  double most = -INFINITY, sum = 0;
  for (const Item& item : items) most = std::max(most, item.weight);
  for (const Item& item : items) sum += std::exp(item.weight - most);
  double so_far = 0;
  for (Item& item : items) item.weight = so_far += std::exp(item.weight - most) / sum;
}

template <class Item>
const Item& pick(const std::vector<Item>& items, double u) {
  const auto found = std::ranges::find_if(items, [u](const Item& item) { return u < item.weight; });
  return found == items.end() ? items.back() : *found;
}

std::vector<Group> groups_of(const CurvePrior& prior) {
  std::vector<Group> groups;
  for (double a = -2; a <= 2.01; a += 0.5) {
    for (double b = -2; b <= 2.01; b += 0.5) {
      groups.push_back({prior.deficit * std::exp(a * prior.deficit_log_sd),
                        prior.exponent * std::exp(b * prior.exponent_log_sd),
                        -0.5 * (a * a + b * b),
                        {}});
    }
  }
  return groups;
}

/// Fills in the places of all curves and adds their evidence to the group's weight.
void weigh(Group& group, const std::vector<Observed>& curves, const CurvePrior& prior) {
  // Where the group's c lies: the median of the curves, each as the group's own curve.
  std::vector<double> asymptotes;
  for (const Observed& curve : curves) {
    asymptotes.push_back(fit_asymptote(curve, group.deficit, group.exponent, prior.misfit).mean -
                         curve.shift);
  }
  const double middle = median(asymptotes);
  for (const Observed& curve : curves) {
    std::vector<Place> places;
    for (const double a : kNodes) {
      for (const double b : kNodes) {
        const double deficit = group.deficit * std::exp(a * prior.deficit_spread);
        const double exponent = group.exponent * std::exp(b * prior.exponent_spread);
        const Fit fit = fit_asymptote(curve, deficit, exponent, prior.misfit);
        for (const bool odd : {false, true}) {
          const double spread = prior.final_spread * (odd ? prior.odd_factor : 1);
          const double variance = spread * spread, expected = middle + curve.shift;
          const double share = odd ? prior.odd_share : 1 - prior.odd_share;
          Place place;
          place.weight = std::log(share) - 0.5 * (a * a + b * b) + fit.log_evidence +
                         log_normal_density(fit.mean - expected, fit.variance + variance);
          const double both = 1 / (1 / fit.variance + 1 / variance);
          place.mean = both * (fit.mean / fit.variance + expected / variance);
          place.sd = std::sqrt(both);
          place.distance = deficit * std::exp(-exponent * curve.log_horizon);
          place.slope = exponent * place.distance;
          places.push_back(place);
        }
      }
    }
    const double points = static_cast<double>(curve.score.size());
    const double floor = std::log(kOddEvidence) + points * std::log(kOddDensity);
    const double evidence = log_sum(places);
    group.weight += std::max(evidence, floor) + std::log1p(std::exp(-std::abs(evidence - floor)));
    normalise(places);
    group.places.push_back(std::move(places));
  }
}

void summarise(Extrapolation& result, std::size_t curves, double margin) {
  const double each = 1 / static_cast<double>(result.draws.size());
  for (auto* list : {&result.mean, &result.sd, &result.best, &result.within, &result.loss}) {
    list->assign(curves, 0);
  }
  for (const std::vector<double>& scores : result.draws) {
    const auto top = std::ranges::max_element(scores);
    result.best[static_cast<std::size_t>(top - scores.begin())] += each;
    for (std::size_t i = 0; i < curves; ++i) {
      result.mean[i] += each * scores[i];
      result.loss[i] += each * (*top - scores[i]);
    }
  }
  const auto leader = static_cast<std::size_t>(
      std::distance(result.mean.begin(), std::ranges::max_element(result.mean)));
  for (const std::vector<double>& scores : result.draws) {
    for (std::size_t i = 0; i < curves; ++i) {
      result.within[i] += scores[i] >= scores[leader] - margin ? each : 0;
      result.sd[i] += each * (scores[i] - result.mean[i]) * (scores[i] - result.mean[i]);
    }
  }
  for (double& sd : result.sd) sd = std::sqrt(sd);
}

}  // namespace

double expected_score(const CurvePrior& prior, double relative_cost, double horizon) {
  double distance = 0, sum = 0;
  for (const Group& group : groups_of(prior)) {
    const double weight = std::exp(group.weight);
    // Before the first steps a power law is further from c than any score is.
    const double steps = horizon / relative_cost / kReferenceSteps;
    distance += weight * std::min(1.0, group.deficit * std::pow(steps, -group.exponent));
    sum += weight;
  }
  return prior.size_effect * std::log2(relative_cost) - distance / sum;
}

std::vector<double> case_variances(const std::vector<LearningCurve>& curves,
                                   std::size_t k,
                                   const CurvePrior& prior) {
  const double unknown = prior.case_sd * prior.case_sd;
  std::vector<double> result(curves.size(), unknown / kUnknownCases);
  const auto cases_of = [&](const LearningCurve& curve) -> const std::vector<double>& {
    return curve.points[std::min(k, curve.points.size() - 1)].cases;
  };
  std::vector<double> medians;
  std::size_t compared = 0;
  for (const LearningCurve& curve : curves) {
    if (medians.empty()) medians.resize(cases_of(curve).size(), NAN);
    compared += !medians.empty() && cases_of(curve).size() == medians.size();
  }
  for (std::size_t j = 0; j < medians.size(); ++j) {
    std::vector<double> scores;
    for (const LearningCurve& curve : curves) {
      if (cases_of(curve).size() == medians.size() && std::isfinite(cases_of(curve)[j])) {
        scores.push_back(cases_of(curve)[j]);
      }
    }
    medians[j] = median(scores);
  }
  for (std::size_t i = 0; i < curves.size(); ++i) {
    const std::vector<double>& cases = cases_of(curves[i]);
    std::vector<double> differences;
    for (std::size_t j = 0; j < cases.size() && cases.size() == medians.size(); ++j) {
      if (std::isfinite(cases[j])) differences.push_back(cases[j] - medians[j]);
    }
    if (differences.size() < 2) continue;
    const double n = static_cast<double>(differences.size());
    if (compared < 2) {
      result[i] = unknown / n;
      continue;
    }
    // The median contains the curve itself; of two curves each has half of the difference.
    const double sd = standard_deviation(differences);
    const double all = static_cast<double>(compared);
    // A floor: the median curve itself differs from itself by nothing.
    result[i] = std::max(sd * sd * all / (all - 1) / n, 1e-7);
  }
  return result;
}

namespace {

/// Variances of the scores that come from the cases, [point][curve].
std::vector<std::vector<double>> variances_of(const std::vector<LearningCurve>& curves,
                                              const CurvePrior& prior) {
  NAS_CHECK_KIND(Internal, !curves.empty(), "extrapolate: no curves");
  std::size_t most = 0;
  for (const LearningCurve& curve : curves) {
    NAS_CHECK_KIND(Internal,
                   !curve.points.empty() && curve.relative_cost > 0,
                   "extrapolate: a curve without points or cost");
    most = std::max(most, curve.points.size());
  }
  std::vector<std::vector<double>> variances;
  for (std::size_t k = 0; k < most; ++k) variances.push_back(case_variances(curves, k, prior));
  return variances;
}

std::vector<Observed> observe(const std::vector<LearningCurve>& curves,
                              const std::vector<std::vector<double>>& variances,
                              double horizon,
                              const CurvePrior& prior) {
  std::vector<Observed> observed;
  for (std::size_t i = 0; i < curves.size(); ++i) {
    const LearningCurve& curve = curves[i];
    const auto log_steps = [&](double effort) {
      return std::log(effort / curve.relative_cost / kReferenceSteps);
    };
    Observed o;
    o.log_horizon = log_steps(std::max(horizon, curve.points.back().effort));
    o.shift = curve.shift + prior.size_effect * std::log2(curve.relative_cost);
    for (std::size_t k = 0; k < curve.points.size(); ++k) {
      NAS_CHECK_KIND(Internal, curve.points[k].effort > 0, "extrapolate: effort must be > 0");
      o.log_steps.push_back(log_steps(curve.points[k].effort));
      o.score.push_back(curve.points[k].score);
      o.variance.push_back(prior.wobble * prior.wobble + (1 - prior.lasting) * variances[k][i]);
    }
    observed.push_back(std::move(o));
  }
  return observed;
}

}  // namespace

double log_evidence(const std::vector<LearningCurve>& curves, const CurvePrior& prior) {
  const std::vector<Observed> observed = observe(curves, variances_of(curves, prior), 1, prior);
  std::vector<Group> groups = groups_of(prior);
  double most = -INFINITY, sum = 0;
  for (Group& group : groups) {
    weigh(group, observed, prior);
    most = std::max(most, group.weight);
  }
  for (const Group& group : groups) sum += std::exp(group.weight - most);
  return most + std::log(sum);
}

Extrapolation extrapolate(const std::vector<LearningCurve>& curves,
                          double horizon,
                          double margin,
                          const CurvePrior& prior,
                          Rng rng,
                          int draws) {
  NAS_CHECK_KIND(Internal, horizon > 0 && draws > 0, "extrapolate: no horizon or no draws");
  const std::vector<std::vector<double>> variances = variances_of(curves, prior);
  const std::vector<Observed> observed = observe(curves, variances, horizon, prior);
  std::vector<Group> groups = groups_of(prior);
  for (Group& group : groups) weigh(group, observed, prior);
  normalise(groups);

  Extrapolation result;
  result.slope.assign(curves.size(), 0);
  std::vector<double> curve_means(curves.size(), 0);
  const double each = 1 / static_cast<double>(draws);
  for (int d = 0; d < draws; ++d) {
    // Stratified over the groups: which of them is meant must not be left to luck.
    const double u = (static_cast<double>(d) + rng.uniform()) / static_cast<double>(draws);
    const Group& group = pick(groups, u);
    std::vector<double> scores;
    double top = -INFINITY;
    for (std::size_t i = 0; i < curves.size(); ++i) {
      const Place& place = pick(group.places[i], rng.uniform());
      const CurvePoint& last = curves[i].points.back();
      const double c = place.mean + place.sd * rng.normal();
      const double expected = c - place.distance;
      top = std::max(top, expected);
      curve_means[i] += each * expected;
      result.slope[i] += each * place.slope;
      // What a contestant's cases do to it shrinks as scores come near 1.
      const double shrunk = std::clamp((1 - expected) / std::max(1e-3, 1 - last.score), 0.0, 1.0);
      const double lasting =
          std::sqrt(prior.lasting * variances[curves[i].points.size() - 1][i]) * shrunk;
      const double spread = std::hypot(lasting, prior.finish_sd);
      scores.push_back(expected + spread * rng.normal());
    }
    result.gain += each * top;
    result.draws.push_back(std::move(scores));
  }
  result.gain -= std::ranges::max(curve_means);
  summarise(result, curves.size(), margin);
  return result;
}

}  // namespace nas
