// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "nas/core/progress.h"
#include "nas/imaging/volume.h"
#include "training/model/graph_module.h"

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
/// \throws Error(Usage) naming the option that is out of its range.
void check_options(const PredictOptions& options);

/// The sliding window over one image: over what the network's output describes (`tile`, all of the
/// patch unless its convolutions are unpadded). Goes front to back; a slice leaves as soon as no
/// later window touches it, so that only one tile depth of scores exists. Image and options must
/// outlive it.
class WindowScores {
 public:
  /// \throws Error(Usage|Shape) on wrong options or another number of channels than the network's.
  WindowScores(const GraphModule& network,
               const Image& image,
               const Extent3& patch,
               const PredictOptions& options);

  std::int64_t windows() const {
    return static_cast<std::int64_t>(starts_[0].size() * plane_starts_.size());
  }

  /// The next final slices: [K, n, H, W] float32 on the CPU, contiguous; undefined after the last.
  /// \throws Error(Input) if the network's output is not finite.
  at::Tensor next(Progress* progress);

 private:
  /// Runs one row of windows; undefined if all slices that it finishes are padding.
  at::Tensor next_row(Progress* progress);

  GraphModule network_;
  const Image& image_;
  Extent3 patch_;
  Extent3 begin_{}, tile_{};  // of the output within the patch, voxels
  const PredictOptions& options_;
  at::Device device_;
  at::ScalarType type_;
  at::Device place_ = at::kCPU;
  std::int64_t classes_ = 0;
  Extent3 padded_{}, before_{};
  std::vector<std::vector<std::int64_t>> starts_;
  std::vector<std::array<std::int64_t, 2>> plane_starts_;
  at::Tensor weight_, scores_, weights_;
  std::size_t row_ = 0;  // of windows, the next to be run
};

/// Logits of a preprocessed image by weighted sliding windows; what sticks out of the image is
/// zero. A network whose output is the middle of its patch (OutputRegion) gets windows whose
/// outputs cover the image. \returns [K, D, H, W] float32 on the CPU. \throws Error(Input) if the
/// network's output is not finite.
at::Tensor predict_logits(GraphModule& network,
                          const Image& image,
                          const Extent3& patch,
                          const PredictOptions& options);

}  // namespace nas
