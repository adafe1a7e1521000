// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/fingerprint.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/log.h"
#include "nas/core/progress.h"
#include "nas/core/rng.h"
#include "nas/core/threads.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/intensity.h"
#include "nas/imaging/voxel_check.h"

namespace nas {
namespace {

constexpr std::int64_t kSamplesPerCase = 10000;

struct CaseFacts {
  Vec3 spacing{1, 1, 1};
  Extent3 shape{0, 0, 0};
  double relative_size = 1;
  std::vector<std::vector<float>> foreground;  // per channel; empty without foreground
};

CaseFacts analyse_case(const DataSet& data, const CaseFiles& files, Rng rng) {
  const Image image = read_case_image(data, files);
  const LabelMap label = read_case_label(data, files);
  for (const Finding& finding : check_label_place(files, image, label)) {
    log_warning(sentence(finding));
  }
  const CroppedCase cropped = crop_to_nonzero(image, &label);
  CaseFacts facts;
  facts.spacing = image.geometry.spacing_mm;
  facts.shape = cropped.image.geometry.shape;
  facts.relative_size =
      static_cast<double>(volume(facts.shape)) / static_cast<double>(volume(image.geometry.shape));
  std::vector<std::size_t> inside;
  for (std::size_t i = 0; i < cropped.label.voxels.size(); ++i) {
    if (cropped.label.voxels[i] > 0) inside.push_back(i);
  }
  facts.foreground.resize(static_cast<std::size_t>(image.channels));
  if (inside.empty()) return facts;
  for (std::int64_t s = 0; s < kSamplesPerCase; ++s) {
    const std::size_t at =
        inside[static_cast<std::size_t>(rng.integer(0, static_cast<std::int64_t>(inside.size())))];
    for (std::int64_t c = 0; c < image.channels; ++c) {
      facts.foreground[static_cast<std::size_t>(c)].push_back(cropped.image.channel(c)[at]);
    }
  }
  return facts;
}

/// Linear interpolation between order statistics, as NumPy's default.
double percentile(const std::vector<float>& sorted, double percent) {
  const double at = static_cast<double>(sorted.size() - 1) * (percent / 100);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] +
         (static_cast<double>(sorted[above]) - sorted[below]) * (at - static_cast<double>(below));
}

IntensityProperties describe(std::vector<float> values) {
  std::ranges::sort(values);
  const auto count = static_cast<double>(values.size());
  double sum = 0, squares = 0;
  for (const float v : values) sum += v;
  const double mean = sum / count;
  for (const float v : values) squares += (v - mean) * (v - mean);
  return {.mean = mean,
          .median = percentile(values, 50),
          .std = std::sqrt(squares / count),
          .min = values.front(),
          .max = values.back(),
          .percentile_00_5 = percentile(values, 0.5),
          .percentile_99_5 = percentile(values, 99.5)};
}

}  // namespace

Fingerprint compute_fingerprint(const DataSet& data, int threads, bool show_progress) {
  NAS_CHECK(!data.training.empty(),
            "data set ",
            data.name,
            ": no training cases to take a fingerprint of");
  const Rng rng = Rng(1234).split("fingerprint");
  std::vector<CaseFacts> facts(data.training.size());
  std::unique_ptr<Progress> progress;
  if (show_progress) {
    progress =
        std::make_unique<Progress>("fingerprint", static_cast<std::int64_t>(facts.size()), "cases");
  }
  parallel_for(
      static_cast<std::int64_t>(facts.size()),
      [&](std::int64_t i) {
        const auto index = static_cast<std::size_t>(i);
        facts[index] = analyse_case(data, data.training[index], rng.split("case", i));
        if (progress) progress->advance();
      },
      threads);
  if (progress) progress->finish();

  Fingerprint result;
  result.orientation = data.orientation;
  std::vector<double> sizes;
  for (const CaseFacts& f : facts) {
    result.spacings.push_back(f.spacing);
    result.shapes_after_crop.push_back(f.shape);
    sizes.push_back(f.relative_size);
  }
  std::ranges::sort(sizes);
  const std::size_t middle = sizes.size() / 2;
  result.median_relative_size_after_cropping =
      sizes.size() % 2 == 1 ? sizes[middle] : (sizes[middle - 1] + sizes[middle]) / 2;

  for (std::size_t c = 0; c < data.channel_names.size(); ++c) {
    std::vector<float> values;
    for (const CaseFacts& f : facts) {
      if (c < f.foreground.size())
        values.insert(values.end(), f.foreground[c].begin(), f.foreground[c].end());
    }
    NAS_CHECK(!values.empty(),
              "data set ",
              data.name,
              ": no training label has a voxel > 0 where the image is not 0; ",
              "there is nothing to learn");
    result.intensity.push_back(describe(std::move(values)));
  }
  return result;
}

Json to_json(const Fingerprint& fingerprint) {
  Json channels = Json::object();
  for (std::size_t c = 0; c < fingerprint.intensity.size(); ++c) {
    channels[std::to_string(c)] = to_json(fingerprint.intensity[c]);
  }
  Json json{
      {"spacings", fingerprint.spacings},
      {"shapes_after_crop", fingerprint.shapes_after_crop},
      {"foreground_intensity_properties_per_channel", std::move(channels)},
      {"median_relative_size_after_cropping", fingerprint.median_relative_size_after_cropping}};
  write_orientation(json, fingerprint.orientation);
  return json;
}

Fingerprint fingerprint_from_json(const Json& value, const std::string& where) {
  const JsonReader reader(value, where);
  Fingerprint result;
  result.orientation = read_orientation(reader);
  const JsonReader spacings = reader.at("spacings"), shapes = reader.at("shapes_after_crop");
  NAS_CHECK(spacings.size() == shapes.size() && spacings.size() >= 1,
            where,
            ": spacings and shapes_after_crop: expected one entry per case in both, found ",
            spacings.size(),
            " and ",
            shapes.size());
  for (std::size_t i = 0; i < spacings.size(); ++i) {
    const std::vector<double> spacing = spacings.at(i).numbers();
    const std::vector<std::int64_t> shape = shapes.at(i).integers();
    NAS_CHECK(spacing.size() == 3 && shape.size() == 3,
              where,
              ": case ",
              i,
              ": expected three spacings and three sizes, found ",
              spacing.size(),
              " and ",
              shape.size());
    result.spacings.push_back({spacing[0], spacing[1], spacing[2]});
    result.shapes_after_crop.push_back({shape[0], shape[1], shape[2]});
  }
  const JsonReader channels = reader.at("foreground_intensity_properties_per_channel");
  for (std::size_t c = 0; c < channels.size(); ++c) {
    const JsonReader channel = channels.at(std::to_string(c));
    result.intensity.push_back(intensity_from_json(channel.json(), channel.where()));
  }
  result.median_relative_size_after_cropping =
      reader.at("median_relative_size_after_cropping").number();
  return result;
}

}  // namespace nas
