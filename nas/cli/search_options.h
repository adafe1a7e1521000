// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "nas/jobs/search_job.h"

namespace CLI {
class App;
}

namespace nas {

// What the verbs that begin a run have in common.

/// --workers and --db.
void add_workers(CLI::App& app, SearchJobOptions& job);

/// --handler, --webhook, --mlflow, --from, --from-best and --keep.
void add_audience_of_search(CLI::App& app, SearchJobOptions& job);

// Parts of the command that repeats a run.

/// " --budget 20m", " --effort 60" or " --steps 100"; "" where the job has none yet.
/// \param typed the time as the user wrote it.
std::string budget_words(const SearchJobOptions& job, const std::string& typed);

/// What differs from the defaults: trials, how data are read, device, programs of the user, workers,
/// database.
std::string shared_words(const SearchJobOptions& job);

}  // namespace nas
