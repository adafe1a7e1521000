// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <vector>

#include "nas/core/rng.h"
#include "nas/search/unit_space.h"

namespace nas {

/// Parzen density over points of a UnitSpace: a mixture with one component an observation, and the
/// uniform prior as one more. In a number a component is a normal distribution around the
/// observation, truncated to [0, 1]; in a choice it has its value with most of the weight and shares
/// the rest among all. Genes that are inactive in the observation are uniform.
/// Widths: 0.08 n^(-1 / (d + 4)) for n observations in d dimensions; Optuna's multivariate estimator
/// begins at 0.2, which finds less on the problems of experiments/bench/controllers.
/// Source: Bergstra et al., NeurIPS 2011; Watanabe, arXiv:2304.11127.
class Parzen {
 public:
  /// \param points oldest first: the newest kFull have full weight, older ones less, the oldest
  /// least. Two numbers of a point may be closer than any width: widths have a floor that falls
  /// with n.
  Parzen(const UnitSpace& space, const std::vector<std::vector<double>>& points);
  static constexpr std::size_t kFull = 25;

  /// Every gene from a component of its own, so that what is good in different observations comes
  /// together.
  std::vector<double> draw(Rng& rng) const;
  double log_density(std::span<const double> point) const;

 private:
  const UnitSpace* space_;
  std::vector<std::vector<double>> points_;
  std::vector<std::vector<char>> active_;        // [point, dimension]
  std::vector<std::vector<double>> log_masses_;  // [point, dimension]: normaliser of a number
  std::vector<double> weights_;  // of each component, the prior last; they add up to 1
  double width_ = 1;
  double other_share_ = 0;  // of a choice's component, for all values together
};

}  // namespace nas
