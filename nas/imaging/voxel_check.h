// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "nas/imaging/dataset.h"
#include "nas/imaging/finding.h"
#include "nas/imaging/volume.h"

/// What the voxels of a case say against training on it; told and stopped at as case_headers.h.
namespace nas {

/// NaN and infinity; channels without contrast (fatal if no channel has any).
std::vector<Finding> check_image(const CaseFiles& files, const Image& image);
/// Values that dataset.json does not name (fatal); background only. Counts voxels by value, at
/// index value + 32768.
std::vector<Finding> check_label(const DataSet& data,
                                 const CaseFiles& files,
                                 const std::vector<std::int64_t>& counts);
std::vector<std::int64_t> count_labels(const LabelMap& label);
/// Labelled voxels outside the box of the image's non-zero voxels, which training and prediction
/// crop away. Both on one grid.
std::vector<Finding> check_label_place(const CaseFiles& files,
                                       const Image& image,
                                       const LabelMap& label);

}  // namespace nas
