// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/intensity.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "nas/core/error.h"

namespace nas {
namespace {

/// A stretch of background voxels in one row.
struct Run {
  std::int64_t begin, end;
};

/// Sets of runs that touch each other; set 0 is everything joined to the border of the volume.
class RunSets {
 public:
  explicit RunSets(std::size_t runs) : parent_(runs + 1) {
    std::iota(parent_.begin(), parent_.end(), std::size_t{0});
  }
  std::size_t find(std::size_t i) {
    while (parent_[i] != i) i = parent_[i] = parent_[parent_[i]];
    return i;
  }
  void join(std::size_t a, std::size_t b) {
    a = find(a);
    b = find(b);
    parent_[std::max(a, b)] = std::min(a, b);
  }

 private:
  std::vector<std::size_t> parent_;
};

void fill_holes(std::vector<std::uint8_t>& mask, const Extent3& shape) {
  std::vector<Run> runs;
  std::vector<std::size_t> row_begin;  // index of the first run of each row; one more at the end
  const std::int64_t rows = shape[0] * shape[1], width = shape[2];
  row_begin.reserve(static_cast<std::size_t>(rows) + 1);
  for (std::int64_t row = 0; row < rows; ++row) {
    row_begin.push_back(runs.size());
    const std::uint8_t* line = mask.data() + row * width;
    for (std::int64_t x = 0; x < width;) {
      if (line[x] != 0) {
        ++x;
        continue;
      }
      const std::int64_t begin = x;
      while (x < width && line[x] == 0) ++x;
      runs.push_back({begin, x});
    }
  }
  row_begin.push_back(runs.size());
  if (runs.empty()) return;

  RunSets sets(runs.size());
  const auto join_rows = [&](std::int64_t a, std::int64_t b) {
    std::size_t i = row_begin[static_cast<std::size_t>(a)],
                j = row_begin[static_cast<std::size_t>(b)];
    const std::size_t i_end = row_begin[static_cast<std::size_t>(a) + 1];
    const std::size_t j_end = row_begin[static_cast<std::size_t>(b) + 1];
    while (i < i_end && j < j_end) {
      if (runs[i].begin < runs[j].end && runs[j].begin < runs[i].end) sets.join(i + 1, j + 1);
      runs[i].end < runs[j].end ? ++i : ++j;
    }
  };
  for (std::int64_t z = 0; z < shape[0]; ++z) {
    for (std::int64_t y = 0; y < shape[1]; ++y) {
      const std::int64_t row = z * shape[1] + y;
      const bool border_row = z == 0 || z == shape[0] - 1 || y == 0 || y == shape[1] - 1;
      for (std::size_t i = row_begin[static_cast<std::size_t>(row)];
           i < row_begin[static_cast<std::size_t>(row) + 1];
           ++i) {
        if (border_row || runs[i].begin == 0 || runs[i].end == width) sets.join(0, i + 1);
      }
      if (y > 0) join_rows(row - 1, row);
      if (z > 0) join_rows(row - shape[1], row);
    }
  }
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::size_t i = row_begin[static_cast<std::size_t>(row)];
         i < row_begin[static_cast<std::size_t>(row) + 1];
         ++i) {
      if (sets.find(i + 1) == 0) continue;
      std::fill_n(
          mask.data() + row * width + runs[i].begin, runs[i].end - runs[i].begin, std::uint8_t{1});
    }
  }
}

}  // namespace

std::vector<std::uint8_t> nonzero_mask(const Image& image) {
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(image.voxels_per_channel()), 0);
  for (std::int64_t c = 0; c < image.channels; ++c) {
    const std::span<const float> voxels = image.channel(c);
    for (std::size_t i = 0; i < mask.size(); ++i)
      mask[i] = static_cast<std::uint8_t>(mask[i] | (voxels[i] != 0));
  }
  fill_holes(mask, image.geometry.shape);
  return mask;
}

