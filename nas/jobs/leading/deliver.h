// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "nas/core/run_folder.h"
#include "nas/results/results_db.h"

namespace nas {

/// The end of a search: RUN/model, RUN/report.html, and the verdict in the log. \param clock of the
/// run, stored where its budget is in seconds.
void deliver(const RunFolder& folder, ResultsDb& database, const std::function<double()>& clock);

}  // namespace nas
