// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "nas/imaging/metrics.h"
#include "nas/jobs/train_record.h"

namespace nas {

struct TrainOutcome {
  bool stopped = false;               // by the user; go on with `resume`
  std::vector<CaseMetrics> held_out;  // scored cases, by the model that did not see them
  std::string report;                 // JSON text: what --json prints
};

/// Data set -> fingerprint -> plan -> cache -> fit -> RUN/model, RUN/metrics.json, RUN/predictions.
/// Neither fingerprint nor plan see the held-out cases. \throws Error(Usage|Input|Io); Usage too
/// while another process works on the run, Input if the data set of a resumed run is no longer what
/// it began with.
TrainOutcome train_network(const TrainJob& job);

/// Whether the folder holds the record of a training.
bool is_training_run(const std::filesystem::path& run_folder);

/// What a new job and a resumed one must say and must not. \throws Error(Usage|Io).
void check_new_training(const TrainJob& job);
void check_resumed_training(const TrainJob& job);

}  // namespace nas
