// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/planned_unet/planner.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/dataset_json.h"
#include "nas/imaging/intensity.h"
#include "nas/imaging/resample.h"
#include "nas/search/statistics.h"
#include "search_spaces/planned_unet/planner_kinds.h"

namespace nas {
namespace {

// nnU-Net's constants.
constexpr std::int64_t kBaseFeatures = 32;
constexpr std::int64_t kMaxFeatures = 320;
constexpr std::int64_t kMinEdge = 4;   // voxels of the coarsest feature map along any axis
constexpr double kReferenceBatch = 2;  // batch at which `reference_elements` fits
constexpr std::int64_t kMinBatch = 2;
constexpr double kLowresThreshold = 0.25;  // share of the median image that a patch should see
constexpr double kLowresSpacingStep = 1.03;
constexpr double kMaskForNormBelow = 0.75;  // median relative size after cropping

/// Python's round: halves to even.
std::int64_t round_half_even(double value, const char* what) {
  NAS_CHECK(std::isfinite(value) && std::abs(value) < 9e18,
            "planner: ",
            what,
            " is not a number that can be rounded: ",
            value);
  return static_cast<std::int64_t>(std::nearbyint(value));
}

std::vector<double> axis_values(const std::vector<Vec3>& rows, std::size_t axis) {
  std::vector<double> values;
  values.reserve(rows.size());
  for (const Vec3& row : rows) values.push_back(row[axis]);
  return values;
}

std::vector<Vec3> as_reals(const std::vector<Extent3>& shapes) {
  std::vector<Vec3> rows;
  for (const Extent3& s : shapes) {
    rows.push_back(
        {static_cast<double>(s[0]), static_cast<double>(s[1]), static_cast<double>(s[2])});
  }
  return rows;
}

Vec3 medians(const std::vector<Vec3>& rows) {
  return {median(axis_values(rows, 0)), median(axis_values(rows, 1)), median(axis_values(rows, 2))};
}

double product(const Vec3& v) { return v[0] * v[1] * v[2]; }

Vec3 transposed(const Vec3& v, const std::array<int, 3>& forward) {
  return {v[static_cast<std::size_t>(forward[0])],
          v[static_cast<std::size_t>(forward[1])],
          v[static_cast<std::size_t>(forward[2])]};
}

std::size_t first_largest(const Vec3& v) {
  return static_cast<std::size_t>(std::ranges::max_element(v) - v.begin());
}

/// Median spacing; along a much coarser axis with few voxels the 10th percentile, so that thick
/// slices do not set the resolution for everything else.
Vec3 target_spacing(const Fingerprint& fingerprint) {
  const std::vector<Vec3> sizes = as_reals(fingerprint.shapes_after_crop);
  Vec3 target{}, size{};
  for (std::size_t a = 0; a < 3; ++a) {
    target[a] = quantile(axis_values(fingerprint.spacings, a), 0.5);
    size[a] = quantile(axis_values(sizes, a), 0.5);
  }
  const std::size_t worst = first_largest(target);
  const std::size_t i = worst == 0 ? 1 : 0, j = worst == 2 ? 1 : 2;
  const double other_spacing = std::max(target[i], target[j]),
               other_size = std::min(size[i], size[j]);
  if (target[worst] > kAnisotropyThreshold * other_spacing &&
      size[worst] * kAnisotropyThreshold < other_size) {
    const double fine = quantile(axis_values(fingerprint.spacings, worst), 0.1);
    target[worst] = fine < other_spacing ? other_spacing + 1e-5 : fine;
  }
  return target;
}

/// Strides, kernels and the padded patch that follow from spacing and patch.
struct Topology {
  std::vector<Extent3> strides;  // per stage, the first 1x1x1
  std::vector<Extent3> kernels;  // per stage
  Extent3 patch{0, 0, 0};        // a multiple of `divisor`
  Extent3 divisor{1, 1, 1};
};

/// Halves axes whose spacing is within a factor of two of the finest that can still be halved;
/// kernels grow from 1 to 3 along an axis once its spacing is within a factor of two of the finest
/// of all.
Topology pool_topology(const Vec3& spacing_mm, const Vec3& patch) {
  Topology result;
  result.strides.push_back({1, 1, 1});
  Vec3 spacing = spacing_mm, size = patch;
  Extent3 kernel{1, 1, 1};
  while (true) {
    double finest = INFINITY;
    for (std::size_t a = 0; a < 3; ++a) {
      if (size[a] >= 2 * kMinEdge) finest = std::min(finest, spacing[a]);
    }
    if (std::isinf(finest)) break;
    std::vector<std::size_t> halved;
    for (std::size_t a = 0; a < 3; ++a) {
      if (size[a] >= 2 * kMinEdge && spacing[a] / finest < 2) halved.push_back(a);
    }
    if (halved.size() == 1 && size[halved[0]] < 3 * kMinEdge) break;
    const double finest_of_all = std::ranges::min(spacing);
    for (std::size_t a = 0; a < 3; ++a) {
      if (spacing[a] / finest_of_all < 2) kernel[a] = 3;
    }
    Extent3 stride{1, 1, 1};
    for (const std::size_t a : halved) {
      stride[a] = 2;
      result.divisor[a] *= 2;
      spacing[a] *= 2;
      size[a] = std::ceil(size[a] / 2);
    }
    result.strides.push_back(stride);
    result.kernels.push_back(kernel);
  }
  result.kernels.push_back({3, 3, 3});
  for (std::size_t a = 0; a < 3; ++a) {
    const auto d = static_cast<double>(result.divisor[a]);
    const double rest = std::fmod(patch[a], d);
    result.patch[a] = static_cast<std::int64_t>(rest == 0 ? patch[a] : patch[a] + d - rest);
  }
  return result;
}

UnetArchitecture make_architecture(const PlannerKind& kind,
                                   const PlannerFacts& facts,
                                   const Topology& topology) {
  UnetArchitecture unet;
  unet.residual = kind.residual;
  unet.in_channels = static_cast<std::int64_t>(facts.channel_names.size());
  unet.classes = facts.classes;
  unet.strides = topology.strides;
  unet.kernels = topology.kernels;
  constexpr std::array<std::int64_t, 4> kResidualBlocks{1, 3, 4, 6};  // and 6 from there on
  for (std::size_t s = 0; s < unet.strides.size(); ++s) {
    unet.features.push_back(s < 5 ? std::min(kMaxFeatures, kBaseFeatures << s) : kMaxFeatures);
    unet.blocks.push_back(kind.residual ? kResidualBlocks[std::min<std::size_t>(s, 3)] : 2);
    if (s > 0) unet.decoder_convs.push_back(kind.residual ? 1 : 2);
  }
  return unet;
}

Vec3 reals(const Extent3& e) {
  return {static_cast<double>(e[0]), static_cast<double>(e[1]), static_cast<double>(e[2])};
}

/// Patch, topology and batch for one spacing. \param dataset_voxels all training voxels at that
/// spacing.
Configuration plan_configuration(const PlannerKind& kind,
                                 double gpu_memory_gb,
                                 const PlannerFacts& facts,
                                 const Vec3& spacing,
                                 const Vec3& median_shape,
                                 double dataset_voxels) {
  // A patch of 256^3 voxels' volume that is a cube in mm, no larger than the median image.
  const Vec3 inverse{1 / spacing[0], 1 / spacing[1], 1 / spacing[2]};
  const double scale = std::pow(std::pow(256.0, 3) / product(inverse), 1.0 / 3.0);
  Vec3 initial{};
  for (std::size_t a = 0; a < 3; ++a) {
    const auto edge = static_cast<double>(round_half_even(inverse[a] * scale, "the initial patch"));
    NAS_CHECK(edge >= 1,
              "planner: ",
              facts.dataset_name,
              ": spacings of ",
              spacing[0],
              " x ",
              spacing[1],
              " x ",
              spacing[2],
              " mm differ too much: a patch of equal edges in mm has no voxel along axis ",
              a);
    initial[a] = std::min(edge, median_shape[a]);
  }
  Topology topology = pool_topology(spacing, initial);
  UnetArchitecture unet = make_architecture(kind, facts, topology);
  double estimate = feature_map_elements(unet, topology.patch);
  const double reference = kind.reference_elements * (gpu_memory_gb / kind.reference_gb);

  for (int round = 0; estimate > reference; ++round) {
    NAS_CHECK(round < 100000, "planner: no patch found within ", gpu_memory_gb, " GB");
    // Shrink the axis that is largest against the median image; the last one of equals.
    std::size_t axis = 0;
    Vec3 patch = reals(topology.patch);
    for (std::size_t a = 1; a < 3; ++a) {
      if (patch[a] / median_shape[a] >= patch[axis] / median_shape[axis]) axis = a;
    }
    // A smaller patch may be divisible by less (a smaller step then does): look one step ahead for
    // the step to take.
    Vec3 ahead = patch;
    ahead[axis] -= static_cast<double>(topology.divisor[axis]);
    patch[axis] -= static_cast<double>(pool_topology(spacing, ahead).divisor[axis]);
    NAS_CHECK(patch[axis] >= 1,
              "planner: a GPU memory target of ",
              gpu_memory_gb,
              " GB is too small: even the smallest patch does not fit");
    topology = pool_topology(spacing, patch);
    unet = make_architecture(kind, facts, topology);
    estimate = feature_map_elements(unet, topology.patch);
  }

  const std::int64_t by_memory =
      round_half_even(reference / estimate * kReferenceBatch, "the batch size");
  const std::int64_t by_data =
      round_half_even(dataset_voxels * kind.max_dataset_share / product(reals(topology.patch)),
                      "the batch size by data set size");
  Configuration result;
  result.patch = topology.patch;
  result.batch = std::max(std::min(by_memory, by_data), kMinBatch);
  result.spacing = spacing;
  result.median_shape = median_shape;
  result.architecture = std::move(unet);
  return result;
}

void check_input(const Fingerprint& fingerprint, const PlannerFacts& facts) {
  const std::string& name = facts.dataset_name;
  NAS_CHECK(!fingerprint.spacings.empty() &&
                fingerprint.spacings.size() == fingerprint.shapes_after_crop.size(),
            "planner: ",
            name,
            ": expected a spacing and a shape per case, found ",
            fingerprint.spacings.size(),
            " and ",
            fingerprint.shapes_after_crop.size());
  for (std::size_t i = 0; i < fingerprint.spacings.size(); ++i) {
    for (std::size_t a = 0; a < 3; ++a) {
      const double spacing = fingerprint.spacings[i][a];
      NAS_CHECK(std::isfinite(spacing) && spacing > 0,
                "planner: ",
                name,
                ": case ",
                i,
                ": spacing must be > 0, found ",
                spacing,
                " mm on axis ",
                a);
      NAS_CHECK(fingerprint.shapes_after_crop[i][a] >= 1,
                "planner: ",
                name,
                ": case ",
                i,
                ": sizes must be >= 1, found ",
                to_text(fingerprint.shapes_after_crop[i]));
    }
  }
  NAS_CHECK(!facts.channel_names.empty(),
            "planner: ",
            name,
            ": expected at least one channel, found none");
  NAS_CHECK(
      fingerprint.intensity.empty() || fingerprint.intensity.size() == facts.channel_names.size(),
      "planner: ",
      name,
      ": expected intensity properties of ",
      facts.channel_names.size(),
      " channels, found ",
      fingerprint.intensity.size());
  NAS_CHECK(facts.classes >= 2,
            "planner: ",
            name,
            ": expected background and at least one label, found ",
            facts.classes,
            " labels");
  NAS_CHECK(facts.training_cases >= 1,
            "planner: ",
            name,
            ": expected numTraining >= 1, found ",
            facts.training_cases);
}

/// Refuses what nnU-Net plans although no network with a decoder can be built for it.
void check_trainable(const Configuration& configuration,
                     const PlannerFacts& facts,
                     double gpu_memory_gb) {
  const Vec3& median = configuration.median_shape;
  NAS_CHECK(configuration.architecture.strides.size() >= 2,
            "planner: ",
            facts.dataset_name,
            ": a patch of ",
            to_text(configuration.patch),
            " voxels is too small for a U-Net: it cannot be halved once and keep ",
            kMinEdge,
            " voxels an edge (median image ",
            median[0],
            " x ",
            median[1],
            " x ",
            median[2],
            " voxels, GPU memory target ",
            gpu_memory_gb,
            " GB)");
}

void set_labels(PlannerFacts& facts, const LabelScheme& labels) {
  // nnU-Net's planner counts every entry, also the one that no output stands for.
  facts.classes = static_cast<std::int64_t>(labels.names.size()) + (labels.has_ignore ? 1 : 0);
  facts.outputs = labels.outputs();
  facts.labels = to_text(labels);
}

}  // namespace

PlannerFacts planner_facts(const DataSet& data) {
  PlannerFacts facts;
  facts.dataset_name = data.name;
  facts.channel_names = data.channel_names;
  set_labels(facts, data.labels);
  facts.training_cases = static_cast<std::int64_t>(data.training.size());
  return facts;
}

PlannerFacts planner_facts_from_json(const Json& value,
                                     const std::string& dataset_name,
                                     const std::string& where) {
  const JsonReader reader(value, where);
  PlannerFacts facts;
  facts.dataset_name = dataset_name;
  facts.channel_names = stated_channel_names(reader);
  const JsonReader labels = reader.at("labels");
  const bool named = labels.json().is_object();
  // Counts need no order.
  set_labels(facts, read_label_scheme(reader, named ? labels.keys() : std::vector<std::string>{}));
  facts.training_cases = reader.at("numTraining").integer(0, std::int64_t{1} << 40);
  if (reader.has("file_ending")) facts.file_ending = reader.at("file_ending").text();
  return facts;
}

double feature_map_elements(const UnetArchitecture& unet, const Extent3& patch) {
  double total = 0;
  std::vector<double> voxels;  // per stage
  Extent3 size = patch;
  if (unet.residual) total += static_cast<double>(unet.features[0] * volume(patch));  // the stem
  for (std::size_t s = 0; s < unet.features.size(); ++s) {
    bool strided = false;
    for (std::size_t a = 0; a < 3; ++a) {
      strided = strided || unet.strides[s][a] != 1;
      size[a] /= unet.strides[s][a];
    }
    voxels.push_back(static_cast<double>(volume(size)));
    const double map = static_cast<double>(unet.features[s]) * voxels[s];
    const auto blocks = static_cast<double>(unet.blocks[s]);
    if (unet.residual) {
      const bool projected = strided || (s > 0 && unet.features[s] != unet.features[s - 1]);
      total += map * (2 * blocks + (projected ? 1 : 0));
    } else {
      total += map * blocks;
    }
  }
  // A decoder stage: its transposed convolution and its convolutions. The list starts with the
  // coarsest stage.
  for (std::size_t s = 0; s + 1 < unet.features.size(); ++s) {
    total += static_cast<double>(unet.features[s]) * voxels[s] *
             static_cast<double>(unet.decoder_convs[unet.features.size() - 2 - s] + 1);
  }
  if (unet.features.size() > 1) total += static_cast<double>(unet.classes) * voxels[0];
  return total;
}

Plan make_plan(const Fingerprint& fingerprint,
               const PlannerFacts& facts,
               const PlannerOptions& options) {
  const PlannerKind& kind = find_planner(options.planner);
  const double memory_gb = options.gpu_memory_gb == 0 ? kind.reference_gb : options.gpu_memory_gb;
  NAS_CHECK_KIND(Usage,
                 std::isfinite(memory_gb) && memory_gb > 0,
                 "GPU memory target: expected more than 0 GB, got ",
                 options.gpu_memory_gb);
  check_input(fingerprint, facts);

  Plan plan;
  plan.dataset_name = facts.dataset_name;
  plan.planner = kind.name;
  plan.gpu_memory_gb = memory_gb;
  plan.orientation = fingerprint.orientation;
  plan.intensity = fingerprint.intensity;

  // The coarsest axis comes first.
  const Vec3 target = target_spacing(fingerprint);
  const int coarsest = static_cast<int>(first_largest(target));
  plan.transpose_forward = {coarsest, coarsest == 0 ? 1 : 0, coarsest == 2 ? 1 : 2};
  for (int i = 0; i < 3; ++i) {
    plan.transpose_backward[static_cast<std::size_t>(
        plan.transpose_forward[static_cast<std::size_t>(i)])] = i;
  }
  plan.original_median_spacing = transposed(medians(fingerprint.spacings), plan.transpose_forward);
  plan.original_median_shape =
      transposed(medians(as_reals(fingerprint.shapes_after_crop)), plan.transpose_forward);

  std::vector<Extent3> new_shapes;
  for (std::size_t i = 0; i < fingerprint.spacings.size(); ++i) {
    new_shapes.push_back(
        resampled_shape(fingerprint.shapes_after_crop[i], fingerprint.spacings[i], target));
  }
  const Vec3 spacing = transposed(target, plan.transpose_forward);
  const Vec3 shape = transposed(medians(as_reals(new_shapes)), plan.transpose_forward);
  const double voxels = product(shape);
  const auto cases = static_cast<double>(facts.training_cases);
  NAS_CHECK(shape[0] != 1,
            "planner: ",
            facts.dataset_name,
            ": the median image has one slice; this is a 2D data set, for which there is no 3D "
            "configuration");
  NAS_CHECK(std::ranges::min(shape) >= 1,
            "planner: ",
            facts.dataset_name,
            ": the median image at ",
            spacing[0],
            " x ",
            spacing[1],
            " x ",
            spacing[2],
            " mm has no voxels");

  Configuration full = plan_configuration(kind, memory_gb, facts, spacing, shape, voxels * cases);
  full.name = "3d_fullres";
  check_trainable(full, facts, memory_gb);

  // Coarser and coarser until a patch sees a quarter of the image; the finer axes first until all
  // are similar.
  std::optional<Configuration> low;
  Vec3 low_spacing = spacing;
  double low_voxels = voxels;
  double patch_voxels = product(reals(full.patch));
  while (patch_voxels / low_voxels < kLowresThreshold) {
    const double largest = std::ranges::max(low_spacing);
    Vec3 ratio{};
    for (std::size_t a = 0; a < 3; ++a) ratio[a] = largest / low_spacing[a];
    const bool uneven = std::ranges::max(ratio) > 2;
    for (std::size_t a = 0; a < 3; ++a) {
      if (!uneven || ratio[a] > 2) low_spacing[a] *= kLowresSpacingStep;
    }
    Vec3 low_shape{}, rounded{};
    for (std::size_t a = 0; a < 3; ++a) {
      low_shape[a] = spacing[a] / low_spacing[a] * shape[a];
      rounded[a] = static_cast<double>(round_half_even(low_shape[a], "the low-resolution shape"));
    }
    NAS_CHECK(std::ranges::min(rounded) >= 1,
              "planner: ",
              facts.dataset_name,
              ": no low resolution found at which a patch sees a quarter of the median image");
    low_voxels = product(low_shape);
    low = plan_configuration(kind, memory_gb, facts, low_spacing, rounded, low_voxels * cases);
    patch_voxels = product(reals(low->patch));
  }
  if (voxels / low_voxels < 2) low.reset();  // too similar to full resolution

  std::vector<std::string> schemes;
  std::vector<bool> masks;
  for (const std::string& channel : facts.channel_names) {
    schemes.push_back(normalization_scheme(channel));
    masks.push_back(fingerprint.median_relative_size_after_cropping < kMaskForNormBelow &&
                    normalization_uses_mask(schemes.back()));
  }
  full.batch_dice = low.has_value();
  if (low) {
    check_trainable(*low, facts, memory_gb);
    low->name = "3d_lowres";
    low->batch_dice = false;
    low->next_stage = "3d_cascade_fullres";
  }
  plan.configurations.push_back(std::move(full));
  if (low) plan.configurations.push_back(std::move(*low));
  for (Configuration& configuration : plan.configurations) {
    configuration.normalization = schemes;
    configuration.use_mask_for_norm = masks;
    if (facts.outputs > 0) configuration.architecture.classes = facts.outputs;
  }
  return plan;
}

}  // namespace nas
