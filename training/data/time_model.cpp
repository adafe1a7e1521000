// SPDX-License-Identifier: Apache-2.0
#include "training/data/time_model.h"

#include <algorithm>
#include <iterator>

#include "training/data/sliding_window.h"

namespace nas {

ScoringWork scoring_work(const CaseCache& cache,
                         const std::vector<std::string>& ids,
                         const Extent3& tile) {
  ScoringWork work;
  for (const std::string& id : ids) {
    const Extent3& shape = cache.find(id).shape;
    Extent3 padded{};
    for (std::size_t a = 0; a < 3; ++a) padded[a] = std::max(shape[a], tile[a]);
    double windows = 1;
    for (const auto& axis : window_starts(padded, tile, kWindowStep)) {
      windows *= static_cast<double>(axis.size());
    }
    work.windows += windows;
    work.voxels += static_cast<double>(volume(padded));
    work.cases += 1;
  }
  return work;
}

double inner_scoring_seconds(const ScoringWork& inner, double forward_seconds) {
  return kInnerPerForward * (kStartSeconds + inner.windows * forward_seconds);
}

double final_scoring_seconds(const ScoringWork& inner,
                             const ScoringWork& held_out,
                             double forward_seconds,
                             double case_seconds) {
  return kHeldOutPerMeasured *
         (kStartSeconds + (inner.windows + held_out.windows) * forward_seconds +
          case_seconds * held_out.cases);
}

double unmeasured_scoring_seconds(const ScoringWork& held_out, double forward_seconds) {
  return kDeliverySeconds +
         kHeldOutPerEstimate * (held_out.windows * forward_seconds + kCaseSeconds * held_out.cases +
                                kVoxelSeconds * held_out.voxels);
}

double path_scoring_seconds(std::int64_t paths, std::int64_t windows, double forward_seconds) {
  return kPathPerForward * static_cast<double>(paths * windows) * forward_seconds;
}

double step_seconds_at_batch(const std::map<std::int64_t, double>& measured, std::int64_t batch) {
  const auto below = std::prev(measured.upper_bound(std::max(batch, measured.begin()->first)));
  return below->second * static_cast<double>(batch) / static_cast<double>(below->first);
}

std::map<std::int64_t, double> seconds_by_batch(const JsonReader& pairs) {
  std::map<std::int64_t, double> seconds;
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const JsonReader pair = pairs.at(i);
    seconds[pair.at(std::size_t{0}).integer(1, INT64_MAX)] = pair.at(1).number();
  }
  return seconds;
}

}  // namespace nas
