// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "nas/imaging/dataset.h"
#include "nas/imaging/finding.h"
#include "nas/imaging/volume.h"

/// The one check of the files of a case. Doctor prints what it finds; plan, train, search and
/// predict stop at what is fatal, in the same words. What stands in the files: voxel_check.h; what
/// cases say together: data_set_check.h.
namespace nas {

/// What the headers of one case say.
struct CaseHeaders {
  std::optional<Geometry> geometry;  // of the first readable image
  std::vector<Turn> image_turns;     // of each image file onto the first, by its affine
  Turn label_turn;                   // of the label onto the first image
  bool images_fit = true;            // all there, readable, on one grid, as many channels as named
  bool label_fits = false;           // there and readable, on whatever grid
  std::vector<Finding> findings;
};
/// Reads headers only. Files are there and readable; images have the channels that dataset.json
/// names; image, channels and label lie on one grid: shape, spacing, origin and direction. Grids
/// that differ by more than kGridTolerance are fatal between channels, and where the label's
/// spacing differs, unless `data.accept_misaligned`; a label that lies elsewhere is a warning. A
/// file stored in another axis order is turned first; if the grids then still differ it is fatal.
CaseHeaders check_case_headers(const DataSet& data, const CaseFiles& files);

/// A file of a case, read; nothing, and a fatal finding, if it is missing, damaged or too large.
std::optional<Image> read_image_file(const CaseFiles& files,
                                     const std::filesystem::path& file,
                                     std::vector<Finding>& findings);
std::optional<LabelMap> read_label_file(const CaseFiles& files, std::vector<Finding>& findings);

/// "1 x 1 x 2.5", mm.
std::string mm_text(const Vec3& v);

}  // namespace nas
