// SPDX-License-Identifier: Apache-2.0
#include "training/data/preprocessing.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/imaging/intensity.h"
#include "nas/imaging/resample.h"

namespace nas {
namespace {

constexpr const char* kFormat = "voxnas.preprocessing";
constexpr std::int64_t kVersion = 2;  // 1: before regions

/// The planned grid for an image; its size is bounded before memory is taken.
Extent3 planned_shape(const Extent3& shape,
                      const Vec3& spacing,
                      const Preprocessing& preprocessing) {
  const std::string problem = resampling_problem(shape, spacing, preprocessing.spacing);
  NAS_CHECK(problem.empty(), "at the planned spacing ", problem, "; is the voxel size right?");
  return resampled_shape(shape, spacing, preprocessing.spacing);
}

std::array<int, 3> permutation(const JsonReader& reader) {
  const std::vector<std::int64_t> values = reader.integers();
  std::vector<std::int64_t> sorted = values;
  std::sort(sorted.begin(), sorted.end());
  NAS_CHECK(sorted == (std::vector<std::int64_t>{0, 1, 2}),
            reader.where(),
            ": expected a permutation of [0, 1, 2], found ",
            reader.json().dump());
  return {static_cast<int>(values[0]), static_cast<int>(values[1]), static_cast<int>(values[2])};
}

template <class T>
std::array<T, 3> triple(const JsonReader& reader, const std::vector<T>& values) {
  NAS_CHECK(
      values.size() == 3, reader.where(), ": expected three numbers, found ", reader.json().dump());
  for (const T& value : values) {
    NAS_CHECK(
        value > 0, reader.where(), ": expected numbers above 0, found ", reader.json().dump());
  }
  return {values[0], values[1], values[2]};
}

}  // namespace

Preprocessing make_preprocessing(const Plan& plan,
                                 const std::string& configuration,
                                 const std::vector<std::string>& channel_names,
                                 const LabelScheme& labels) {
  const Configuration& chosen = plan.configuration(configuration);
  NAS_CHECK(channel_names.size() == chosen.normalization.size(),
            "plan ",
            plan.dataset_name,
            ": plans for ",
            chosen.normalization.size(),
            " channels, the data set has ",
            channel_names.size());
  NAS_CHECK(labels.names.size() >= 2,
            "data set ",
            plan.dataset_name,
            ": expected background and at least one more label, found ",
            labels.names.size());
  Preprocessing result;
  result.configuration = chosen.name;
  result.orientation = plan.orientation;
  result.transpose_forward = plan.transpose_forward;
  result.transpose_backward = plan.transpose_backward;
  result.spacing = chosen.spacing;
  result.patch = chosen.patch;
  result.normalization = chosen.normalization;
  result.use_mask_for_norm = chosen.use_mask_for_norm;
  result.use_mask_for_norm.resize(result.normalization.size(), false);
  result.intensity = plan.intensity;
  result.intensity.resize(result.normalization.size());
  result.channel_names = channel_names;
  result.labels = labels;
  return result;
}

Json to_json(const Preprocessing& preprocessing) {
  Json intensity = Json::array();
  for (const IntensityProperties& channel : preprocessing.intensity)
    intensity.push_back(to_json(channel));
  // Programs that know classes only must refuse regions, whose outputs mean something else.
  Json json{{"format", kFormat},
            {"version", preprocessing.labels.has_regions() ? kVersion : 1},
            {"configuration", preprocessing.configuration},
            {"transpose_forward", preprocessing.transpose_forward},
            {"transpose_backward", preprocessing.transpose_backward},
            {"spacing", preprocessing.spacing},
            {"patch", preprocessing.patch},
            {"normalization", preprocessing.normalization},
            {"use_mask_for_norm", preprocessing.use_mask_for_norm},
            {"intensity", intensity},
            {"channel_names", preprocessing.channel_names}};
  add_label_scheme(json, preprocessing.labels);
  write_orientation(json, preprocessing.orientation);
  return json;
}

Preprocessing preprocessing_from_json(const Json& value, const std::string& where) {
  const JsonReader reader(value, where);
  NAS_CHECK(reader.at("format").text() == kFormat,
            where,
            ": format: expected ",
            kFormat,
            ", found ",
            reader.at("format").text());
  NAS_CHECK(reader.at("version").integer() >= 1 && reader.at("version").integer() <= kVersion,
            where,
            ": version: this program reads versions 1 to ",
            kVersion,
            ", found ",
            reader.at("version").integer());
  Preprocessing result;
  result.configuration = reader.at("configuration").text();
  result.orientation = read_orientation(reader);
  result.transpose_forward = permutation(reader.at("transpose_forward"));
  result.transpose_backward = permutation(reader.at("transpose_backward"));
  for (std::size_t i = 0; i < 3; ++i) {
    NAS_CHECK(result.transpose_backward[static_cast<std::size_t>(result.transpose_forward[i])] ==
                  static_cast<int>(i),
              where,
              ": transpose_backward: expected the inverse of transpose_forward");
  }
  result.spacing = triple<double>(reader.at("spacing"), reader.at("spacing").numbers());
  result.patch = triple<std::int64_t>(reader.at("patch"), reader.at("patch").integers());
  for (const std::int64_t edge : result.patch) {
    NAS_CHECK(edge <= 4096, where, ": patch: expected edges of at most 4096, found ", edge);
  }
  result.normalization = reader.at("normalization").texts();
  const std::size_t channels = result.normalization.size();
  NAS_CHECK(channels >= 1, where, ": normalization: expected at least one channel");
  const auto check_count = [&](const char* key, std::size_t count) {
    NAS_CHECK(count == channels,
              where,
              ": ",
              key,
              ": expected one entry for each of ",
              channels,
              " channels, found ",
              count);
  };
  const JsonReader masks = reader.at("use_mask_for_norm");
  check_count("use_mask_for_norm", masks.size());
  for (std::size_t i = 0; i < channels; ++i)
    result.use_mask_for_norm.push_back(masks.at(i).boolean());
  const JsonReader intensity = reader.at("intensity");
  check_count("intensity", intensity.size());
  for (std::size_t i = 0; i < channels; ++i) {
    result.intensity.push_back(
        intensity_from_json(intensity.at(i).json(), intensity.at(i).where()));
  }
  result.channel_names = reader.at("channel_names").texts();
  check_count("channel_names", result.channel_names.size());
  result.labels = label_scheme_from_json(reader);
  return result;
}

Turn turn_to_network(const Geometry& image, const Preprocessing& preprocessing) {
  return combined(turn_to(image, preprocessing.orientation),
                  {.axis = preprocessing.transpose_forward, .reversed = {}});
}

Extent3 preprocessed_shape(const Geometry& geometry, const Preprocessing& preprocessing) {
  const Turn turn = turn_to_network(geometry, preprocessing);
  return planned_shape(
      turned_values(geometry.shape, turn), turned_values(geometry.spacing_mm, turn), preprocessing);
}

PreprocessedCase preprocess_case(const Image& image,
                                 const LabelMap* label,
                                 const Preprocessing& preprocessing,
                                 int threads) {
  const auto channels = static_cast<std::int64_t>(preprocessing.normalization.size());
  NAS_CHECK(image.channels == channels,
            "expected ",
            channels,
            " channels (the number the plan was made for), found ",
            image.channels);
  for (std::size_t i = 0; i < 3; ++i) {
    NAS_CHECK(image.geometry.shape[i] >= 1 && image.geometry.spacing_mm[i] > 0,
              "cannot preprocess an image of ",
              to_text(image.geometry.shape),
              " voxels with a spacing of ",
              image.geometry.spacing_mm[i],
              " mm");
  }
  for (const float value : image.voxels) {
    NAS_CHECK(std::isfinite(value), "the image holds NaN or infinity");
  }
  if (label != nullptr) {
    NAS_CHECK_KIND(Shape,
                   label->geometry.shape == image.geometry.shape,
                   "label of ",
                   to_text(label->geometry.shape),
                   " voxels for an image of ",
                   to_text(image.geometry.shape));
  }

  PreprocessedCase result;
  result.original = image.geometry;
  result.turn = turn_to_network(image.geometry, preprocessing);
  CroppedCase cropped;
  if (result.turn.is_identity()) {
    cropped = crop_to_nonzero(image, label);
  } else {
    const Image upright = turned(image, result.turn);
    if (label == nullptr) {
      cropped = crop_to_nonzero(upright, nullptr);
    } else {
      const LabelMap upright_label = turned(*label, result.turn);
      cropped = crop_to_nonzero(upright, &upright_label);
    }
  }
  result.crop_begin = cropped.begin;
  result.crop_shape = cropped.image.geometry.shape;

  const Vec3 spacing = result.original_spacing();
  const Extent3 shape = planned_shape(result.crop_shape, spacing, preprocessing);
  const int separate = separate_axis(spacing, preprocessing.spacing);
  const auto resampled_geometry = [&](Geometry geometry) {
    geometry.shape = shape;
    geometry.spacing_mm = preprocessing.spacing;
    return geometry;
  };

  result.image.geometry = resampled_geometry(image.geometry);
  result.image.channels = channels;
  const bool same_shape = shape == result.crop_shape;
  if (!same_shape) result.image.voxels.resize(static_cast<std::size_t>(channels * volume(shape)));
  for (std::int64_t c = 0; c < channels; ++c) {
    const auto index = static_cast<std::size_t>(c);
    const std::span<float> source = cropped.image.channel(c);
    normalize_channel(source,
                      preprocessing.normalization[index],
                      preprocessing.use_mask_for_norm[index],
                      cropped.label.voxels,
                      preprocessing.intensity[index]);
    if (same_shape) continue;
    const std::vector<float> resampled =
        resample_image(source, result.crop_shape, shape, separate, threads);
    std::copy(resampled.begin(), resampled.end(), result.image.channel(c).begin());
  }
  if (same_shape) result.image.voxels = std::move(cropped.image.voxels);
  if (label != nullptr) {
    result.label.geometry = result.image.geometry;
    result.label.voxels =
        same_shape
            ? std::move(cropped.label.voxels)
            : resample_labels(cropped.label.voxels, result.crop_shape, shape, separate, threads);
  }
  return result;
}

}  // namespace nas
