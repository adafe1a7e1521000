// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "nas/core/extent.h"
#include "nas/core/json.h"
#include "nas/imaging/fingerprint.h"

namespace nas {

/// A U-Net as nnU-Net describes it: plain (two convolutions a stage) or with a residual encoder.
struct UnetArchitecture {
  bool residual = false;
  std::int64_t in_channels = 1;
  std::int64_t classes = 2;            // output channels, background included
  std::vector<std::int64_t> features;  // per stage, finest first
  std::vector<Extent3> strides;        // per stage; the first is 1x1x1
  std::vector<Extent3> kernels;        // per stage
  std::vector<std::int64_t>
      blocks;  // convolutions (plain) or residual blocks (residual) per encoder stage
  std::vector<std::int64_t>
      decoder_convs;  // convolutions per decoder stage, coarsest first as nnU-Net runs them
  bool deep_supervision = true;
  bool operator==(const UnetArchitecture&) const = default;
};

/// One configuration of a plan ("3d_fullres" or "3d_lowres"), axes in transposed order.
struct Configuration {
  std::string name;
  Extent3 patch{0, 0, 0};  // voxels
  std::int64_t batch = 2;
  Vec3 spacing{1, 1, 1};       // mm
  Vec3 median_shape{0, 0, 0};  // voxels at `spacing`; halves occur
  std::vector<std::string>
      normalization;  // per channel: "CTNormalization", "ZScoreNormalization", ...
  std::vector<bool> use_mask_for_norm;  // per channel
  bool batch_dice = false;
  UnetArchitecture architecture;
  std::string previous_stage, next_stage;  // of the cascade, or ""
  bool operator==(const Configuration&) const = default;
};

/// nnU-Net's plan for a data set: individual 0 of every search.
struct Plan {
  std::string dataset_name;
  std::string planner;  // "default", "resenc-m", "resenc-l"
  double gpu_memory_gb = 8;
  std::string orientation;  // axis codes of the images; "" if nothing is known
  std::array<int, 3> transpose_forward{0, 1, 2};
  std::array<int, 3> transpose_backward{0, 1, 2};
  Vec3 original_median_spacing{1, 1, 1};       // after transposition
  Vec3 original_median_shape{0, 0, 0};         // after transposition
  std::vector<IntensityProperties> intensity;  // per channel
  std::vector<Configuration> configurations;   // "3d_fullres" first; "3d_lowres" if planned
  const Configuration& configuration(const std::string& name) const;  // \throws Error(Usage)
  bool operator==(const Plan&) const = default;
};

Json to_json(const Plan& plan);  // our own form (exact round trip)
Plan plan_from_json(const Json& value, const std::string& where);
Json to_json(const Configuration& configuration);
Configuration configuration_from_json(const Json& value, const std::string& where);
Json to_json(const UnetArchitecture& architecture);
UnetArchitecture architecture_from_json(const Json& value, const std::string& where);

}  // namespace nas
