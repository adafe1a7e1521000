// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "training/fit.h"
#include "training/imaging/metrics.h"
#include "training/preprocessing.h"

namespace nas {

struct PredictOptions {
  double step = 0.5;                   // of the patch between windows, (0, 1]
  bool mirror = false;                 // average over the eight mirrored inputs
  std::string device = "auto";
  std::string precision = "auto";
  std::int64_t batch = 1;              // windows at once
  int threads = 0;
};

/// Window starts along one axis and the Gaussian importance map, as nnU-Net computes them.
std::vector<std::vector<std::int64_t>> window_starts(const Extent3& image, const Extent3& patch, double step);
std::vector<float> gaussian_importance(const Extent3& patch, double sigma_scale = 0.125, double peak = 10);

/// Logits of a preprocessed image by weighted sliding windows. \returns [K, D, H, W] float32 on the CPU.
at::Tensor predict_logits(GraphModule& network, const Image& image, const Extent3& patch, const PredictOptions& options);

/// A trained network with what it needs to run: the model folder (network.json, weights.safetensors, preprocessing.json).
struct Model {
  GraphModule network{nullptr};
  Preprocessing preprocessing;
};
void save_model(const std::filesystem::path& folder, const Model& model);
Model load_model(const std::filesystem::path& folder);

/// Peak memory in bytes that `predict_image` will need for an image of this geometry; printed beforehand.
std::int64_t predict_memory_bytes(const Model& model, const Geometry& geometry, const PredictOptions& options);

/// Segmentation on the image's own grid. Preprocess, sliding window, then logits are resampled and arg-maxed slab by
/// slab: no full-resolution copy per class.
LabelMap predict_image(Model& model, const Image& image, const PredictOptions& options = {});

/// Predicts cases from their preprocessed form but scores on the original grid against the label files.
std::vector<CaseMetrics> evaluate_cases(Model& model, const DataSet& data, const std::vector<std::string>& ids,
                                        const PredictOptions& options, const std::filesystem::path& save_folder = {},
                                        bool show_progress = true);

}  // namespace nas
