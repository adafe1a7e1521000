// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nas/network/graph.h"

namespace nas {

/// Which voxels of a patch the first output of a network describes: all of them, or, for networks
/// of unpadded convolutions, those in the middle.
struct OutputRegion {
  Extent3 begin{0, 0, 0};  // first voxel, in the patch
  Extent3 size{0, 0, 0};   // voxels
  bool operator==(const OutputRegion&) const = default;
};

/// \throws Error(Shape) naming the network where it does not take the patch, where its first output
/// has another resolution than the input, or does not lie in the middle.
OutputRegion output_region(const Graph& graph, const Extent3& patch);

/// The smallest patch that the network takes and whose output is at least `wanted` voxels: `wanted`
/// itself where possible, else enlarged to a common multiple (up to 128) and by what the network
/// takes off. \throws Error(Shape) with the reason where there is none.
Extent3 fitting_patch(const Graph& graph, const Extent3& wanted);

}  // namespace nas
