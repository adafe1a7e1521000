// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "nas/core/extent.h"
#include "nas/imaging/volume.h"
#include "training/data/preprocessing.h"

namespace nas {

/// Between windows, of what a window describes: half of it, as nnU-Net.
inline constexpr double kWindowStep = 0.5;

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

/// Copies the window at `start` (which may stick out of the image) to `out`, [C, d, h, w]; zero
/// outside.
void copy_window(const Image& image, const Extent3& start, const Extent3& patch, float* out);

/// Puts labels of the crop (the network's axes) into a map on the image's own grid.
LabelMap restore_grid(const std::vector<std::int16_t>& labels, const PreprocessedCase& input);

/// What a network says of one window: [K, size].
struct WindowLogits {
  std::vector<float> values;
  Extent3 size{0, 0, 0};  // voxels; the patch, or its middle where convolutions are unpadded
};
/// A network that somebody else runs, on a window [C, patch].
using WindowNetwork = std::function<WindowLogits(std::vector<float>& window)>;

/// Segments a preprocessed case through any network, without LibTorch: the plain form of
/// predict_image, which it is tested against. Windows half of what a window's output describes
/// apart, Gaussian weights, logits back to the original grid, arg-max. Keeps the scores of the
/// whole preprocessed image, K + 1 floats a voxel. Runs one window of zeros first, whose result
/// says which part of the patch is described. \throws Error(Shape) if the network gives another
/// number of logits.
LabelMap segment_windows(const PreprocessedCase& input,
                         const Preprocessing& preprocessing,
                         const WindowNetwork& network);

}  // namespace nas
