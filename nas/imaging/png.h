// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "nas/imaging/volume.h"

namespace nas {

/// 8-bit picture, rows from the top, `channels` bytes a pixel.
struct Picture {
  std::int64_t width = 0, height = 0;
  int channels = 3;                  // 1 gray or 3 RGB
  std::vector<std::uint8_t> pixels;  // height * width * channels
  bool operator==(const Picture&) const = default;
};

/// The bytes of a PNG file. \throws Error(Shape) if pixels and size disagree.
std::string encode_png(const Picture& picture);

/// Colour of class `label` (>= 1) in pictures and legends; distinct for colour-blind eyes.
/// Source: Okabe and Ito, "Color universal design", 2008. Repeats after seven.
std::array<std::uint8_t, 3> class_color(std::int64_t label);

struct SliceOptions {
  std::int64_t channel = 0;
  int axis = 0;            // 0: across D (axial), 1: across H (coronal), 2: across W (sagittal)
  std::int64_t index = 0;  // voxel along `axis`
  std::int64_t min_edge = 256;  // pixels of the picture's longer edge, at least
  double low_percentile = 0.5,
         high_percentile = 99.5;  // of the channel's voxels; shown as black and white
};

/// One slice as RGB, pixels square in mm, seen as radiologists do (patient's left at the right,
/// front and head up). Outlines in the colour of the class: reference dashed, prediction solid;
/// either may be null. \throws Error(Shape) if a label map's grid is not the image's; Error(Input)
/// on an index out of range.
Picture render_slice(const Image& image,
                     const SliceOptions& options,
                     const LabelMap* reference = nullptr,
                     const LabelMap* prediction = nullptr);

/// The slice across `axis` with the most labelled voxels; the middle one if there is none.
std::int64_t fullest_slice(const LabelMap& label, int axis);

}  // namespace nas
