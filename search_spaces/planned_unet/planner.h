// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nas/core/json.h"
#include "nas/imaging/fingerprint.h"
#include "search_spaces/planned_unet/plan.h"

namespace nas {

struct DataSet;

/// What planning needs to know besides the fingerprint.
struct PlannerFacts {
  std::string dataset_name;
  std::vector<std::string> channel_names;  // in channel order
  /// Entries of dataset.json's "labels": what nnU-Net's estimate of memory counts as outputs.
  std::int64_t classes = 2;
  std::int64_t training_cases = 0;
  std::string file_ending = ".nii.gz";
  std::int64_t outputs = 0;  // channels that the network gets; 0: `classes`
  std::string labels{};      // LabelScheme for people
};
PlannerFacts planner_facts(const DataSet& data);
/// From the content of an nnU-Net dataset.json (channel_names, labels, numTraining). \throws
/// Error(Input).
PlannerFacts planner_facts_from_json(const Json& value,
                                     const std::string& dataset_name,
                                     const std::string& where);

struct PlannerOptions {
  std::string planner = "default";  // one of planner_names() (planner_kinds.h)
  double gpu_memory_gb = 0;         // target; 0: the planner's own (8, 8, 24)
};

/// nnU-Net's planning rules: target spacing, transposition, patch, topology, batch and
/// normalisation of 3d_fullres and, where a full-resolution patch sees less than a quarter of the
/// median image, 3d_lowres. Source: nnU-Net 2.8.1's planners (Isensee et al., Nature Methods 2021
/// and MICCAI 2024); equal to its plans.json. \throws Error(Input) with the reason where nnU-Net
/// refuses or plans something that cannot be trained in 3D; Error(Usage) for an unknown planner or
/// a memory target that is not positive.
Plan make_plan(const Fingerprint& fingerprint,
               const PlannerFacts& facts,
               const PlannerOptions& options = {});

/// Elements of all feature maps that convolutions write in one forward pass of one patch: nnU-Net's
/// stand-in for memory.
double feature_map_elements(const UnetArchitecture& architecture, const Extent3& patch);

}  // namespace nas
