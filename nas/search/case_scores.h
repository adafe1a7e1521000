// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "nas/core/json.h"
#include "nas/search/evaluator.h"

namespace nas {

/// A case's own score, for pairs, curves and pictures: mean Dice over its classes that are there or
/// predicted. NaN where none is: such a case says nothing. The figure of a network is a mean over
/// classes of means over cases (ForegroundMean); it equals the mean of case scores only where every
/// class has a Dice in every case.
/// \param classes of one case of metrics_json.
double case_dice(const Json& classes);

/// case_dice of each case that scored a finished trial; empty where its details hold none.
std::vector<double> case_scores(const Evaluation& evaluation);

}  // namespace nas
