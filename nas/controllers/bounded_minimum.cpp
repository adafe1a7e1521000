// SPDX-License-Identifier: Apache-2.0
#include "nas/controllers/bounded_minimum.h"

#include <nlopt.h>

#include <cmath>
#include <memory>

namespace nas {
namespace {

constexpr double kFlat = 1e-9;     // relative change of the value and of x that ends a search
constexpr double kClimbs = 1e100;  // where f is not finite

struct Seen {
  const Differentiable* f;
  Minimum best;
};

double evaluate(unsigned count, const double* x, double* gradient, void* data) {
  auto& seen = *static_cast<Seen*>(data);
  const Eigen::VectorXd point = Eigen::Map<const Eigen::VectorXd>(x, count);
  Eigen::VectorXd slope(count);
  const double value = (*seen.f)(point, gradient ? &slope : nullptr);
  if (!std::isfinite(value) || (gradient && !slope.allFinite())) {
    if (gradient) Eigen::Map<Eigen::VectorXd>(gradient, count).setZero();
    return kClimbs;
  }
  if (value < seen.best.value) seen.best = {point, value};
  if (gradient) Eigen::Map<Eigen::VectorXd>(gradient, count) = slope;
  return value;
}

}  // namespace

Minimum bounded_minimum(const Differentiable& f,
                        const Eigen::VectorXd& start,
                        const Eigen::VectorXd& low,
                        const Eigen::VectorXd& high,
                        int evaluations) {
  Eigen::VectorXd x = start.cwiseMax(low).cwiseMin(high);
  Seen seen{&f, {x, f(x, nullptr)}};
  if (x.size() == 0 || !std::isfinite(seen.best.value)) return seen.best;
  const std::unique_ptr<nlopt_opt_s, decltype(&nlopt_destroy)> search(
      nlopt_create(NLOPT_LD_LBFGS, static_cast<unsigned>(x.size())), &nlopt_destroy);
  nlopt_set_min_objective(search.get(), evaluate, &seen);
  nlopt_set_lower_bounds(search.get(), low.data());
  nlopt_set_upper_bounds(search.get(), high.data());
  nlopt_set_ftol_rel(search.get(), kFlat);
  nlopt_set_xtol_rel(search.get(), kFlat);
  nlopt_set_maxeval(search.get(), evaluations);
  double value = 0;
  // A line search that cannot go on ends with an error code; the best point seen is kept all the
  // same.
  nlopt_optimize(search.get(), x.data(), &value);
  return seen.best;
}

}  // namespace nas
