// SPDX-License-Identifier: Apache-2.0
#include "training/data/patches.h"

#include <algorithm>
#include <cmath>

#include "nas/core/error.h"

namespace nas {

bool is_foreground_sample(std::int64_t batch, std::int64_t sample, double foreground_fraction) {
  // nearbyint rounds half to even, as Python's round does.
  const double uniform = std::nearbyint(static_cast<double>(batch) * (1.0 - foreground_fraction));
  return static_cast<double>(sample) >= uniform;
}

PatchChoice choose_patch(const std::vector<const CachedCase*>& cases,
                         const Extent3& patch,
                         std::int64_t batch,
                         std::int64_t sample,
                         double foreground_fraction,
                         Rng rng) {
  NAS_CHECK(!cases.empty(), "choose_patch: no cases to draw from");
  NAS_CHECK_KIND(Shape,
                 patch[0] > 0 && patch[1] > 0 && patch[2] > 0,
                 "choose_patch: patch must be at least 1x1x1 voxels, got ",
                 to_text(patch));
  NAS_CHECK_KIND(Shape,
                 sample >= 0 && sample < batch,
                 "choose_patch: expected a sample in [0, ",
                 batch,
                 "), got ",
                 sample);
  NAS_CHECK(foreground_fraction >= 0 && foreground_fraction <= 1,
            "choose_patch: expected a foreground fraction in [0, 1], got ",
            foreground_fraction);

  PatchChoice choice;
  choice.case_index = rng.split("case").integer(0, static_cast<std::int64_t>(cases.size()));
  const CachedCase& source = *cases[static_cast<std::size_t>(choice.case_index)];

  std::vector<std::size_t> present;
  for (std::size_t k = 1; k < source.class_locations.size(); ++k) {
    if (!source.class_locations[k].empty()) present.push_back(k);
  }
  if (!is_foreground_sample(batch, sample, foreground_fraction)) present.clear();
  // Only with an ignored label: what is known of the case.
  if (present.empty() && !source.class_locations.empty() && !source.class_locations[0].empty())
    present.push_back(0);
  choice.foreground = !present.empty();

  Extent3 centre{0, 0, 0};
  if (choice.foreground) {
    Rng place = rng.split("foreground");
    const auto k =
        static_cast<std::size_t>(place.integer(0, static_cast<std::int64_t>(present.size())));
    const std::vector<std::int64_t>& locations = source.class_locations[present[k]];
    const std::int64_t index = locations[static_cast<std::size_t>(
        place.integer(0, static_cast<std::int64_t>(locations.size())))];
    centre = {index / (source.shape[1] * source.shape[2]),
              index / source.shape[2] % source.shape[1],
              index % source.shape[2]};
  }

  Rng place = rng.split("place");
  for (std::size_t a = 0; a < 3; ++a) {
    const std::int64_t missing = std::max<std::int64_t>(0, patch[a] - source.shape[a]);
    const std::int64_t lowest = -((missing + 1) / 2);
    const std::int64_t highest = source.shape[a] + (missing + 1) / 2 - patch[a];
    choice.begin[a] = choice.foreground ? std::max(lowest, centre[a] - patch[a] / 2)
                                        : place.integer(lowest, highest + 1);
  }
  return choice;
}

}  // namespace nas
