// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/voxel_check.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <limits>
#include <string>

#include "nas/core/error.h"

namespace nas {

namespace fs = std::filesystem;

std::vector<Finding> check_image(const CaseFiles& files, const Image& image) {
  std::vector<Finding> findings;
  const bool file_each = static_cast<std::int64_t>(files.images.size()) == image.channels;
  std::int64_t constant = 0;
  fs::path constant_file;
  for (std::int64_t c = 0; c < image.channels; ++c) {
    const fs::path& file = files.images.at(file_each ? static_cast<std::size_t>(c) : 0);
    std::int64_t bad = 0;
    float low = std::numeric_limits<float>::infinity(), high = -low;
    for (const float v : image.channel(c)) {
      if (!std::isfinite(v)) ++bad;
      low = v < low ? v : low;
      high = v > high ? v : high;
    }
    if (bad > 0) {
      findings.push_back({Severity::Fatal,
                          "non-finite",
                          files.id,
                          file,
                          "finite values",
                          concat_text(bad, " NaN or infinite voxels in channel ", c),
                          "replace them, e.g. by the image's minimum"});
    } else if (low == high && ++constant == 1) {
      constant_file = file;
    }
  }
  if (constant > 0) {
    const bool all = constant == image.channels;
    findings.push_back(
        {all ? Severity::Fatal : Severity::Warning,
         "constant-image",
         files.id,
         constant_file,
         "an image with contrast",
         all ? std::string("one value everywhere")
             : concat_text(
                   "one value everywhere in ", constant, " of ", image.channels, " channels"),
         all ? "leave the case out or restore the image"
             : "check that the channel is not missing"});
  }
  return findings;
}

std::vector<std::int64_t> count_labels(const LabelMap& label) {
  std::vector<std::int64_t> counts(65536, 0);
  for (const std::int16_t v : label.voxels) ++counts[static_cast<std::size_t>(v + 32768)];
  return counts;
}

std::vector<Finding> check_label(const DataSet& data,
                                 const CaseFiles& files,
                                 const std::vector<std::int64_t>& counts) {
  constexpr std::int64_t kNamed = 5;
  std::vector<Finding> findings;
  const auto classes = data.labels.values();
  std::string unknown;
  std::int64_t kinds = 0, foreground = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const std::int64_t value = static_cast<std::int64_t>(i) - 32768;
    if (counts[i] == 0 || value == 0) continue;
    ++foreground;
    if (value > 0 && value < classes) continue;
    if (++kinds <= kNamed) {
      unknown += concat_text(unknown.empty() ? "" : ", ", value, " (", counts[i], " voxels)");
    }
  }
  if (kinds > 0) {
    findings.push_back(
        {Severity::Fatal,
         "unknown-label",
         files.id,
         files.label,
         concat_text("labels 0 to ", classes - 1, " of dataset.json"),
         kinds > kNamed ? concat_text(unknown, " and ", kinds - kNamed, " more") : unknown,
         "name them in dataset.json or correct the label map"});
  }
  if (foreground == 0) {
    findings.push_back({Severity::Note,
                        "empty-label",
                        files.id,
                        files.label,
                        "some foreground",
                        "background only",
                        "fine if the case truly has none"});
  }
  return findings;
}

std::vector<Finding> check_label_place(const CaseFiles& files,
                                       const Image& image,
                                       const LabelMap& label) {
  const Extent3& shape = image.geometry.shape;
  const auto plane = static_cast<std::size_t>(shape[1] * shape[2]);
  const auto row = static_cast<std::size_t>(shape[2]);
  const std::size_t voxels = label.voxels.size();
  std::vector<bool> filled(voxels, false);
  for (std::int64_t c = 0; c < image.channels; ++c) {
    const auto values = image.channel(c);
    for (std::size_t i = 0; i < voxels; ++i) {
      if (values[i] != 0) filled[i] = true;
    }
  }
  std::array<std::size_t, 3> low{voxels, voxels, voxels}, high{0, 0, 0};
  std::int64_t bare = 0, labelled = 0;  // bare: labelled where the image is 0
  const auto place = [&](std::size_t i) {
    return std::array<std::size_t, 3>{i / plane, i % plane / row, i % row};
  };
  for (std::size_t i = 0; i < voxels; ++i) {
    if (label.voxels[i] > 0) {
      ++labelled;
      if (!filled[i]) ++bare;
    }
    if (!filled[i]) continue;
    const auto at = place(i);
    for (std::size_t a = 0; a < 3; ++a) {
      low[a] = std::min(low[a], at[a]);
      high[a] = std::max(high[a], at[a]);
    }
  }
  if (bare == 0 || low[0] == voxels) return {};  // an image of zeros is kept whole
  std::int64_t lost = 0;
  for (std::size_t i = 0; i < voxels; ++i) {
    if (label.voxels[i] <= 0 || filled[i]) continue;
    const auto at = place(i);
    bool inside = true;
    for (std::size_t a = 0; a < 3; ++a) inside = inside && at[a] >= low[a] && at[a] <= high[a];
    if (!inside) ++lost;
  }
  if (lost == 0) return {};
  return {{Severity::Warning,
           "label-outside",
           files.id,
           files.label,
           "labels inside the box of the image's non-zero voxels",
           concat_text(lost, " of ", labelled, " labelled voxels outside it"),
           "these can be neither learned nor predicted; correct the label, or the image if it was "
           "masked too tightly"}};
}

}  // namespace nas
