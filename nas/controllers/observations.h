// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Core>
#include <cstddef>
#include <optional>
#include <vector>

#include "nas/controllers/gaussian_process.h"
#include "nas/search/earlier_run.h"
#include "nas/search/ledger.h"
#include "nas/search/unit_space.h"

namespace nas {

/// What a stage has seen, for a Gaussian process: scores standardised within the stage, failures as
/// the worst score, earlier runs (nas/search/earlier_run.h) with an offset of their own.
struct Observations {
  Eigen::MatrixXd points;      // [dimensions, n], oldest first; earlier runs before all
  Eigen::VectorXd values;      // [n]
  std::vector<int> groups;     // 0, or which earlier run; empty: there is none
  Eigen::MatrixXd pending;     // [dimensions, p]
  std::vector<char> category;  // of each dimension
  double best = 0;             // of the stage itself
  double deviation = 1;        // score = mean + deviation * value
  double mean = 0;
  std::vector<std::vector<double>> best_points;  // of the stage, best first, five at most

  /// Keeps the best `best` and the newest of the others.
  void keep(std::size_t best, std::size_t newest);
  GaussianProcess process(bool with_pending) const;
};

/// \throws Error(Internal) if nothing has finished.
Observations observations(const std::vector<EarlierRun>& earlier,
                          const Ledger& ledger,
                          const UnitSpace& space);

/// Half the width of the 95 % interval of the mean paired difference of two lists of case scores
/// (normal approximation); nothing with fewer than two pairs.
std::optional<double> paired_half_width(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace nas
