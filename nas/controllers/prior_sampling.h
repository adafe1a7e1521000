// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <vector>

#include "nas/core/rng.h"
#include "nas/search/unit_space.h"

namespace nas {

/// Distributions around a point of a UnitSpace: numbers normal around it with deviation kDeviation,
/// truncated to [0, 1]; choices its value with kStay, else any.
/// Source: Mallik et al., "PriorBand", NeurIPS 2023, arXiv:2306.12370, with the numbers of its
/// implementation in NePS.
class PriorSampling {
 public:
  static constexpr double kDeviation = 0.25, kStay = 0.5, kMutation = 0.5;

  explicit PriorSampling(const UnitSpace& space) : space_(&space) {}
  std::vector<double> draw(std::span<const double> center, Rng& rng) const;
  double log_density(std::span<const double> center, std::span<const double> point) const;
  /// Every gene changes with kMutation: numbers as in draw(), choices to another value.
  std::vector<double> mutate(std::span<const double> from, Rng& rng) const;

 private:
  const UnitSpace* space_;
};

/// How a new point is chosen: probabilities, which add up to 1.
struct PriorMix {
  double uniform = 1, prior = 0, incumbent = 0;
};

/// What PriorBand has seen of a rung: points, best first.
/// \param rung where the new point begins. \param ready whether incumbents count yet.
/// \param prior its center, \param incumbent the best point.
PriorMix prior_mix(const PriorSampling& sampling,
                   int rung,
                   std::int64_t eta,
                   bool ready,
                   std::span<const double> prior,
                   std::span<const double> incumbent,
                   const std::vector<std::vector<double>>& best_first);

}  // namespace nas
