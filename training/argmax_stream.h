// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "nas/core/extent.h"

namespace nas {

/// Resamples class scores to another grid and keeps only the best class, slice by slice: two target
/// planes per class are in memory, never the full-resolution scores.
///
/// Where a target voxel reads is SlabResampler's rule (linear; nearest along `separate`). Ties go
/// to the lower class.
class ArgMaxStream {
 public:
  /// \param classes K >= 1. \param from, to voxels, D H W, each >= 1. \param separate as
  /// `separate_axis` says, or -1.
  ArgMaxStream(std::int64_t classes,
               const Extent3& from,
               const Extent3& to,
               int separate = -1,
               int threads = 0);

  /// The next `slices` source slices: scores [K, slices, H, W], contiguous. \throws Error(Shape)
  /// beyond the last slice.
  void push(const float* scores, std::int64_t slices);

  /// Class ids [to]. \throws Error(Internal) unless all slices were pushed.
  std::vector<std::int16_t> take();

  /// Bytes that the object holds, labels included.
  static std::int64_t memory_bytes(std::int64_t classes, const Extent3& to);

 private:
  /// Where target voxel i reads along one axis: (1 - weight) * source[low] + weight * source[high].
  struct Tap {
    std::int64_t low, high;
    float weight;
  };
  void make_plane(const float* scores, std::int64_t slices, std::int64_t slice, std::int64_t z);
  void emit(std::int64_t target);

  std::int64_t classes_;
  Extent3 from_, to_;
  int threads_;
  std::array<std::vector<Tap>, 3> taps_;
  std::array<std::vector<float>, 2> planes_;  // [K, H', W'] of source slices plane_z_
  std::array<std::int64_t, 2> plane_z_{-1, -1};
  std::int64_t pushed_ = 0;   // source slices seen
  std::int64_t emitted_ = 0;  // target slices done
  std::vector<std::int16_t> labels_;
};

}  // namespace nas
