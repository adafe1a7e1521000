// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "training/fit.h"
#include "training/imaging/metrics.h"
#include "training/preprocessing.h"

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

/// Window starts along each axis, as nnU-Net computes them: evenly spread, at most `step` * patch
/// apart. `image` must be at least as large as `patch`. \throws Error(Shape) otherwise,
/// Error(Usage) if step is out of (0, 1].
std::vector<std::vector<std::int64_t>> window_starts(const Extent3& image,
                                                     const Extent3& patch,
                                                     double step);
/// Weight of each voxel of a window, [D, H, W]: a Gaussian of deviation `sigma_scale` * patch
/// around patch / 2 with the maximum `peak`.
std::vector<float> gaussian_importance(const Extent3& patch,
                                       double sigma_scale = 0.125,
                                       double peak = 10);

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

/// Estimated peak memory in bytes of the process when `predict_image` works on an image of this
/// geometry: image, preprocessed image, scores of one patch depth, the network's live results, and
/// LibTorch itself.
std::int64_t predict_memory_bytes(const Model& model,
                                  const Geometry& geometry,
                                  const PredictOptions& options);

/// Segmentation on the image's own grid. Preprocess, sliding windows front to back; scores that are
/// final are resampled and arg-maxed slice by slice: neither the scores of the whole image nor a
/// full-resolution copy per class exist.
LabelMap predict_image(Model& model, const Image& image, const PredictOptions& options = {});
/// The same from a preprocessed case.
LabelMap predict_preprocessed(Model& model,
                              const PreprocessedCase& input,
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
