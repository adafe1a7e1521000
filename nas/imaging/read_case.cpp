// SPDX-License-Identifier: Apache-2.0
#include <optional>
#include <utility>

#include "nas/core/error.h"
#include "nas/imaging/case_check.h"
#include "nas/imaging/dataset.h"

namespace nas {

namespace fs = std::filesystem;

Image read_case_image(const DataSet& data, const CaseFiles& files) {
  NAS_CHECK(!files.images.empty(), "case ", files.id, ": expected image files, found none");
  CaseFiles images = files;
  images.label.clear();
  stop_at_fatal(check_case_headers(data, images).findings, data.folder);
  std::optional<Image> image;
  for (const fs::path& file : files.images) {
    std::vector<Finding> findings;
    std::optional<Image> next = read_image_file(files, file, findings);
    stop_at_fatal(findings, data.folder);
    if (!image) {
      image = std::move(next);
      image->voxels.reserve(image->voxels.size() * files.images.size());
      continue;
    }
    image->voxels.insert(image->voxels.end(), next->voxels.begin(), next->voxels.end());
    image->channels += next->channels;
  }
  stop_at_fatal(check_image(files, *image), data.folder);
  return std::move(*image);
}

LabelMap read_case_label(const DataSet& data, const CaseFiles& files) {
  NAS_CHECK(!files.label.empty(),
            "case ",
            files.id,
            ": expected a label file, found none (a test case?)");
  std::vector<Finding> findings = check_case_headers(data, files).findings;
  stop_at_fatal(findings, data.folder);
  std::optional<LabelMap> label = read_label_file(files, findings);
  stop_at_fatal(findings, data.folder);
  stop_at_fatal(check_label(data, files, count_labels(*label)), data.folder);
  return std::move(*label);
}

}  // namespace nas
