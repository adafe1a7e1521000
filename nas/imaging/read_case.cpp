// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "nas/core/error.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/nifti.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

void check_same_grid(const Geometry& a,
                     const fs::path& file_a,
                     const Geometry& b,
                     const fs::path& file_b) {
  NAS_CHECK(a.shape == b.shape,
            file_b.string(),
            ": expected the shape of ",
            file_a.filename().string(),
            ", ",
            to_text(a.shape),
            " (D H W), found ",
            to_text(b.shape));
  for (std::size_t i = 0; i < 3; ++i) {
    NAS_CHECK(std::abs(a.spacing_mm[i] - b.spacing_mm[i]) <= 1e-3 * a.spacing_mm[i],
              file_b.string(),
              ": expected the spacing of ",
              file_a.filename().string(),
              ", ",
              a.spacing_mm[i],
              " mm along ",
              "DHW"[i],
              ", found ",
              b.spacing_mm[i]);
  }
}

}  // namespace

Image read_case_image(const DataSet& data, const CaseFiles& files) {
  NAS_CHECK(!files.images.empty(), "case ", files.id, ": expected image files, found none");
  Image image = read_nifti_image(files.images[0]);
  const auto expected = static_cast<std::int64_t>(data.channel_names.size());
  image.voxels.reserve(image.voxels.size() * files.images.size());
  for (std::size_t i = 1; i < files.images.size(); ++i) {
    const Image next = read_nifti_image(files.images[i]);
    check_same_grid(image.geometry, files.images[0], next.geometry, files.images[i]);
    image.voxels.insert(image.voxels.end(), next.voxels.begin(), next.voxels.end());
    image.channels += next.channels;
  }
  NAS_CHECK(image.channels == expected,
            files.images[0].string(),
            ": expected ",
            expected,
            " channels (",
            data.name,
            "/dataset.json), found ",
            image.channels);
  return image;
}

LabelMap read_case_label(const DataSet& data, const CaseFiles& files) {
  NAS_CHECK(!files.label.empty(),
            "case ",
            files.id,
            ": expected a label file, found none (a test case?)");
  LabelMap label = read_nifti_label(files.label);
  const auto classes = static_cast<std::int64_t>(data.label_names.size());
  for (const std::int16_t value : label.voxels) {
    NAS_CHECK(value >= 0 && value < classes,
              files.label.string(),
              ": expected labels 0 to ",
              classes - 1,
              " (dataset.json), found ",
              value);
  }
  return label;
}

}  // namespace nas
