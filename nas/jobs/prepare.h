// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "nas/core/json.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/fingerprint.h"
#include "search_spaces/planned_unet/data_options.h"
#include "search_spaces/planned_unet/plan.h"
#include "training/data/preprocessing.h"

namespace nas {

/// What `train` and `search` prepare their data from.
struct PrepareOptions {
  std::filesystem::path data;  // data set folder
  std::int64_t fold = 0;       // whose validation cases are held out; -1: all cases train
  std::string configuration = "3d_fullres";
  DataOptions how;
  int threads = 0;  // 0: all
  bool show_progress = true;
};

/// \throws Error(Input) where there are no folds because there is a single labelled case.
void check_can_be_split(const DataSet& data);

/// A data set on its way to a training. The steps in order: open_fold, plan_fold, open_cache.
struct Prepared {
  DataSet data;             // all cases
  Split split;              // of the fold
  Fingerprint fingerprint;  // of the split's training cases alone, as the plan
  Plan plan;
  Preprocessing preprocessing;
  CaseCache cache;  // of all cases
  /// The planned one, after open_cache.
  const Configuration& configuration() const {
    return plan.configuration(preprocessing.configuration);
  }
};

/// Opens the data set, has a quick look at its files (headers alone), and finds the fold.
/// \throws Error(Input) naming the files that are not fit for training; Error(Usage) if there is no
/// such fold.
Prepared open_fold(const PrepareOptions& options);

/// Orientation (of all cases, so that folds agree), fingerprint (unless `known`, of a run that goes
/// on) and plan; the latter two see no held-out case.
void plan_fold(Prepared& prepared,
               const PrepareOptions& options,
               const std::optional<Fingerprint>& known = std::nullopt);

/// Preprocessing of the planned configuration, and the cache of the preprocessed cases.
void open_cache(Prepared& prepared, const PrepareOptions& options);

/// What a run begins with, for its record: names of channels and labels, what label values mean, the
/// fold's cases, and the content hashes of the files of every case. Nothing of it says where the data set lies.
Json data_record(const Prepared& prepared);

/// Whether a run that began with `record` may go on with `data`. \throws Error(Input) that says
/// what differs: names, the cases of the fold, or the first case and file whose content does.
void check_same_data(const Json& record, const DataSet& data, std::int64_t fold, int threads);

/// open_fold of a run that goes on: the data set, wherever it lies now, must be that of `record`.
Prepared open_same_data(const PrepareOptions& options, const Json& record);

/// \throws Error(Input) if a run's data set is no longer at `folder`, saying that `command` takes
/// another place.
void check_data_is_there(const std::filesystem::path& folder, const std::string& command);

}  // namespace nas
