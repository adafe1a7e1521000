// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "nas/core/extent.h"
#include "nas/imaging/metrics.h"
#include "training/data/preprocessing.h"
#include "training/inference/predict.h"
#include "training/model/graph_module.h"
#include "training/settings/options.h"

namespace nas {

/// Metrics of cases on the preprocessed grid, Dice alone where `metrics` does not ask for more: the labels that sliding-window logits decide for,
/// against the cached labels. Fast, and enough to rank networks. In the order of `ids`. \throws
/// Error(NotFinite) if the network's output is not.
std::vector<CaseMetrics> score_cached_cases(GraphModule& network,
                                            const CaseCache& cache,
                                            const std::vector<std::string>& ids,
                                            const Extent3& patch,
                                            const PredictOptions& options,
                                            const MetricOptions& metrics = {.distances = false},
                                            const Vec3& spacing_mm = {1, 1, 1});

/// Where and how precisely a training with these options runs, for scoring.
PredictOptions predict_options(const TrainOptions& options);

}  // namespace nas
