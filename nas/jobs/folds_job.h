// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "nas/jobs/train_job.h"

namespace nas {

/// `train_network` once per fold of the data set, in RUN/fold_0, RUN/fold_1, ...: each with an
/// equal share of the budget, or with `steps`. RUN/metrics.json then holds every case once, scored
/// by the fold that held it out. `job.fold` is not looked at. RUN/folds.json is the record from
/// which `resume` goes on: finished folds are kept.
TrainOutcome train_all_folds(const TrainJob& job);

/// The training over folds of what a finished search delivered: its network, and the options and
/// steps of its final training. For `train_all_folds`; RUN/folds is the run folder, gone on with if
/// it holds a record. \throws Error(Input) if the search has delivered nothing.
TrainJob winner_job(const std::filesystem::path& search_run);

/// Whether the folder holds the record of a training over folds.
bool is_folds_run(const std::filesystem::path& run_folder);

}  // namespace nas
