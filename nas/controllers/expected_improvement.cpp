// SPDX-License-Identifier: Apache-2.0
#include "nas/controllers/expected_improvement.h"

#include <cmath>
#include <numbers>

namespace nas {
namespace {

constexpr double kDirect = -5;      // above: the formula as it stands loses 25 ulp at most
constexpr double kSeries = -40;     // below: three terms of the asymptotic series
constexpr int kFractionTerms = 60;  // enough for 1e-16 at -5

const double kLogRoot = 0.5 * std::log(2 * std::numbers::pi);

double density(double z) { return std::exp(-0.5 * z * z - kLogRoot); }
double distribution(double z) { return 0.5 * std::erfc(-z / std::numbers::sqrt2); }

/// x R(x) with Mills' ratio R = Phi(-x) / phi(x), as its distance from 1: 1 - x R(x), by the
/// continued fraction R = 1/(x + 1/(x + 2/(x + 3/...))).
double mills_gap(double x) {
  double below = x;
  for (int k = kFractionTerms; k >= 2; --k) below = x + k / below;
  const double second = 1 / below;  // R = 1 / (x + second)
  return second / (x + second);
}

}  // namespace

double log_h(double z) {
  if (z > kDirect) return std::log(density(z) + z * distribution(z));
  const double x = -z;
  if (z > kSeries) return -0.5 * z * z - kLogRoot + std::log(mills_gap(x));
  const double s = 1 / (x * x);
  return -0.5 * z * z - kLogRoot + std::log(s * (1 - s * (3 - 15 * s)));
}

LogImprovement log_expected_improvement(double mean, double sd, double best) {
  const double z = (mean - best) / sd;
  LogImprovement result;
  const double h = log_h(z);
  result.value = std::log(sd) + h;
  // d EI / d mean = Phi(z), d EI / d sd = phi(z); both over EI. phi/h and Phi/h stay finite where
  // each of them is 0.
  const double density_over_h = std::exp(-0.5 * z * z - kLogRoot - h);
  double phi_over_h = 0;
  if (z > kDirect) {
    phi_over_h = distribution(z) * std::exp(-h);
  } else {
    phi_over_h = density_over_h * (1 - (z > kSeries ? mills_gap(-z) : 1 / (z * z))) / -z;
  }
  result.by_mean = phi_over_h / sd;
  result.by_sd = density_over_h / sd;
  return result;
}

}  // namespace nas
