// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "training/inference/predict.h"

namespace nas {

/// Estimated peak memory in bytes of the process when `predict_image` works on an image of this
/// geometry: image, preprocessed images, scores of one patch depth per model, the live results of
/// the largest network, and LibTorch itself.
std::int64_t predict_memory_bytes(const std::vector<Model>& models,
                                  const Geometry& geometry,
                                  const PredictOptions& options);

}  // namespace nas
