// SPDX-License-Identifier: Apache-2.0
#include "training/data/sliding_window.h"

#include <algorithm>
#include <cmath>

#include "nas/core/error.h"
#include "nas/imaging/resample.h"
#include "training/data/argmax_stream.h"

namespace nas {

std::vector<std::vector<std::int64_t>> window_starts(const Extent3& image,
                                                     const Extent3& patch,
                                                     double step) {
  NAS_CHECK_KIND(
      Usage, step > 0 && step <= 1, "step: expected a share of the patch in (0, 1], got ", step);
  std::vector<std::vector<std::int64_t>> result(3);
  for (std::size_t axis = 0; axis < 3; ++axis) {
    NAS_CHECK_KIND(Shape,
                   patch[axis] >= 1 && image[axis] >= patch[axis],
                   "sliding window: image ",
                   to_text(image),
                   " is smaller than the patch ",
                   to_text(patch));
    const auto room = static_cast<double>(image[axis] - patch[axis]);
    // At least one voxel apart: a tiny step would only repeat windows.
    const double apart = std::max(1.0, static_cast<double>(patch[axis]) * step);
    const auto count = static_cast<std::int64_t>(std::ceil(room / apart)) + 1;
    const double spread = count > 1 ? room / static_cast<double>(count - 1) : 0;
    for (std::int64_t i = 0; i < count; ++i) {
      // nearbyint rounds halves to even, as NumPy does.
      result[axis].push_back(
          static_cast<std::int64_t>(std::nearbyint(spread * static_cast<double>(i))));
    }
  }
  return result;
}

std::vector<float> gaussian_importance(const Extent3& patch, double sigma_scale, double peak) {
  std::array<std::vector<double>, 3> profile;
  for (std::size_t axis = 0; axis < 3; ++axis) {
    const double sigma = sigma_scale * static_cast<double>(patch[axis]);
    for (std::int64_t i = 0; i < patch[axis]; ++i) {
      const auto distance = static_cast<double>(i - patch[axis] / 2);
      profile[axis].push_back(std::exp(-0.5 * distance * distance / (sigma * sigma)));
    }
  }
  std::vector<float> result;
  result.reserve(static_cast<std::size_t>(volume(patch)));
  for (const double z : profile[0]) {
    for (const double y : profile[1]) {
      for (const double x : profile[2]) result.push_back(static_cast<float>(peak * z * y * x));
    }
  }
  return result;
}

void copy_window(const Image& image, const Extent3& start, const Extent3& patch, float* out) {
  const Extent3& shape = image.geometry.shape;
  const std::int64_t x_low = std::clamp<std::int64_t>(-start[2], 0, patch[2]);
  const std::int64_t x_high = std::clamp<std::int64_t>(shape[2] - start[2], x_low, patch[2]);
  for (std::int64_t c = 0; c < image.channels; ++c) {
    const float* channel = image.channel(c).data();
    for (std::int64_t d = 0; d < patch[0]; ++d) {
      const std::int64_t z = start[0] + d;
      for (std::int64_t h = 0; h < patch[1]; ++h, out += patch[2]) {
        const std::int64_t y = start[1] + h;
        if (z < 0 || z >= shape[0] || y < 0 || y >= shape[1]) {
          std::fill_n(out, patch[2], 0.0F);
          continue;
        }
        const float* row = channel + (z * shape[1] + y) * shape[2] + start[2];
        std::fill(out, out + x_low, 0.0F);
        std::copy(row + x_low, row + x_high, out + x_low);
        std::fill(out + x_high, out + patch[2], 0.0F);
      }
    }
  }
}

LabelMap restore_grid(const std::vector<std::int16_t>& labels, const PreprocessedCase& input) {
  LabelMap result;
  result.geometry = input.original;
  result.voxels.assign(static_cast<std::size_t>(volume(input.original.shape)), 0);
  const Extent3& shape = input.original.shape;
  const Extent3 edges = turned_values(shape, input.turn);
  Extent3 strides = turned_values(Extent3{shape[1] * shape[2], shape[2], 1}, input.turn);
  std::int64_t start = 0;  // of the crop's first voxel in the image's own grid
  for (std::size_t i = 0; i < 3; ++i) {
    if (input.turn.reversed[i]) {
      start += (edges[i] - 1) * strides[i];
      strides[i] = -strides[i];
    }
    start += input.crop_begin[i] * strides[i];
  }
  const std::int16_t* read = labels.data();
  for (std::int64_t d = 0; d < input.crop_shape[0]; ++d) {
    for (std::int64_t h = 0; h < input.crop_shape[1]; ++h) {
      std::int16_t* row = result.voxels.data() + start + d * strides[0] + h * strides[1];
      for (std::int64_t w = 0; w < input.crop_shape[2]; ++w) row[w * strides[2]] = *read++;
    }
  }
  return result;
}

LabelMap segment_windows(const PreprocessedCase& input,
                         const Preprocessing& preprocessing,
                         const WindowNetwork& network) {
  const Extent3& shape = input.image.geometry.shape;
  const Extent3& patch = preprocessing.patch;
  const auto classes = preprocessing.labels.outputs();
  std::vector<float> window(static_cast<std::size_t>(input.image.channels * volume(patch)));
  const Extent3 tile = network(window).size;
  Extent3 margin{}, padded{}, before{};
  for (std::size_t a = 0; a < 3; ++a) {
    NAS_CHECK_KIND(Shape,
                   tile[a] >= 1 && tile[a] <= patch[a] && (patch[a] - tile[a]) % 2 == 0,
                   "network: expected logits of the patch, ",
                   to_text(patch),
                   " voxels, or of its middle, found ",
                   to_text(tile));
    margin[a] = (patch[a] - tile[a]) / 2;
    padded[a] = std::max(shape[a], tile[a]);
    before[a] = (padded[a] - shape[a]) / 2;
  }
  const std::vector<float> importance = gaussian_importance(tile);
  const auto voxels = static_cast<std::size_t>(volume(shape));
  std::vector<float> scores(static_cast<std::size_t>(classes) * voxels), weights(voxels);
  const auto starts = window_starts(padded, tile, kWindowStep);
  for (const std::int64_t z : starts[0]) {
    for (const std::int64_t y : starts[1]) {
      for (const std::int64_t x : starts[2]) {
        const Extent3 begin{z - before[0], y - before[1], x - before[2]};
        copy_window(input.image,
                    {begin[0] - margin[0], begin[1] - margin[1], begin[2] - margin[2]},
                    patch,
                    window.data());
        const WindowLogits logits = network(window);
        NAS_CHECK_KIND(
            Shape,
            logits.size == tile &&
                logits.values.size() == static_cast<std::size_t>(classes) * importance.size(),
            "network: expected ",
            classes,
            " logits for each of ",
            to_text(tile),
            " voxels, found ",
            logits.values.size(),
            " for ",
            to_text(logits.size));
        std::size_t i = 0;  // within the window
        for (std::int64_t d = begin[0]; d < begin[0] + tile[0]; ++d) {
          for (std::int64_t h = begin[1]; h < begin[1] + tile[1]; ++h) {
            for (std::int64_t w = begin[2]; w < begin[2] + tile[2]; ++w, ++i) {
              if (d < 0 || d >= shape[0] || h < 0 || h >= shape[1] || w < 0 || w >= shape[2])
                continue;
              const auto at = static_cast<std::size_t>((d * shape[1] + h) * shape[2] + w);
              weights[at] += importance[i];
              for (std::size_t k = 0; k < static_cast<std::size_t>(classes); ++k) {
                scores[k * voxels + at] += importance[i] * logits.values[k * importance.size() + i];
              }
            }
          }
        }
      }
    }
  }
  for (std::size_t i = 0; i < scores.size(); ++i) scores[i] /= weights[i % voxels];
  const ScoreSource source{
      shape, separate_axis(preprocessing.spacing, input.original_spacing()), [&] {
        return ScoreSlab{scores.data(), shape[0]};
      }};
  return restore_grid(label_stream(preprocessing.labels, {source}, input.crop_shape), input);
}

}  // namespace nas
