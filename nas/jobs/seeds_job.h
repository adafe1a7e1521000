// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>

#include "nas/jobs/search_job.h"

namespace nas {

/// Repeats the whole search with `seeds` seeds, options.seed and the following ones, in
/// RUN/seed_<n>, each with an equal part of the time that is left on a clock of its own (or
/// options.budget.steps each), and writes RUN/summary.json and RUN/report.html (seeds.h).
/// Interrupted, it goes on by resume_seeds. \throws as start_search.
SearchEnd start_seeds(const SearchJobOptions& options,
                      std::int64_t seeds,
                      double spent_seconds = 0);

/// Goes on with the runs of several seeds. \throws as resume_search.
SearchEnd resume_seeds(const SearchResumeOptions& options, double spent_seconds = 0);

/// Whether the folder holds the runs of several seeds.
bool is_seeds_run(const std::filesystem::path& run_folder);

}  // namespace nas
