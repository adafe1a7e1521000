// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "nas/results/results_db.h"

namespace nas {

/// `voxnas ctl RUN enqueue`: notes that a genotype is to be tried next. \param what its text, as
/// `ctl RUN trials` shows it, or a file that holds it. \returns what is done, for people. \throws
/// Error(Usage) if it is none of the run's space, breaks a limit, was tried already, or no stage of
/// the run is left that takes any.
std::string enqueue_genotype(ResultsDb& db, const std::string& what);

}  // namespace nas
