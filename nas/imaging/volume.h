// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "nas/core/extent.h"

namespace nas {

/// What a NIfTI header says of the place of its voxels, in the file's own unit and numbers, so that
/// a result on the same grid can say exactly the same. Fields of a form that is not used are 0.
struct HeaderPlace {
  int unit = 2;  // 0 nothing said, 1 metre, 2 millimetre, 3 micrometre (codes of the format)
  int qform_code = 0, sform_code = 0;
  std::array<double, 4> pixdim{1, 1, 1, 1};      // qfac, then x y z
  std::array<double, 3> quaternion{}, offset{};  // of the qform
  std::array<double, 12> srow{};                 // of the sform
  bool says_orientation() const { return qform_code > 0 || sform_code > 0; }
};

/// Where the voxels of a volume lie in the patient.
struct Geometry {
  Extent3 shape{0, 0, 0};    // voxels, D H W
  Vec3 spacing_mm{1, 1, 1};  // D H W
  /// Row-major 3x4: patient millimetres (RAS+) = affine * (x, y, z, 1) with the NIfTI voxel index
  /// (x first).
  std::array<double, 12> affine{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0};
  /// The header of the file that it was read from; writers use it while it still says the above.
  std::optional<HeaderPlace> stored{};
  /// False if the file said neither qform nor sform: the affine is then our convention alone.
  bool oriented() const { return !stored || stored->says_orientation(); }
  /// Of the grid; how a file stored it does not matter.
  bool operator==(const Geometry& other) const {
    return shape == other.shape && spacing_mm == other.spacing_mm && affine == other.affine;
  }
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
