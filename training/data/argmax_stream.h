// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "nas/core/extent.h"
#include "nas/imaging/label_scheme.h"

namespace nas {

/// Scores of consecutive slices of one network: [K, slices, H, W], contiguous, valid until the next
/// slab is asked for.
struct ScoreSlab {
  const float* scores = nullptr;
  std::int64_t slices = 0;
};

/// One network's scores on their way to the target grid.
struct ScoreSource {
  Extent3 from{0, 0, 0};            // voxels of the scores, D H W
  int separate = -1;                // as `separate_axis` says
  std::function<ScoreSlab()> next;  // slabs front to back, from[0] slices in all
};

/// Resamples class scores to another grid and keeps only the best class, slice by slice: two target
/// planes per class and source are in memory, never full-resolution scores. Slabs are asked for
/// when the target slice at hand needs them, of all sources in turn.
///
/// Where a target voxel reads is SlabResampler's rule (linear; nearest along `separate`). Of one
/// source the largest score wins; of several the largest mean of their softmax over the classes.
/// Ties go to the lower class.
/// \param classes K >= 1. \param to voxels, D H W, each >= 1. \param threads 0: all processors.
/// \returns class ids [to]. \throws Error(Shape) if grids are empty or a source yields another
/// number of slices than it said.
std::vector<std::int16_t> argmax_stream(std::int64_t classes,
                                        const std::vector<ScoreSource>& sources,
                                        const Extent3& to,
                                        int threads = 0);

/// The same for a LabelScheme: classes by argmax_stream; of regions each whose score is above 0
/// (sigmoid above 1/2), or of several sources whose mean sigmoid is above 1/2, writes its label
/// over those of the regions before it.
std::vector<std::int16_t> label_stream(const LabelScheme& labels,
                                       const std::vector<ScoreSource>& sources,
                                       const Extent3& to,
                                       int threads = 0);

/// Bytes that `argmax_stream` and `label_stream` (classes: outputs) hold beside the slabs, labels
/// included.
std::int64_t argmax_stream_bytes(std::int64_t classes, std::int64_t sources, const Extent3& to);

}  // namespace nas
