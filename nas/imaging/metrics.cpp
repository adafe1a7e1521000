// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/metrics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <numeric>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/text.h"

namespace nas {
namespace {

constexpr auto kMetrics = std::to_array<MetricInfo>({
    {"dice", "Dice", true, &ClassMetrics::dice},
    {"hd95_mm", "HD95 mm", false, &ClassMetrics::hd95_mm},
    {"hd_mm", "HD mm", false, &ClassMetrics::hd_mm},
    {"nsd", "NSD", true, &ClassMetrics::nsd},
    {"assd_mm", "ASSD mm", false, &ClassMetrics::assd_mm},
});

constexpr float kFar = std::numeric_limits<float>::infinity();

/// Half-open box of voxels; empty until something is added.
struct Box {
  Extent3 begin{INT64_MAX, INT64_MAX, INT64_MAX}, end{0, 0, 0};
  void add(const Extent3& low, const Extent3& high) {
    for (std::size_t a = 0; a < 3; ++a) {
      begin[a] = std::min(begin[a], low[a]);
      end[a] = std::max(end[a], high[a]);
    }
  }
  Extent3 shape() const { return {end[0] - begin[0], end[1] - begin[1], end[2] - begin[2]}; }
};

/// One class of one label map inside a box.
struct Mask {
  Extent3 shape{0, 0, 0};
  std::vector<std::uint8_t> voxels;
};

/// What the values of a label map say: to which classes or regions a value belongs.
class Membership {
 public:
  explicit Membership(const LabelScheme& scheme)
      : lists_(static_cast<std::size_t>(scheme.labels())), ignore_(scheme.ignore_label()) {
    for (std::size_t value = 0; value < lists_.size(); ++value) {
      if (!scheme.has_regions()) {
        if (value > 0) lists_[value].push_back(value - 1);
        continue;
      }
      for (std::int64_t k = 0; k < scheme.foreground(); ++k) {
        if (scheme.holds(k, static_cast<std::int64_t>(value)))
          lists_[value].push_back(static_cast<std::size_t>(k));
      }
    }
  }
  bool ignored(std::int16_t reference) const { return ignore_ > 0 && reference == ignore_; }
  /// Ascending; of a value without a meaning none.
  const std::vector<std::size_t>& of(std::int16_t value) const {
    static const std::vector<std::size_t> nothing;
    const auto at = static_cast<std::size_t>(value);
    return value >= 0 && at < lists_.size() ? lists_[at] : nothing;
  }
  bool holds(std::size_t k, std::int16_t value) const {
    return std::ranges::binary_search(of(value), k);
  }

 private:
  std::vector<std::vector<std::size_t>> lists_;  // [value]
  std::int64_t ignore_;
};

/// Class or region k of `labels`, without the voxels that `reference` leaves out.
Mask extract(const LabelMap& labels,
             const LabelMap& reference,
             const Membership& membership,
             std::size_t k,
             const Box& box) {
  const Extent3& full = labels.geometry.shape;
  Mask mask{box.shape(), {}};
  mask.voxels.resize(static_cast<std::size_t>(volume(mask.shape)));
  std::uint8_t* target = mask.voxels.data();
  for (std::int64_t z = box.begin[0]; z < box.end[0]; ++z) {
    for (std::int64_t y = box.begin[1]; y < box.end[1]; ++y) {
      const std::int64_t row = (z * full[1] + y) * full[2] + box.begin[2];
      for (std::int64_t x = row; x < row + mask.shape[2]; ++x) {
        const auto i = static_cast<std::size_t>(x);
        *target++ = static_cast<std::uint8_t>(!membership.ignored(reference.voxels[i]) &&
                                              membership.holds(k, labels.voxels[i]));
      }
    }
  }
  return mask;
}

/// Voxels of the mask with a face neighbour outside it; beyond the box there is nothing of the
/// mask.
std::vector<std::size_t> boundary(const Mask& mask) {
  std::vector<std::size_t> result;
  const auto [depth, height, width] = mask.shape;
  const std::int64_t plane = height * width;
  std::int64_t i = 0;
  for (std::int64_t z = 0; z < depth; ++z) {
    for (std::int64_t y = 0; y < height; ++y) {
      const bool edge_row = z == 0 || z == depth - 1 || y == 0 || y == height - 1;
      for (std::int64_t x = 0; x < width; ++x, ++i) {
        const std::uint8_t* v = mask.voxels.data() + i;
        if (*v == 0) continue;
        const bool inner = !edge_row && x > 0 && x < width - 1 && v[-1] != 0 && v[1] != 0 &&
                           v[-width] != 0 && v[width] != 0 && v[-plane] != 0 && v[plane] != 0;
        if (!inner) result.push_back(static_cast<std::size_t>(i));
      }
    }
  }
  return result;
}

/// Lower envelope of the parabolas f[v] + (step * (q - v))^2, evaluated at every q; in place for
/// one line.
class Envelope {
 public:
  explicit Envelope(std::int64_t longest)
      : centre_(static_cast<std::size_t>(longest)), from_(static_cast<std::size_t>(longest)) {}

