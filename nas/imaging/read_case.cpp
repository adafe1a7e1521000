// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/log.h"
#include "nas/imaging/case_headers.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/nifti.h"
#include "nas/imaging/voxel_check.h"

namespace nas {

namespace fs = std::filesystem;

OrientationChoice choose_orientation(const DataSet& data, const std::string& asked) {
  const std::string codes = asked.empty() ? "" : parse_axis_codes(asked, "--orientation");
  std::map<std::string, std::int64_t> cases;
  std::int64_t unsaid = 0;
  for (const CaseFiles& files : data.training) {
    NAS_CHECK(!files.images.empty(), "case ", files.id, ": expected image files, found none");
    const Geometry grid = read_nifti_header(files.images.front()).geometry;
    ++cases[axis_codes(grid)];
    if (!grid.oriented()) ++unsaid;
  }
  return choose_orientation(std::move(cases), unsaid, codes);
}

void use_orientation(DataSet& data, const std::string& asked) {
  const OrientationChoice choice = choose_orientation(data, asked);
  data.orientation = choice.codes;
  const bool partly =
      choice.unsaid > 0 && choice.unsaid < static_cast<std::int64_t>(data.training.size());
  if (partly) {
    log_warning("orientation ", to_text(choice));
  } else if (choice.cases.size() > 1 || !choice.cases.contains(choice.codes)) {
    log_info("orientation ", to_text(choice));
  }
}

Image read_case_image(const DataSet& data, const CaseFiles& files) {
  NAS_CHECK(!files.images.empty(), "case ", files.id, ": expected image files, found none");
  CaseFiles images = files;
  images.label.clear();
  const CaseHeaders headers = check_case_headers(data, images);
  stop_at_fatal(headers.findings, data.folder);
  std::optional<Image> image;
  for (std::size_t i = 0; i < files.images.size(); ++i) {
    std::vector<Finding> findings;
    std::optional<Image> next = read_image_file(files, files.images[i], findings);
    stop_at_fatal(findings, data.folder);
    next = turned(std::move(*next), headers.image_turns[i]);
    if (!image) {
      image = std::move(next);
      image->voxels.reserve(image->voxels.size() * files.images.size());
      continue;
    }
    image->voxels.insert(image->voxels.end(), next->voxels.begin(), next->voxels.end());
    image->channels += next->channels;
  }
  stop_at_fatal(check_image(files, *image), data.folder);
  const Turn turn = turn_to(image->geometry, data.orientation);
  return turned(std::move(*image), turn);
}

LabelMap read_case_label(const DataSet& data, const CaseFiles& files) {
  NAS_CHECK(!files.label.empty(),
            "case ",
            files.id,
            ": expected a label file, found none (a test case?)");
  const CaseHeaders headers = check_case_headers(data, files);
  stop_at_fatal(headers.findings, data.folder);
  std::vector<Finding> findings;
  std::optional<LabelMap> label = read_label_file(files, findings);
  stop_at_fatal(findings, data.folder);
  stop_at_fatal(check_label(data, files, count_labels(*label)), data.folder);
  NAS_CHECK(headers.geometry, "case ", files.id, ": expected image files, found none");
  return turned(std::move(*label),
                combined(headers.label_turn, turn_to(*headers.geometry, data.orientation)));
}

}  // namespace nas
