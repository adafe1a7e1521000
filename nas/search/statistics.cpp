// SPDX-License-Identifier: Apache-2.0
#include "nas/search/statistics.h"

#include <algorithm>
#include <boost/math/distributions/normal.hpp>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "nas/core/error.h"

namespace nas {
namespace {

constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();
constexpr std::size_t kExactPairs = 50;

std::vector<double> sorted(std::span<const double> values) {
  std::vector<double> copy(values.begin(), values.end());
  std::sort(copy.begin(), copy.end());
  return copy;
}

double quantile_of_sorted(const std::vector<double>& values, double q) {
  const double place = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  const double t = place - static_cast<double>(below), difference = values[above] - values[below];
  // From the nearer side, as NumPy: in the planner last digits decide ties.
  return t >= 0.5 ? values[above] - difference * (1 - t) : values[below] + difference * t;
}

/// Probability that the sum of doubled ranks of a random set of signs is at most `limit`.
double exact_lower_tail(const std::vector<std::size_t>& doubled_ranks, std::size_t limit) {
  const std::size_t total =
      std::accumulate(doubled_ranks.begin(), doubled_ranks.end(), std::size_t{0});
  std::vector<double> probability(total + 1, 0.0);
  probability[0] = 1;
  std::size_t reached = 0;
  for (const std::size_t rank : doubled_ranks) {
    reached += rank;
    for (std::size_t sum = reached + 1; sum-- > 0;) {
      probability[sum] = 0.5 * (probability[sum] + (sum >= rank ? probability[sum - rank] : 0.0));
    }
  }
  double tail = 0;
  for (std::size_t sum = 0; sum <= std::min(limit, total); ++sum) tail += probability[sum];
  return tail;
}

}  // namespace

double mean(std::span<const double> values) {
  if (values.empty()) return kNothing;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double standard_deviation(std::span<const double> values) {
  if (values.empty()) return kNothing;
  if (values.size() == 1) return 0;
  const double center = mean(values);
  double sum = 0;
  for (const double value : values) sum += (value - center) * (value - center);
  return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

double median(std::span<const double> values) {
  if (values.empty()) return kNothing;
  const std::vector<double> ordered = sorted(values);
  const std::size_t middle = ordered.size() / 2;
  return ordered.size() % 2 == 1 ? ordered[middle] : (ordered[middle - 1] + ordered[middle]) / 2;
}

double quantile(std::span<const double> values, double q) {
  NAS_CHECK_KIND(Internal, q >= 0 && q <= 1, "quantile: q must be in [0, 1], got ", q);
  if (values.empty()) return kNothing;
  return quantile_of_sorted(sorted(values), q);
}

Interval bootstrap(
    std::int64_t n, const SampleFigure& figure, Rng rng, double level, int resamples) {
  NAS_CHECK_KIND(Internal,
                 level > 0 && level < 1 && resamples > 0,
                 "bootstrap: level must be in (0, 1) and resamples > 0, got ",
                 level,
                 " and ",
                 resamples);
  if (n < 1) return {kNothing, kNothing};
  std::vector<double> figures;
  figures.reserve(static_cast<std::size_t>(resamples));
  std::vector<std::size_t> drawn(static_cast<std::size_t>(n));
  for (int b = 0; b < resamples; ++b) {
    for (std::size_t& item : drawn) item = static_cast<std::size_t>(rng.integer(0, n));
    if (const double value = figure(drawn); std::isfinite(value)) figures.push_back(value);
  }
  if (2 * figures.size() < static_cast<std::size_t>(resamples)) return {kNothing, kNothing};
  std::sort(figures.begin(), figures.end());
  const double tail = (1 - level) / 2;
  return {quantile_of_sorted(figures, tail), quantile_of_sorted(figures, 1 - tail)};
}

WilcoxonResult wilcoxon_signed_rank(std::span<const double> differences) {
  std::vector<double> nonzero;
  for (const double d : differences) {
    NAS_CHECK_KIND(Internal, std::isfinite(d), "wilcoxon_signed_rank: a difference is not finite");
    if (d != 0) nonzero.push_back(d);
  }
  WilcoxonResult result;
  result.pairs = static_cast<std::int64_t>(nonzero.size());
  result.exact = nonzero.size() <= kExactPairs;
  if (nonzero.empty()) return result;
  std::sort(
      nonzero.begin(), nonzero.end(), [](double a, double b) { return std::abs(a) < std::abs(b); });
  std::vector<std::size_t> doubled_ranks(
      nonzero.size());  // mid-ranks are halves: doubled, integers
  std::size_t doubled_plus = 0;
  double tie_term = 0;
  for (std::size_t begin = 0; begin < nonzero.size();) {
    std::size_t end = begin + 1;
    while (end < nonzero.size() && std::abs(nonzero[end]) == std::abs(nonzero[begin])) ++end;
    for (std::size_t i = begin; i < end; ++i) {
      doubled_ranks[i] = begin + end + 1;
      if (nonzero[i] > 0) doubled_plus += doubled_ranks[i];
    }
    const auto ties = static_cast<double>(end - begin);
    tie_term += ties * ties * ties - ties;
    begin = end;
  }
  const std::size_t doubled_total = nonzero.size() * (nonzero.size() + 1);
  result.w_plus = static_cast<double>(doubled_plus) / 2;
  result.w_minus = static_cast<double>(doubled_total - doubled_plus) / 2;
  if (result.exact) {
    const std::size_t smaller = std::min(doubled_plus, doubled_total - doubled_plus);
    result.p_value = std::min(1.0, 2 * exact_lower_tail(doubled_ranks, smaller));
    return result;
  }
  const auto n = static_cast<double>(nonzero.size());
  const double expected = n * (n + 1) / 4;
  const double variance = n * (n + 1) * (2 * n + 1) / 24 - tie_term / 48;
  if (variance <= 0) return result;
  const double z = (std::min(result.w_plus, result.w_minus) - expected) / std::sqrt(variance);
  result.p_value = std::min(1.0, 2 * boost::math::cdf(boost::math::normal(), z));
  return result;
}

PairedComparison compare_paired(std::int64_t cases,
                                const SampleFigure& difference,
                                std::span<const double> pairs,
                                std::uint64_t seed) {
  PairedComparison result;
  result.pairs = static_cast<std::int64_t>(pairs.size());
  result.verdict = "not distinguishable";
  std::vector<std::size_t> all(static_cast<std::size_t>(cases));
  std::iota(all.begin(), all.end(), std::size_t{0});
  result.difference = all.empty() ? kNothing : difference(all);
  result.interval = {kNothing, kNothing};  // one case has no spread
  if (cases > 1) result.interval = bootstrap(cases, difference, Rng(seed).split("bootstrap"));
  result.wilcoxon = wilcoxon_signed_rank(pairs);
  // An interval from two or three cases says nothing, whatever it excludes.
  if (pairs.size() >= 5) {
    if (result.interval.low > 0) result.verdict = "better";
    if (result.interval.high < 0) result.verdict = "worse";
  }
  return result;
}

double kendall_tau_b(std::span<const double> x, std::span<const double> y) {
  NAS_CHECK_KIND(Internal,
                 x.size() == y.size(),
                 "kendall_tau_b: expected equally many values, found ",
                 x.size(),
                 " and ",
                 y.size());
  // Pairs are counted one by one: the lists are short, the interval needs only many of them.
  std::int64_t agreement = 0, differ_in_x = 0, differ_in_y = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    for (std::size_t j = 0; j < i; ++j) {
      const int by_x = (x[i] > x[j]) - (x[i] < x[j]), by_y = (y[i] > y[j]) - (y[i] < y[j]);
      agreement += by_x * by_y;
      differ_in_x += by_x != 0;
      differ_in_y += by_y != 0;
    }
  }
  if (differ_in_x == 0 || differ_in_y == 0) return kNothing;
  return static_cast<double>(agreement) /
         std::sqrt(static_cast<double>(differ_in_x) * static_cast<double>(differ_in_y));
}

RankAgreement rank_agreement(
    std::span<const double> x, std::span<const double> y, Rng rng, double level, int resamples) {
  RankAgreement result;
  result.items = static_cast<std::int64_t>(x.size());
  result.tau = kendall_tau_b(x, y);
  result.interval = {kNothing, kNothing};
  if (!std::isfinite(result.tau) || result.items < kFewestRanked) return result;
  std::vector<double> drawn_x(x.size()), drawn_y(y.size());
  const auto tau = [&](std::span<const std::size_t> items) {
    for (std::size_t i = 0; i < items.size(); ++i) {
      drawn_x[i] = x[items[i]];
      drawn_y[i] = y[items[i]];
    }
    return kendall_tau_b(drawn_x, drawn_y);
  };
  result.interval = bootstrap(result.items, tau, rng, level, resamples);
  return result;
}

}  // namespace nas
