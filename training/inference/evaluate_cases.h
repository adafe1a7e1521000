// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "nas/imaging/dataset.h"
#include "nas/imaging/metrics.h"
#include "training/inference/predict.h"

namespace nas {

/// Predicts cases as `predict_image` does and scores them on the original grid against the label
/// files. The next case is read and the last one scored while the network works. Predictions go to
/// `save_folder`/<id>.nii.gz if given.
std::vector<CaseMetrics> evaluate_cases(Model& model,
                                        const DataSet& data,
                                        const std::vector<std::string>& ids,
                                        const PredictOptions& options,
                                        const std::filesystem::path& save_folder = {},
                                        bool show_progress = true);

}  // namespace nas
