// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Core>
#include <functional>

namespace nas {

/// Value at `x`; writes the gradient unless it is nullptr.
using Differentiable = std::function<double(const Eigen::VectorXd& x, Eigen::VectorXd* gradient)>;

struct Minimum {
  Eigen::VectorXd x;
  double value = 0;
};

/// A local minimum within the box by L-BFGS (NLopt's LD_LBFGS), from `start`, after at most
/// `evaluations` evaluations; never worse than `start`. A function of its arguments: no clock, no
/// random numbers. Where `f` is not finite the search stops at the best point seen.
Minimum bounded_minimum(const Differentiable& f,
                        const Eigen::VectorXd& start,
                        const Eigen::VectorXd& low,
                        const Eigen::VectorXd& high,
                        int evaluations);

}  // namespace nas
