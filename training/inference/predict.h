// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "nas/imaging/metrics.h"
#include "training/data/preprocessing.h"
#include "training/data/sliding_window.h"
#include "training/fit/fit.h"

namespace nas {

struct PredictOptions {
  double step = 0.5;    // between windows, of what a window's output describes, (0, 1]
  bool mirror = false;  // average over the eight mirrored inputs
  std::string device = "auto";
  std::string precision = "auto";
  std::int64_t batch = 1;      // windows at once
  int threads = 0;             // compute threads, 0: as LibTorch is set
  bool show_progress = false;  // a bar of windows
};

/// Logits of a preprocessed image by weighted sliding windows; what sticks out of the image is
/// zero. A network whose output is the middle of its patch (OutputRegion) gets windows whose
/// outputs cover the image. \returns [K, D, H, W] float32 on the CPU. \throws Error(Input) if the
/// network's output is not finite.
at::Tensor predict_logits(GraphModule& network,
                          const Image& image,
                          const Extent3& patch,
                          const PredictOptions& options);

/// A trained network with what it needs to run: the model folder (network.json,
/// weights.safetensors, preprocessing.json).
struct Model {
  GraphModule network{nullptr};
  Preprocessing preprocessing;
};
/// Each file appears whole; preprocessing.json comes last and names the network and the weights it
/// belongs to.
void save_model(const std::filesystem::path& folder, const Model& model);
/// \throws Error(Input|Io) naming the file that is missing, damaged or does not belong to the
/// others.
Model load_model(const std::filesystem::path& folder);

/// The models that `names` tells, joined by commas: model folders, run folders of `voxnas train`,
/// or runs over folds (fold_0, fold_1, ... of RUN: all of them). \throws Error(Input|Io|Usage) also
/// if their labels, channels or axis orders differ.
std::vector<Model> load_models(const std::string& names);

/// Estimated peak memory in bytes of the process when `predict_image` works on an image of this
/// geometry: image, preprocessed images, scores of one patch depth per model, the live results of
/// the largest network, and LibTorch itself.
std::int64_t predict_memory_bytes(const std::vector<Model>& models,
                                  const Geometry& geometry,
                                  const PredictOptions& options);

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
