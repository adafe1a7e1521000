// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "nas/core/extent.h"

namespace nas {

/// Where the voxels of a volume lie in the patient.
struct Geometry {
  Extent3 shape{0, 0, 0};    // voxels, D H W
  Vec3 spacing_mm{1, 1, 1};  // D H W
  /// Row-major 3x4: patient millimetres (RAS+) = affine * (x, y, z, 1) with the NIfTI voxel index
  /// (x first).
  std::array<double, 12> affine{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0};
  bool operator==(const Geometry&) const = default;
};

/// C volumes on one grid; voxels in [C, D, H, W] order, W fastest (the order of the bytes in a
/// NIfTI file).
template <class T>
struct Volume {
  Geometry geometry;
  std::int64_t channels = 1;
  std::vector<T> voxels;

  std::int64_t voxels_per_channel() const { return volume(geometry.shape); }
  std::span<const T> channel(std::int64_t c) const {
    const auto n = static_cast<std::size_t>(voxels_per_channel());
    return {voxels.data() + static_cast<std::size_t>(c) * n, n};
  }
  std::span<T> channel(std::int64_t c) {
    const auto n = static_cast<std::size_t>(voxels_per_channel());
    return {voxels.data() + static_cast<std::size_t>(c) * n, n};
  }
  bool operator==(const Volume&) const = default;
};

using Image = Volume<float>;
using LabelMap = Volume<std::int16_t>;

}  // namespace nas