  /// \param line `n` squared distances, infinite where nothing is near; \param result may not be
  /// `line`.
  void run(const float* line, float* result, std::int64_t n, double step) {
    const double square = step * step;
    std::int64_t last = -1;
    for (std::int64_t q = 0; q < n; ++q) {
      if (line[q] == kFar) continue;
      const double height = line[q] + square * static_cast<double>(q) * static_cast<double>(q);
      double start = -std::numeric_limits<double>::infinity();
      while (last >= 0) {
        // Where the parabola at q starts to lie below the last one that is kept.
        const auto k = static_cast<std::size_t>(last);
        const std::int64_t v = centre_[k];
        const double v_height = line[v] + square * static_cast<double>(v) * static_cast<double>(v);
        start = (height - v_height) / (2 * square * static_cast<double>(q - v));
        if (start > from_[k]) break;
        --last;
        start = -std::numeric_limits<double>::infinity();
      }
      ++last;
      centre_[static_cast<std::size_t>(last)] = q;
      from_[static_cast<std::size_t>(last)] = start;
    }
    if (last < 0) {
      std::fill_n(result, n, kFar);
      return;
    }
    std::int64_t k = 0;
    for (std::int64_t q = 0; q < n; ++q) {
      while (k < last && from_[static_cast<std::size_t>(k) + 1] < static_cast<double>(q)) ++k;
      const std::int64_t v = centre_[static_cast<std::size_t>(k)];
      const double away = step * static_cast<double>(q - v);
      result[q] = static_cast<float>(away * away + line[v]);
    }
  }

