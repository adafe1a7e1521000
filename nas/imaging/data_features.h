// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "nas/imaging/fingerprint.h"

namespace nas {

/// What data sets are compared by, where one run is to tell what may be good for another
/// (nas/search/prior.h). Natural logarithms, so that 1 is a factor of e: median voxels of a case
/// (cropped), median volume of a voxel (mm3), median ratio of the largest to the smallest spacing,
/// input channels, classes, and half that of the training cases, which matters less. Ours.
/// \param classes background included. \throws Error(Input) if the fingerprint has no cases.
std::vector<double> data_features(const Fingerprint& fingerprint,
                                  std::int64_t channels,
                                  std::int64_t classes,
                                  std::int64_t cases);

}  // namespace nas
