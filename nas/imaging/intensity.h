// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "nas/core/json.h"
#include "nas/imaging/volume.h"

namespace nas {

/// Intensities of foreground voxels of one channel over the training set.
struct IntensityProperties {
  double mean = 0, median = 0, std = 1, min = 0, max = 0, percentile_00_5 = 0, percentile_99_5 = 0;
  bool operator==(const IntensityProperties&) const = default;
};

/// {"mean":..,"median":..,"std":..,"min":..,"max":..,"percentile_99_5":..,"percentile_00_5":..}
Json to_json(const IntensityProperties& properties);
IntensityProperties intensity_from_json(const Json& value, const std::string& where);

/// Label of voxels that are outside the non-zero region of the image.
inline constexpr std::int16_t kOutsideLabel = -1;

/// 1 where any channel is not 0, holes filled (a hole is a region that no path of face neighbours
/// joins to the border).
std::vector<std::uint8_t> nonzero_mask(const Image& image);

/// A part of a grid, in voxels.
struct Box {
  Extent3 begin{0, 0, 0}, shape{0, 0, 0};
};
/// The smallest box around all voxels that are not 0 in some channel; all of an image of zeros.
Box nonzero_box(const Image& image);

/// An image cropped to the bounding box of its non-zero mask.
struct CroppedCase {
  Image image;  // geometry.shape is the crop's; affine as given
  LabelMap
      label;  // background outside the mask becomes kOutsideLabel; all background without a label
  Extent3 begin{0, 0, 0};  // of the box in the source grid
};

/// nnU-Net's cropping. An image that is zero everywhere is kept whole, all of it outside.
/// \param label on the same grid, or nullptr. \throws Error(Shape) if it is not.
CroppedCase crop_to_nonzero(const Image& image, const LabelMap* label = nullptr);

/// Voxels [begin, begin + shape) of every channel; the affine is left as it is.
template <class T>
Volume<T> crop_volume(const Volume<T>& source, const Extent3& begin, const Extent3& shape);

/// nnU-Net's normalisation name for a channel name: CT, noNorm, zscore, rescale_to_0_1, rgb_to_0_1
/// in any case; others are z-scored.
std::string normalization_scheme(const std::string& channel_name);
/// True for schemes that leave voxels outside the mask at zero when the mask is used (z-score).
bool normalization_uses_mask(const std::string& scheme);

/// Normalises one channel in place.
///   CTNormalization           clip to [percentile_00_5, percentile_99_5], then
///                             (x - mean) / max(std, 1e-8) of `properties`
///   ZScoreNormalization       (x - mean) / max(std, 1e-8) of the image; with `use_mask` of voxels
///                             with label >= 0, the others untouched
///   NoNormalization           as it is
///   RescaleTo01Normalization  (x - min) / max(max - min, 1e-8)
///   RGBTo01Normalization      x / 255
/// \param label same size as `voxels`; may be empty unless `use_mask`.
/// \throws Error(Input) for an unknown scheme or RGB values outside [0, 255].
void normalize_channel(std::span<float> voxels,
                       const std::string& scheme,
                       bool use_mask,
                       std::span<const std::int16_t> label,
                       const IntensityProperties& properties);

}  // namespace nas
