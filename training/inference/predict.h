// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "nas/imaging/volume.h"
#include "training/data/preprocessing.h"
#include "training/inference/window_scores.h"
#include "training/model/model_folder.h"

namespace nas {

/// Segmentation on the image's own grid. Preprocess, sliding windows front to back; scores that are
/// final are resampled and arg-maxed slice by slice: neither the scores of the whole image nor a
/// full-resolution copy per class exist. Several models take turns slice by slice and the mean of
/// their probabilities decides; each has its own preprocessing (computed once where equal).
LabelMap predict_image(const std::vector<Model>& models,
                       const Image& image,
                       const PredictOptions& options = {});
LabelMap predict_image(Model& model, const Image& image, const PredictOptions& options = {});

/// The same in two steps, so that the image can be let go in between: one input per model.
std::vector<std::shared_ptr<const PreprocessedCase>> preprocess_for(
    const std::vector<Model>& models, const Image& image, int threads);
LabelMap predict_preprocessed(const std::vector<Model>& models,
                              const std::vector<std::shared_ptr<const PreprocessedCase>>& inputs,
                              const PredictOptions& options = {});

/// For each model the first one for which an image becomes the same input.
std::vector<std::size_t> first_with_input(const std::vector<Model>& models);

}  // namespace nas
