// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nas/core/json.h"
#include "training/imaging/volume.h"

namespace nas {

/// Metrics of one class in one case. Distances in mm. Empty masks: dice and distances are absent (nullopt) if both masks
/// are empty; if exactly one is empty, dice is 0 and nsd 0, hd and hd95 are absent.
struct ClassMetrics {
  std::optional<double> dice, hd_mm, hd95_mm, nsd;
  std::int64_t predicted_voxels = 0, reference_voxels = 0, common_voxels = 0;
};

struct CaseMetrics {
  std::string id;
  std::vector<ClassMetrics> classes;   // foreground classes: index 0 is label 1
  double mean_dice() const;            // over classes where dice is present; 1 if none is
};

struct MetricOptions {
  double nsd_tolerance_mm = 1;
  bool distances = true;               // false: Dice only (fast)
};

/// \param prediction, reference label maps on one grid. \param classes foreground classes (labels 1..classes).
CaseMetrics compute_metrics(const LabelMap& prediction, const LabelMap& reference, std::int64_t classes,
                            const MetricOptions& options = {});

/// Exact squared Euclidean distance in mm^2 of every voxel to the nearest voxel where `mask` is set (0 there);
/// infinity if none is. Source: Felzenszwalb and Huttenlocher, "Distance transforms of sampled functions", 2012.
std::vector<float> squared_distance_transform(const std::vector<std::uint8_t>& mask, const Extent3& shape,
                                              const Vec3& spacing_mm);

/// {"cases":[{"id","classes":[{"dice","hd_mm","hd95_mm","nsd"}]}],"mean":[...],"foreground_mean":{...}}
Json metrics_json(const std::vector<CaseMetrics>& cases, const std::vector<std::string>& label_names);

}  // namespace nas
