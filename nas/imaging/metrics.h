// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "nas/core/json.h"
#include "nas/imaging/volume.h"

namespace nas {

/// Metrics of one class in one case. Distances in mm. Empty masks: all are absent (nullopt) if both
/// masks are empty; if exactly one is empty, dice is 0 and nsd 0, distances are absent.
struct ClassMetrics {
  std::optional<double> dice;   // 2 |P and R| / (|P| + |R|)
  std::optional<double> hd_mm;  // Hausdorff distance of the surfaces: the larger of both directions
  std::optional<double> hd95_mm;  // its 95th percentile: the larger of both directions' percentiles
  std::optional<double>
      nsd;  // share of surface voxels of both within the tolerance of the other surface
  std::optional<double> assd_mm;  // mean distance of surface voxels of both to the other surface
  std::int64_t predicted_voxels = 0, reference_voxels = 0, common_voxels = 0;
};

/// What is known of a metric; everything that lists metrics (JSON, tables) reads `metric_table`.
struct MetricInfo {
  const char* name;   // key in JSON: "hd95_mm"
  const char* title;  // column heading: "HD95 mm"
  bool higher_is_better;
  std::optional<double> ClassMetrics::*value;
};
std::span<const MetricInfo> metric_table();

struct CaseMetrics {
  std::string id;
  std::vector<ClassMetrics> classes;  // foreground classes: index 0 is label 1
  double mean_dice() const;           // over classes where dice is present; 1 if none is
};

struct MetricOptions {
  double nsd_tolerance_mm = 1;
  bool distances = true;  // false: Dice only (fast)
};

/// \param prediction, reference label maps on one grid. \param classes foreground classes
/// (labels 1..classes).
CaseMetrics compute_metrics(const LabelMap& prediction,
                            const LabelMap& reference,
                            std::int64_t classes,
                            const MetricOptions& options = {});

/// Exact squared Euclidean distance in mm^2 of every voxel to the nearest voxel where `mask` is set
/// (0 there); infinity if none is. Source: Felzenszwalb and Huttenlocher, "Distance transforms of
/// sampled functions", 2012.
std::vector<float> squared_distance_transform(const std::vector<std::uint8_t>& mask,
                                              const Extent3& shape,
                                              const Vec3& spacing_mm);

/// {"cases":[{"id","classes":[{"label","dice","hd95_mm",...,"predicted_voxels","reference_voxels"}]}],
///  "mean":[{"label","dice",...}], "foreground_mean":{"dice",...}}
/// Means are over the cases in which a metric is present; the foreground mean is over the classes'
/// means. Absent: null.
Json metrics_json(const std::vector<CaseMetrics>& cases,
                  const std::vector<std::string>& label_names);

/// The cases of such a JSON; `common_voxels` is not in it and stays 0. \throws Error(Input) naming
/// `where` and the key.
std::vector<CaseMetrics> case_metrics_from_json(const Json& value, const std::string& where);

}  // namespace nas
