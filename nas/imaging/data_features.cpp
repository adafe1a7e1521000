// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/data_features.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "nas/core/error.h"

namespace nas {
namespace {

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

double log_of(std::int64_t count) {
  return std::log(static_cast<double>(std::max<std::int64_t>(count, 1)));
}

}  // namespace

std::vector<double> data_features(const Fingerprint& fingerprint,
                                  std::int64_t channels,
                                  std::int64_t classes,
                                  std::int64_t cases) {
  NAS_CHECK(!fingerprint.spacings.empty() && !fingerprint.shapes_after_crop.empty(),
            "data features: the fingerprint has no cases");
  std::vector<double> voxels, volumes, ratios;
  for (const Extent3& shape : fingerprint.shapes_after_crop)
    voxels.push_back(log_of(volume(shape)));
  for (const Vec3& spacing : fingerprint.spacings) {
    volumes.push_back(std::log(spacing[0] * spacing[1] * spacing[2]));
    ratios.push_back(std::log(std::ranges::max(spacing) / std::ranges::min(spacing)));
  }
  return {median(voxels),
          median(volumes),
          median(ratios),
          log_of(channels),
          log_of(classes),
          0.5 * log_of(cases)};
}

}  // namespace nas
