// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "nas/results/results_db.h"
#include "nas/search/prior.h"

namespace nas {

/// What a finished or running search of `database` says: every network against the plan on the
/// last rung that both reached in one stage, by their own trainings. Its data's features are what
/// it recorded ("features" of its setup); none in runs of older versions, which then say nothing.
/// \throws Error(Input|Io).
PriorRun read_prior_run(const ResultsDb& database);
/// The runs that `names` tells, joined by commas: run folders, or results databases. \throws
/// Error(Usage|Input|Io) naming the one that is none.
std::vector<PriorRun> read_prior_runs(const std::string& names);

}  // namespace nas
