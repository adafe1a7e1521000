// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "nas/core/extent.h"
#include "nas/core/json.h"
#include "nas/imaging/intensity.h"

namespace nas {

struct DataSet;

/// What planning needs to know about the images of a data set: nnU-Net's fingerprint, axes D H W of
/// `orientation`.
struct Fingerprint {
  std::string orientation;     // axis codes; "": each case as its file is stored
  std::vector<Vec3> spacings;  // mm, per case
  std::vector<Extent3>
      shapes_after_crop;  // voxels of the bounding box of non-zero voxels, per case
  std::vector<IntensityProperties> intensity;  // per channel
  double median_relative_size_after_cropping =
      1;  // voxels after / before cropping, median over cases
  bool operator==(const Fingerprint&) const = default;
};

/// Reads every training case once, on `threads` threads (0: all). Like nnU-Net, the intensity
/// properties come from equally many foreground voxels (label > 0) of each case, drawn with
/// replacement so that small objects count as much as large ones; unlike nnU-Net (1e8 voxels over
/// the data set, NumPy's generator) they are 10,000 a case from Rng(1234).split("fingerprint",
/// case), so percentiles agree to sampling noise, not to the last digit. The result does not depend
/// on `threads`. \throws Error(Input) naming the case whose files are damaged, hold NaN or
/// infinity, or when no case has foreground.
Fingerprint compute_fingerprint(const DataSet& data, int threads = 0, bool show_progress = true);

/// nnU-Net's dataset_fingerprint.json, both ways, with "orientation" where it is known.
Json to_json(const Fingerprint& fingerprint);
Fingerprint fingerprint_from_json(const Json& value, const std::string& where);

}  // namespace nas
