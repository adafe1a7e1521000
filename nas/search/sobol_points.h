// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "nas/core/rng.h"

namespace nas {

/// The first points of a Sobol sequence (Boost.Random, direction numbers of Joe and Kuo), for
/// spreading evenly over a cube. A digital shift makes independent sequences of it: the same random
/// bits are flipped in every point, which keeps its evenness. The unshifted points are computed
/// once.
class SobolPoints {
 public:
  static constexpr std::size_t kMostDimensions = 1000;
  /// \throws Error(Usage) above kMostDimensions.
  explicit SobolPoints(std::size_t dimensions);
  /// Point `index` in [0, 1)^dimensions, shifted by what `shift` draws.
  std::vector<double> point(std::size_t index, const std::vector<std::uint64_t>& shift);
  std::vector<std::uint64_t> shift(Rng rng) const;

 private:
  void reach(std::size_t index);
  std::size_t dimensions_;
  std::vector<std::uint64_t> digits_;  // [points, dimensions], 53 bits each
};

}  // namespace nas
