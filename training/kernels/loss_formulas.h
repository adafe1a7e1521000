// SPDX-License-Identifier: Apache-2.0
#pragma once

// The formulas of the losses, one voxel at a time, for CPU loops and CUDA kernels alike.

#include <cmath>
#include <limits>

#include "nas/core/philox.h"

namespace nas::kernels {

// As variables: device code must not call numeric_limits.
template <class T>
constexpr T kLeastRest = std::numeric_limits<T>::epsilon();
template <class T>
constexpr T kLeastLikely = std::numeric_limits<T>::min();

/// Factor of the gradient of cross-entropy that makes it that of -(1 - p)^gamma log p.
template <class T>
NAS_HD T focal_factor(T p, T gamma) {
  if (!(gamma > 0)) return 1;
  // At the ends the second term goes to 0, but its factors do not.
  const T rest = 1 - p < kLeastRest<T> ? kLeastRest<T> : 1 - p;
  const T likely = p < kLeastLikely<T> ? kLeastLikely<T> : p;
  return std::pow(rest, gamma) - gamma * likely * std::pow(rest, gamma - 1) * std::log(likely);
}

/// What both of a logit's formulas need; never overflows.
template <class T>
NAS_HD T decay_of(T z) {
  return std::exp(-std::abs(z));
}

/// \param decay decay_of(z).
template <class T>
NAS_HD T sigmoid(T z, T decay) {
  return (z >= 0 ? T(1) : decay) / (1 + decay);
}

/// Binary cross-entropy of a logit. \param decay decay_of(z).
template <class T>
NAS_HD T cross_entropy_of_logit(T z, T decay, bool hit) {
  return (z < 0 ? T(0) : z) - (hit ? z : T(0)) + std::log1p(decay);
}

}  // namespace nas::kernels
