// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "nas/core/extent.h"

namespace nas {

/// Spacing ratio above which one axis is resampled on its own (nnU-Net).
inline constexpr double kAnisotropyThreshold = 3;

/// Why a volume cannot be brought from one spacing to another: an axis of over 65,536 voxels, over
/// 2^31 voxels, or none. A header may claim any spacing. "" if it can.
std::string resampling_problem(const Extent3& shape,
                               const Vec3& old_spacing_mm,
                               const Vec3& new_spacing_mm);

/// round(old_spacing / new_spacing * shape) per axis, halves to even.
Extent3 resampled_shape(const Extent3& shape,
                        const Vec3& old_spacing_mm,
                        const Vec3& new_spacing_mm);

/// The axis that nnU-Net resamples with order 0 apart from the others: the coarsest of the old
/// spacing if that is anisotropic (largest / smallest > 3), else of the new one. -1: none, or the
/// largest spacing is shared by several axes.
int separate_axis(const Vec3& old_spacing_mm, const Vec3& new_spacing_mm);

/// Image of one channel, [D, H, W] -> [D', H', W'], cubic splines with prefilter, edges repeated,
/// clipped to the range of the input. With `separate` >= 0 planes across that axis are resampled in
/// 2D (each clipped to its own range) and that axis takes the nearest plane. Equal shapes give the
/// input back. Source: nnU-Net's resample_data_or_seg_to_shape with order 3, that is
/// skimage.transform.resize(mode="edge"). Unser, "Splines: a perfect fit for signal and image
/// processing", 1999, for the recursive prefilter. \param threads 0: all processors.
std::vector<float> resample_image(std::span<const float> image,
                                  const Extent3& old_shape,
                                  const Extent3& new_shape,
                                  int separate = -1,
                                  int threads = 1);

/// Labels: the indicator of every label is resampled linearly and the largest wins; among exactly
/// equal ones the label of the nearest voxel if it is one of them, else the smallest. Negative
/// labels (-1: outside) take part. With `separate` >= 0 as above. Source: batchgenerators'
/// resize_segmentation (0.25.5), which nnU-Net calls.
std::vector<std::int16_t> resample_labels(std::span<const std::int16_t> labels,
                                          const Extent3& old_shape,
                                          const Extent3& new_shape,
                                          int separate = -1,
                                          int threads = 1);

/// Order-1 resampling of one channel plane by plane, as nnU-Net brings probabilities and logits
/// back to the original grid (linear; nearest along `separate`): an arg-max over classes needs one
/// output plane per class at a time.
///
///   SlabResampler resampler(shape_of_logits, shape_after_crop, separate_axis(current, original));
///   for z: for k: resampler.slab(logits_k, z, plane); keep the best k per voxel
class SlabResampler {
 public:
  SlabResampler(const Extent3& old_shape, const Extent3& new_shape, int separate = -1);
  const Extent3& old_shape() const { return old_shape_; }
  const Extent3& new_shape() const { return new_shape_; }

  /// Plane `z` of the result. \param channel [D, H, W] of the old shape. \param out_plane [H', W'].
  /// Thread-safe.
  void slab(const float* channel, std::int64_t z, std::span<float> out_plane) const;

  /// The two source planes that plane `z` reads and their weights (the second may be 0).
  struct Tap {
    std::int64_t first = 0, second = 0;
    float first_weight = 1, second_weight = 0;
  };
  const Tap& tap(int axis, std::int64_t index) const {
    return taps_[static_cast<std::size_t>(axis)][static_cast<std::size_t>(index)];
  }

 private:
  Extent3 old_shape_, new_shape_;
  std::array<std::vector<Tap>, 3> taps_;
};

}  // namespace nas