template <class T>
Volume<T> crop_volume(const Volume<T>& source, const Extent3& begin, const Extent3& shape) {
  const Extent3& full = source.geometry.shape;
  for (std::size_t a = 0; a < 3; ++a) {
    NAS_CHECK_KIND(Shape,
                   begin[a] >= 0 && shape[a] >= 0 && begin[a] + shape[a] <= full[a],
                   "crop of ",
                   to_text(shape),
                   " at ",
                   to_text(begin),
                   " does not lie in ",
                   to_text(full));
  }
  Volume<T> result;
  result.geometry = source.geometry;
  result.geometry.shape = shape;
  result.channels = source.channels;
  result.voxels.resize(static_cast<std::size_t>(source.channels * volume(shape)));
  T* target = result.voxels.data();
  for (std::int64_t c = 0; c < source.channels; ++c) {
    const T* channel = source.voxels.data() + c * volume(full);
    for (std::int64_t z = 0; z < shape[0]; ++z) {
      for (std::int64_t y = 0; y < shape[1]; ++y) {
        const T* row = channel + ((begin[0] + z) * full[1] + begin[1] + y) * full[2] + begin[2];
        target = std::copy_n(row, shape[2], target);
      }
    }
  }
  return result;
}
template Volume<float> crop_volume(const Volume<float>&, const Extent3&, const Extent3&);
template Volume<std::int16_t> crop_volume(const Volume<std::int16_t>&,
                                          const Extent3&,
                                          const Extent3&);

namespace {

/// Around what is set in the mask; the whole grid if nothing is.
Box box_of(const std::vector<std::uint8_t>& mask, const Extent3& full) {
  Extent3 low = full, high{-1, -1, -1};
  for (std::int64_t z = 0; z < full[0]; ++z) {
    for (std::int64_t y = 0; y < full[1]; ++y) {
      const auto row = mask.begin() + (z * full[1] + y) * full[2];
      const auto row_end = row + full[2];
      const auto first = std::find(row, row_end, std::uint8_t{1});
      if (first == row_end) continue;
      auto last = row_end - 1;
      while (*last == 0) --last;
      const Extent3 from{z, y, first - row}, to{z, y, last - row};
      for (std::size_t a = 0; a < 3; ++a) {
        low[a] = std::min(low[a], from[a]);
        high[a] = std::max(high[a], to[a]);
      }
    }
  }
  if (high[0] < 0) return {{0, 0, 0}, full};
  Box box{low, full};
  for (std::size_t a = 0; a < 3; ++a) box.shape[a] = high[a] - low[a] + 1;
  return box;
}

}  // namespace

Box nonzero_box(const Image& image) { return box_of(nonzero_mask(image), image.geometry.shape); }

CroppedCase crop_to_nonzero(const Image& image, const LabelMap* label) {
  const Extent3& full = image.geometry.shape;
  NAS_CHECK_KIND(Shape,
                 label == nullptr || label->geometry.shape == full,
                 "label of ",
                 to_text(label->geometry.shape),
                 " for an image of ",
                 to_text(full));
  const std::vector<std::uint8_t> mask = nonzero_mask(image);
  const auto [low, shape] = box_of(mask, full);
  CroppedCase result;
  result.begin = low;
  result.image = crop_volume(image, low, shape);
  if (label != nullptr) {
    result.label = crop_volume(*label, low, shape);
  } else {
    result.label.geometry = result.image.geometry;
    result.label.voxels.assign(static_cast<std::size_t>(volume(shape)), 0);
  }
  std::size_t i = 0;
  for (std::int64_t z = 0; z < shape[0]; ++z) {
    for (std::int64_t y = 0; y < shape[1]; ++y) {
      const std::uint8_t* row =
          mask.data() + ((low[0] + z) * full[1] + low[1] + y) * full[2] + low[2];
      for (std::int64_t x = 0; x < shape[2]; ++x, ++i) {
        if (row[x] == 0 && result.label.voxels[i] == 0) result.label.voxels[i] = kOutsideLabel;
      }
    }
  }
  return result;
}

