// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace nas {

/// What distinguishes the planners.
struct PlannerKind {
  const char* name;
  bool residual;
  double reference_elements;  // feature map elements that a patch may have ...
  double reference_gb;        // ... on a GPU of this memory
  double max_dataset_share;   // of all voxels in one batch
  const char* class_name;     // experiment_planner_used
  const char* plans_name;
};
/// \throws Error(Usage) with the known names.
const PlannerKind& find_planner(const std::string& name);
std::vector<std::string> planner_names();

}  // namespace nas
