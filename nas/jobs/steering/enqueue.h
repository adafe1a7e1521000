// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "nas/results/results_db.h"

namespace nas {

/// Notes that a genotype is to be tried next. \param asked its text, as `ctl RUN trials` shows it.
/// \returns what is done, for people. \throws Error(Usage) if it is none of the run's space, breaks
/// a limit, was tried already, or no stage of the run is left that takes any.
std::string enqueue_genotype(ResultsDb& db, const std::string& asked, const std::string& asked_by);

}  // namespace nas