std::string normalization_scheme(const std::string& channel_name) {
  std::string name = channel_name;
  std::ranges::transform(
      name, name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (name == "ct") return "CTNormalization";
  if (name == "nonorm") return "NoNormalization";
  if (name == "rescale_to_0_1") return "RescaleTo01Normalization";
  if (name == "rgb_to_0_1") return "RGBTo01Normalization";
  return "ZScoreNormalization";
}

bool normalization_uses_mask(const std::string& scheme) { return scheme == "ZScoreNormalization"; }

void normalize_channel(std::span<float> voxels,
                       const std::string& scheme,
                       bool use_mask,
                       std::span<const std::int16_t> label,
                       const IntensityProperties& properties) {
  constexpr double kSmallest = 1e-8;
  if (voxels.empty()) return;
  if (scheme == "CTNormalization") {
    const auto low = static_cast<float>(properties.percentile_00_5),
               high = static_cast<float>(properties.percentile_99_5);
    const auto mean = static_cast<float>(properties.mean);
    const auto deviation = static_cast<float>(std::max(properties.std, kSmallest));
    for (float& v : voxels) v = (std::min(std::max(v, low), high) - mean) / deviation;
  } else if (scheme == "ZScoreNormalization") {
    NAS_CHECK_KIND(Shape,
                   !use_mask || label.size() == voxels.size(),
                   "z-score within a mask: ",
                   voxels.size(),
                   " voxels but ",
                   label.size(),
                   " labels");
    const auto inside = [&](std::size_t i) { return !use_mask || label[i] >= 0; };
    double sum = 0, count = 0;
    for (std::size_t i = 0; i < voxels.size(); ++i) {
      if (!inside(i)) continue;
      sum += voxels[i];
      count += 1;
    }
    if (count == 0) return;
    const double mean = sum / count;
    double squares = 0;
    for (std::size_t i = 0; i < voxels.size(); ++i) {
      if (inside(i)) squares += (voxels[i] - mean) * (voxels[i] - mean);
    }
    const double deviation = std::max(std::sqrt(squares / count), kSmallest);
    for (std::size_t i = 0; i < voxels.size(); ++i) {
      if (inside(i)) voxels[i] = static_cast<float>((voxels[i] - mean) / deviation);
    }
  } else if (scheme == "RescaleTo01Normalization") {
    const auto [low, high] = std::ranges::minmax(voxels);
    const double range = std::max(static_cast<double>(high) - low, kSmallest);
    const float base = low;
    for (float& v : voxels) v = static_cast<float>((static_cast<double>(v) - base) / range);
  } else if (scheme == "RGBTo01Normalization") {
    const auto [low, high] = std::ranges::minmax(voxels);
    NAS_CHECK(low >= 0 && high <= 255,
              "RGB channel: expected values in [0, 255], found [",
              low,
              ", ",
              high,
              "]");
    for (float& v : voxels) v /= 255.0f;
  } else {
    NAS_CHECK(scheme == "NoNormalization",
              "unknown normalisation \"",
              scheme,
              "\": expected CT-, ZScore-, No-, RescaleTo01- or RGBTo01Normalization");
  }
}

Json to_json(const IntensityProperties& p) {
  return {{"mean", p.mean},
          {"median", p.median},
          {"std", p.std},
          {"min", p.min},
          {"max", p.max},
          {"percentile_99_5", p.percentile_99_5},
          {"percentile_00_5", p.percentile_00_5}};
}

IntensityProperties intensity_from_json(const Json& value, const std::string& where) {
  const JsonReader reader(value, where);
  return {.mean = reader.at("mean").number(),
          .median = reader.at("median").number(),
          .std = reader.at("std").number(),
          .min = reader.at("min").number(),
          .max = reader.at("max").number(),
          .percentile_00_5 = reader.at("percentile_00_5").number(),
          .percentile_99_5 = reader.at("percentile_99_5").number()};
}

}  // namespace nas
