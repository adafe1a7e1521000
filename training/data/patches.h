// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "nas/core/extent.h"
#include "nas/core/rng.h"
#include "training/data/preprocessing.h"

namespace nas {

/// Where the patch of one training sample lies.
struct PatchChoice {
  std::int64_t case_index = 0;  // into the list of cases
  Extent3 begin{0, 0, 0};       // first voxel; may be negative or run over the case: padded
  bool foreground = false;      // centred on a voxel of class_locations
  bool operator==(const PatchChoice&) const = default;
};

/// True if sample `sample` of a batch is centred on foreground: nnU-Net's rule, the last batch -
/// round(batch * (1 - fraction)) samples of every batch (round half to even, as Python rounds).
bool is_foreground_sample(std::int64_t batch, std::int64_t sample, double foreground_fraction);

/// The patch of sample `sample` of a batch, by nnU-Net's rules: a case drawn uniformly; then either
/// a uniform place, or (see is_foreground_sample) a place centred on a random location of a random
/// class (or region) that is present in the case. A case smaller than the patch lies in it near the
/// middle; a foreground patch never starts before the first place that a uniform one can have, but
/// may run over the end. A case without foreground gets a uniform place. With an ignored label,
/// samples that need no foreground, or find none, are centred on a voxel of any other label. \param
/// rng a stream of this step and sample, e.g. Rng(seed).split("patch", step, sample): no other
/// state. \throws Error(Input) if `cases` is empty, Error(Shape) for an empty patch or sample
/// outside [0, batch).
PatchChoice choose_patch(const std::vector<const CachedCase*>& cases,
                         const Extent3& patch,
                         std::int64_t batch,
                         std::int64_t sample,
                         double foreground_fraction,
                         Rng rng);

}  // namespace nas
