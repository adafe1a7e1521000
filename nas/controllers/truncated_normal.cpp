// SPDX-License-Identifier: Apache-2.0
#include "nas/controllers/truncated_normal.h"

#include <algorithm>
#include <boost/math/special_functions/erf.hpp>
#include <cmath>
#include <numbers>

namespace nas {
namespace {

double distribution(double z) { return 0.5 * std::erfc(-z / std::numbers::sqrt2); }

}  // namespace

double mass_inside(double mean, double width) {
  return distribution((1 - mean) / width) - distribution(-mean / width);
}

double log_truncated_normal(double x, double mean, double width) {
  const double z = (x - mean) / width;
  return -0.5 * z * z -
         std::log(width * std::sqrt(2 * std::numbers::pi) * mass_inside(mean, width));
}

double draw_truncated_normal(double mean, double width, Rng& rng) {
  const double p = distribution(-mean / width) + rng.uniform() * mass_inside(mean, width);
  const double held = std::clamp(p, 1e-16, 1 - 1e-16);
  return std::clamp(mean - width * std::numbers::sqrt2 * boost::math::erfc_inv(2 * held), 0.0, 1.0);
}

}  // namespace nas
