// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "experiments/curves/curve_table.h"
#include "nas/search/curve.h"

namespace nas {

/// A figure of CurvePrior, as the program has it and as recorded curves tell it.
struct LearntFigure {
  std::string name;
  double in_use = 0, learnt = 0;  // learnt: to two digits
  std::string how;
};

/// The figures of CurvePrior that recorded curves can tell; a function of the tables alone.
///   deficit, exponent, deficit_spread, exponent_spread, final_spread, size_effect, wobble, misfit:
///     those under which the curves are most probable (log_evidence, summed over the tables), together
///     with what was believed before any was recorded; found by going up and down one by one from
///     there.
///   case_sd, lasting: of the cases' differences from the median network, the deviation and the
///     correlation between a curve's last look and that at half its effort (means over networks).
/// How much data sets differ (deficit_log_sd, exponent_log_sd), how odd networks may be, and what the
/// end of a training does (finish_sd) take more recordings than there are: those stay as chosen.
/// \throws Error(Usage|Input) without tables, or without cases to compare.
std::vector<LearntFigure> learn_prior(const std::vector<CurveTable>& tables);

/// As a table for Markdown.
std::string prior_markdown(const std::vector<CurveTable>& tables,
                           const std::vector<LearntFigure>& figures);

}  // namespace nas
