// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "nas/core/rng.h"

namespace nas {

double mean(std::span<const double> values);                // NaN if empty
double standard_deviation(std::span<const double> values);  // n - 1; 0 for one value, NaN if empty
double median(std::span<const double> values);              // NaN if empty
/// Linear interpolation between order statistics (R's type 7), to the last digit as NumPy's. NaN if
/// empty. \param q in [0, 1].
double quantile(std::span<const double> values, double q);

struct Interval {
  double low = 0, high = 0;
};

/// A figure of some of n items, given by their indices; an item may come several times.
using SampleFigure = std::function<double(std::span<const std::size_t> items)>;

/// Percentile bootstrap interval of a figure of n items, which are drawn with replacement. Draws
/// whose figure is not finite say nothing and are left out; NaN if those are more than half.
/// \param level e.g. 0.95. \param rng taken by value: equal arguments give equal intervals.
Interval bootstrap(std::int64_t n,
                   const SampleFigure& figure,
                   Rng rng,
                   double level = 0.95,
                   int resamples = 10000);

struct WilcoxonResult {
  std::int64_t pairs = 0;  // non-zero differences
  double w_plus = 0;       // sum of ranks of positive differences
  double w_minus = 0;
  double p_value = 1;  // two-sided
  bool exact = false;
};

/// Wilcoxon signed-rank test. Zero differences are dropped (Wilcoxon's own way), ties share
/// mid-ranks. Exact permutation distribution (ties included) up to 50 pairs, else normal
/// approximation with tie correction, no continuity correction. Source: F. Wilcoxon, Biometrics
/// Bulletin 1 (1945).
WilcoxonResult wilcoxon_signed_rank(std::span<const double> differences);

/// "better", "worse" or "not distinguishable", by the interval of the difference of the figures.
struct PairedComparison {
  std::int64_t pairs = 0;  // cases in which both networks have a score of their own
  double difference = 0;   // of the figures over all cases; NaN if there is none
  Interval interval;       // of `difference`, 95 %; NaN from a single case
  WilcoxonResult wilcoxon;
  std::string verdict;
};
/// Compares two networks on the same cases. What is told of a network is a figure over all cases
/// (a mean of class means), which no mean of case scores need equal: its difference and interval
/// are those of the figure itself, cases resampled together; the test of ranks takes case scores.
/// \param difference figure of the candidate less that of the other, of the cases given.
/// \param pairs differences of the case scores, of the cases that both have one for.
PairedComparison compare_paired(std::int64_t cases,
                                const SampleFigure& difference,
                                std::span<const double> pairs,
                                std::uint64_t seed);

/// Rank correlation with ties: (concordant - discordant) / sqrt((n0 - n1) (n0 - n2)), n0 all pairs,
/// n1 and n2 those tied in x and in y. NaN with fewer than two values or where one side is
/// constant. Source: M. Kendall, "The treatment of ties in ranking problems", Biometrika 33 (1945).
/// \param x, y of the same items in the same order.
double kendall_tau_b(std::span<const double> x, std::span<const double> y);

/// Of fewer items even a perfect order says nothing: three are in order by chance once in six.
inline constexpr std::int64_t kFewestRanked = 4;

struct RankAgreement {
  std::int64_t items = 0;
  double tau = 0;     // Kendall's tau-b; NaN if undefined
  Interval interval;  // percentile bootstrap, 95 %; NaN if undefined
  /// The interval exists and lies above 0.
  bool ranked() const { return interval.low > 0; }
};
/// Kendall's tau-b with an interval: items (x, y together) are drawn with replacement; resamples
/// in which a side is constant say nothing and are left out. Undefined if those are more than half,
/// or below kFewestRanked items.
/// \param rng taken by value: equal arguments give equal intervals.
RankAgreement rank_agreement(std::span<const double> x,
                             std::span<const double> y,
                             Rng rng,
                             double level = 0.95,
                             int resamples = 10000);

}  // namespace nas
