// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nas/core/rng.h"

namespace nas {

/// A normal distribution cut off outside of [0, 1]: mass of the whole one inside, density, draws.
/// \param mean in [0, 1]. \param width > 0, its deviation before the cut.
double mass_inside(double mean, double width);
double log_truncated_normal(double x, double mean, double width);
double draw_truncated_normal(double mean, double width, Rng& rng);

}  // namespace nas
