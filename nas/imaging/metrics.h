// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "nas/core/json.h"
#include "nas/imaging/label_scheme.h"
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
/// A row of it. \throws Error(Usage) naming `where`, the known names and the nearest.
const MetricInfo& metric_named(const std::string& name, const std::string& where);

struct CaseMetrics {
  std::string id;
  std::vector<ClassMetrics> classes;  // foreground classes or regions: index 0 is names[1]
};

/// The one mean of a metric over cases and classes, nnU-Net's: of each class over the cases that
/// have a value (a class neither there nor predicted has none), then over the classes that have
/// one. The same bits in whatever order the values come. Source: nnU-Net 2,
/// evaluation/evaluate_predictions.py; where a class never occurs its mean is NaN, ours leaves the
/// class out.
class ForegroundMean {
 public:
  explicit ForegroundMean(std::size_t classes) : values_(classes) {}
  void add(std::size_t class_index, const std::optional<double>& value);
  std::optional<double> of_class(std::size_t class_index) const;
  std::optional<double> value() const;  // absent: not scored

 private:
  std::vector<std::vector<double>> values_;  // [class]
};

struct MetricMeans {
  std::vector<ClassMetrics> classes;  // over cases; the voxel counts stay 0
  ClassMetrics foreground;            // over the classes of `classes`
};
/// ForegroundMean of every metric. What train, search and evaluate call the Dice of a network is
/// `foreground.dice`.
MetricMeans mean_metrics(std::span<const CaseMetrics> cases);

/// The mean over foreground as a score, of which more is better: a distance counts negative. Absent:
/// not scored.
std::optional<double> score_by(const MetricInfo& metric, const MetricMeans& means);

/// Dice for people: "0.9508", or "not scored".
std::string dice_text(const std::optional<double>& dice);

struct MetricOptions {
  double nsd_tolerance_mm = 1;
  bool distances = true;  // false: Dice only (fast)
  // Where exactly one mask is empty, distances are the grid's diagonal instead of absent: networks
  // that are ranked by a distance must not gain by finding nothing.
  bool missing_is_far = false;
};

/// \param prediction, reference label maps on one grid. Voxels that the reference leaves out
/// (LabelScheme::ignore_label) belong to nothing in either map. \returns metrics of
/// labels.names[1], [2], ...
CaseMetrics compute_metrics(const LabelMap& prediction,
                            const LabelMap& reference,
                            const LabelScheme& labels,
                            const MetricOptions& options = {});
/// The same for labels 1..classes.
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

/// A case that should have been scored.
struct UnscoredCase {
  std::string id, reason;
  bool missing = false;  // there is no prediction; otherwise scoring failed
};

/// metrics.json of docs/formats.md: the cases, mean_metrics() of them, and the cases that are not
/// among them. Absent values are null.
Json metrics_json(const std::vector<CaseMetrics>& cases,
                  const std::vector<std::string>& label_names,
                  const std::vector<UnscoredCase>& unscored = {});

/// The cases of such a JSON; `common_voxels` is not in it and stays 0. \throws Error(Input) naming
/// `where` and the key.
std::vector<CaseMetrics> case_metrics_from_json(const Json& value, const std::string& where);

}  // namespace nas