 private:
  std::vector<std::int64_t> centre_;
  std::vector<double> from_;
};

/// Completes squared distances along W (0 at seeds, infinite elsewhere): two sweeps a row.
void sweep_rows(std::vector<float>& squared, const Extent3& shape, double step) {
  const std::int64_t width = shape[2];
  for (std::int64_t row = 0; row < shape[0] * shape[1]; ++row) {
    float* line = squared.data() + row * width;
    std::int64_t nearest = -1;
    for (std::int64_t x = 0; x < width; ++x) {
      if (line[x] == 0) nearest = x;
      if (nearest >= 0) {
        const double away = step * static_cast<double>(x - nearest);
        line[x] = static_cast<float>(away * away);
      }
    }
    if (nearest < 0) continue;
    for (std::int64_t x = width - 1; x >= 0; --x) {
      if (line[x] == 0) nearest = x;
      const double away = step * static_cast<double>(nearest - x);
      // Right of the last seed `nearest` is still that seed: the distance is the same.
      line[x] = std::min(line[x], static_cast<float>(away * away));
    }
  }
}

/// Runs the envelope along an axis of [outer, n, inner] with inner > 1 lines side by side; tiles
/// keep the cache warm.
void envelope_axis(std::vector<float>& squared,
                   std::int64_t outer,
                   std::int64_t n,
                   std::int64_t inner,
                   double step) {
  constexpr std::int64_t kTile = 16;
  if (n <= 1) return;
  Envelope envelope(n);
  std::vector<float> lines(static_cast<std::size_t>(n * kTile)),
      result(static_cast<std::size_t>(n * kTile));
  for (std::int64_t o = 0; o < outer; ++o) {
    for (std::int64_t first = 0; first < inner; first += kTile) {
      const std::int64_t count = std::min(kTile, inner - first);
      float* base = squared.data() + o * n * inner + first;
      for (std::int64_t k = 0; k < n; ++k) {
        for (std::int64_t b = 0; b < count; ++b)
          lines[static_cast<std::size_t>(b * n + k)] = base[k * inner + b];
      }
      for (std::int64_t b = 0; b < count; ++b)
        envelope.run(lines.data() + b * n, result.data() + b * n, n, step);
      for (std::int64_t k = 0; k < n; ++k) {
        for (std::int64_t b = 0; b < count; ++b)
          base[k * inner + b] = result[static_cast<std::size_t>(b * n + k)];
      }
    }
  }
}

/// \param squared 0 at seeds, infinite elsewhere.
void complete_distances(std::vector<float>& squared, const Extent3& shape, const Vec3& spacing) {
  sweep_rows(squared, shape, spacing[2]);
  envelope_axis(squared, shape[0], shape[1], shape[2], spacing[1]);
  envelope_axis(squared, 1, shape[0], shape[1] * shape[2], spacing[0]);
}

void check_spacing(const Vec3& spacing) {
  for (const double s : spacing) {
    NAS_CHECK(std::isfinite(s) && s > 0, "distances: spacing must be > 0 mm, got ", s);
  }
}

/// Distances in mm from every voxel of `from` to the nearest of `to`.
std::vector<float> distances(const std::vector<std::size_t>& from,
                             const std::vector<std::size_t>& to,
                             const Extent3& shape,
                             const Vec3& spacing) {
  std::vector<float> squared(static_cast<std::size_t>(volume(shape)), kFar);
  for (const std::size_t i : to) squared[i] = 0;
  complete_distances(squared, shape, spacing);
  std::vector<float> result;
  result.reserve(from.size());
  for (const std::size_t i : from) result.push_back(std::sqrt(squared[i]));
  return result;
}

/// Linear interpolation between order statistics. \param values are reordered.
double quantile(std::vector<float>& values, double q) {
  const double at = q * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::ptrdiff_t>(at);
  std::nth_element(values.begin(), values.begin() + below, values.end());
  const double low = values[static_cast<std::size_t>(below)];
  const double rest = at - static_cast<double>(below);
  if (rest <= 0) return low;
  const double high = *std::min_element(values.begin() + below + 1, values.end());
  return low + (high - low) * rest;
}

void measure_distances(ClassMetrics& metrics,
                       const Mask& prediction,
                       const Mask& reference,
                       const Vec3& spacing,
                       const MetricOptions& options) {
  const std::vector<std::size_t> predicted = boundary(prediction), expected = boundary(reference);
  std::vector<float> there = distances(predicted, expected, prediction.shape, spacing);
  std::vector<float> back = distances(expected, predicted, prediction.shape, spacing);
  // A distance that equals the tolerance counts, whatever the last bit of the square root.
  const double tolerance = options.nsd_tolerance_mm * (1 + 1e-6);
  const auto within = [&](const std::vector<float>& values) {
    return static_cast<double>(
        std::ranges::count_if(values, [&](float d) { return d <= tolerance; }));
  };
  metrics.nsd = (within(there) + within(back)) / static_cast<double>(there.size() + back.size());
  const double sum = std::accumulate(there.begin(), there.end(), 0.0) +
                     std::accumulate(back.begin(), back.end(), 0.0);
  metrics.assd_mm = sum / static_cast<double>(there.size() + back.size());
  metrics.hd_mm = std::max(std::ranges::max(there), std::ranges::max(back));
  metrics.hd95_mm = std::max(quantile(there, 0.95), quantile(back, 0.95));
}

/// Between the centres of opposite corners.
double diagonal_mm(const Geometry& geometry) {
  double sum = 0;
  for (std::size_t a = 0; a < 3; ++a) {
    const double length = static_cast<double>(geometry.shape[a] - 1) * geometry.spacing_mm[a];
    sum += length * length;
  }
  return std::sqrt(sum);
}

Json value_or_null(const std::optional<double>& value) {
  return value ? Json(*value) : Json(nullptr);
}

/// Summed in ascending order: equal values give equal bits, whatever order they came in.
std::optional<double> mean_of(std::vector<double> values) {
  if (values.empty()) return std::nullopt;
  std::sort(values.begin(), values.end());
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

Json values_json(const ClassMetrics& metrics) {
  Json result = Json::object();
  for (const MetricInfo& metric : kMetrics)
    result[metric.name] = value_or_null(metrics.*metric.value);
  return result;
}

}  // namespace

std::span<const MetricInfo> metric_table() { return kMetrics; }

const MetricInfo& metric_named(const std::string& name, const std::string& where) {
  std::vector<std::string> known;
  for (const MetricInfo& metric : kMetrics) {
    if (name == metric.name) return metric;
    known.emplace_back(metric.name);
  }
  fail(ErrorKind::Usage,
       where,
       ": expected a metric, one of ",
       joined(known),
       ", found '",
       name,
       "'",
       did_you_mean(name, known));
}

void ForegroundMean::add(std::size_t class_index, const std::optional<double>& value) {
  if (value) values_.at(class_index).push_back(*value);
}

std::optional<double> ForegroundMean::of_class(std::size_t class_index) const {
  return mean_of(values_.at(class_index));
}

std::optional<double> ForegroundMean::value() const {
  std::vector<double> means;
  for (std::size_t k = 0; k < values_.size(); ++k) {
    if (const auto mean = of_class(k)) means.push_back(*mean);
  }
  return mean_of(std::move(means));
}

MetricMeans mean_metrics(std::span<const CaseMetrics> cases) {
  MetricMeans means;
  std::size_t classes = 0;
  for (const CaseMetrics& c : cases) classes = std::max(classes, c.classes.size());
  means.classes.resize(classes);
  for (const MetricInfo& metric : kMetrics) {
    ForegroundMean mean(classes);
    for (const CaseMetrics& c : cases) {
      for (std::size_t k = 0; k < c.classes.size(); ++k) mean.add(k, c.classes[k].*metric.value);
    }
    for (std::size_t k = 0; k < classes; ++k) means.classes[k].*metric.value = mean.of_class(k);
    means.foreground.*metric.value = mean.value();
  }
  return means;
}

std::optional<double> score_by(const MetricInfo& metric, const MetricMeans& means) {
  const std::optional<double>& mean = means.foreground.*metric.value;
  if (!mean) return std::nullopt;
  return metric.higher_is_better ? *mean : -*mean;
}

std::string dice_text(const std::optional<double>& dice) {
  if (!dice) return "not scored";
  char text[32];
  std::snprintf(text, sizeof text, "%.4f", *dice);
  return text;
}

CaseMetrics compute_metrics(const LabelMap& prediction,
                            const LabelMap& reference,
                            std::int64_t classes,
                            const MetricOptions& options) {
  NAS_CHECK(classes >= 1 && classes <= INT16_MAX,
            "metrics: expected at least one foreground class, got ",
            classes);
  LabelScheme labels;
  labels.names.resize(static_cast<std::size_t>(classes) + 1);
  return compute_metrics(prediction, reference, labels, options);
}

CaseMetrics compute_metrics(const LabelMap& prediction,
                            const LabelMap& reference,
                            const LabelScheme& labels,
                            const MetricOptions& options) {
  const Extent3& shape = reference.geometry.shape;
  NAS_CHECK_KIND(Shape,
                 prediction.geometry.shape == shape,
                 "metrics: prediction of ",
                 to_text(prediction.geometry.shape),
                 " for a reference of ",
                 to_text(shape));
  NAS_CHECK_KIND(Shape,
                 prediction.voxels.size() == static_cast<std::size_t>(volume(shape)) &&
                     reference.voxels.size() == prediction.voxels.size(),
                 "metrics: expected one label a voxel, found ",
                 prediction.voxels.size(),
                 " and ",
                 reference.voxels.size(),
                 " for ",
                 to_text(shape));
  if (options.distances) check_spacing(reference.geometry.spacing_mm);

  CaseMetrics result;
  result.classes.resize(static_cast<std::size_t>(labels.foreground()));
  std::vector<Box> boxes(result.classes.size());  // of both masks together
  const Membership membership(labels);
  const bool background_counts = !membership.of(0).empty();
  std::size_t i = 0;
  for (std::int64_t z = 0; z < shape[0]; ++z) {
    for (std::int64_t y = 0; y < shape[1]; ++y) {
      for (std::int64_t x = 0; x < shape[2]; ++x, ++i) {
        const std::int16_t p = prediction.voxels[i], r = reference.voxels[i];
        if (p == 0 && r == 0 && !background_counts) continue;
        if (membership.ignored(r)) continue;
        const Extent3 here{z, y, x}, next{z + 1, y + 1, x + 1};
        for (const std::size_t k : membership.of(p)) {
          ++result.classes[k].predicted_voxels;
          if (membership.holds(k, r)) ++result.classes[k].common_voxels;
          boxes[k].add(here, next);
        }
        for (const std::size_t k : membership.of(r)) {
          ++result.classes[k].reference_voxels;
          boxes[k].add(here, next);
        }
      }
    }
  }

  for (std::size_t k = 0; k < result.classes.size(); ++k) {
    ClassMetrics& m = result.classes[k];
    const std::int64_t both = m.predicted_voxels + m.reference_voxels;
    if (both == 0) continue;
    m.dice = 2 * static_cast<double>(m.common_voxels) / static_cast<double>(both);
    if (!options.distances) continue;
    if (m.predicted_voxels == 0 || m.reference_voxels == 0) {
      m.nsd = 0;
      if (options.missing_is_far) {
        m.hd_mm = m.hd95_mm = m.assd_mm = diagonal_mm(reference.geometry);
      }
      continue;
    }
    measure_distances(m,
                      extract(prediction, reference, membership, k, boxes[k]),
                      extract(reference, reference, membership, k, boxes[k]),
                      reference.geometry.spacing_mm,
                      options);
  }
  return result;
}

std::vector<float> squared_distance_transform(const std::vector<std::uint8_t>& mask,
                                              const Extent3& shape,
                                              const Vec3& spacing_mm) {
  NAS_CHECK_KIND(Shape,
                 mask.size() == static_cast<std::size_t>(volume(shape)),
                 "distance transform: ",
                 mask.size(),
                 " voxels for ",
                 to_text(shape));
  check_spacing(spacing_mm);
  std::vector<float> squared(mask.size());
  std::ranges::transform(
      mask, squared.begin(), [](std::uint8_t v) { return v != 0 ? 0.0f : kFar; });
  complete_distances(squared, shape, spacing_mm);
  return squared;
}

Json metrics_json(const std::vector<CaseMetrics>& cases,
                  const std::vector<std::string>& label_names,
                  const std::vector<UnscoredCase>& unscored) {
  MetricMeans means = mean_metrics(cases);
  if (!label_names.empty())
    means.classes.resize(std::max(means.classes.size(), label_names.size() - 1));
  const auto name_of = [&](std::size_t k) {
    return k + 1 < label_names.size() ? label_names[k + 1] : std::to_string(k + 1);
  };
  Json case_list = Json::array();
  for (const CaseMetrics& c : cases) {
    Json class_list = Json::array();
    for (std::size_t k = 0; k < c.classes.size(); ++k) {
      const ClassMetrics& m = c.classes[k];
      Json entry = values_json(m);
      entry["label"] = name_of(k);
      entry["predicted_voxels"] = m.predicted_voxels;
      entry["reference_voxels"] = m.reference_voxels;
      class_list.push_back(std::move(entry));
    }
    case_list.push_back({{"id", c.id}, {"classes", std::move(class_list)}});
  }
  Json mean_list = Json::array();
  for (std::size_t k = 0; k < means.classes.size(); ++k) {
    Json entry = values_json(means.classes[k]);
    entry["label"] = name_of(k);
    mean_list.push_back(std::move(entry));
  }
  Json missing = Json::array(), failed = Json::array();
  for (const UnscoredCase& one : unscored)
    (one.missing ? missing : failed).push_back({{"id", one.id}, {"reason", one.reason}});
  return {{"format", "voxnas.metrics"},
          {"version", 1},
          {"cases", std::move(case_list)},
          {"missing", std::move(missing)},
          {"failed", std::move(failed)},
          {"mean", std::move(mean_list)},
          {"foreground_mean", values_json(means.foreground)}};
}

std::vector<CaseMetrics> case_metrics_from_json(const Json& value, const std::string& where) {
  const JsonReader reader(value, where);
  const JsonReader list = reader.at("cases");
  std::vector<CaseMetrics> cases;
  for (std::size_t i = 0; i < list.size(); ++i) {
    CaseMetrics one;
    one.id = list.at(i).at("id").text();
    const JsonReader classes = list.at(i).at("classes");
    for (std::size_t k = 0; k < classes.size(); ++k) {
      const JsonReader entry = classes.at(k);
      ClassMetrics metrics;
      for (const MetricInfo& metric : kMetrics) {
        const JsonReader number = entry.at(metric.name);
        if (!number.json().is_null()) metrics.*metric.value = number.number();
      }
      metrics.predicted_voxels = entry.at("predicted_voxels").integer();
      metrics.reference_voxels = entry.at("reference_voxels").integer();
      one.classes.push_back(metrics);
    }
    cases.push_back(std::move(one));
  }
  return cases;
}

}  // namespace nas
