// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace nas {

/// log E[max(0, Y - best)] of Y normal with the given mean and deviation, exact to a few units of
/// the last place far into the tail, where the expectation itself is 0 in double; with derivatives.
///   EI = sd h(z),  h(z) = phi(z) + z Phi(z),  z = (mean - best) / sd
/// Source: Ament et al., "Unexpected improvements to expected improvement", NeurIPS 2023,
/// arXiv:2310.20708 (the idea; the branches are ours).
struct LogImprovement {
  double value = 0;
  double by_mean = 0, by_sd = 0;  // partial derivatives
};
/// \param sd > 0.
LogImprovement log_expected_improvement(double mean, double sd, double best);

/// log h(z) of the formula above.
double log_h(double z);

}  // namespace nas
