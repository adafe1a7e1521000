// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "nas/core/json.h"

/// The plots of the report, as SVG. `data` is report_data().
namespace nas {

/// All search trials by the time of their end (by number where the budget is steps), and the best
/// so far as a stair. Empty without a scored trial.
std::string search_curve_svg(const Json& data);
/// One dot a case: baseline against searched; above the diagonal the searched network is better.
std::string scatter_svg(const Json& comparison);
/// The differences in order of size, and their mean with its interval.
std::string difference_svg(const Json& comparison);

}  // namespace nas
