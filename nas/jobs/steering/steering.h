// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "nas/results/results_db.h"

/// What somebody wants of a run while it works. What changes something returns what is done, for
/// people. \throws Error(Usage) saying why it cannot be done.
namespace nas {

/// A trial that the run has.
Trial existing_trial(const ResultsDb& db, std::int64_t id);
/// Ends a queued or running trial.
std::string abort_trial(ResultsDb& db, std::int64_t id);
/// A queued trial is not begun.
std::string skip_trial(ResultsDb& db, std::int64_t id);
/// A worker gets no new trials; what it runs goes on.
std::string suspend_worker(ResultsDb& db, const std::string& name);
std::string resume_worker(ResultsDb& db, const std::string& name);
/// The whole run stops, to be resumed later. \param now running trials are aborted instead of kept.
std::string stop_run(ResultsDb& db, bool now);

}  // namespace nas
