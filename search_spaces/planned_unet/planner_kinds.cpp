// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/planned_unet/planner_kinds.h"

#include <array>

#include "nas/core/error.h"
#include "nas/core/text.h"

namespace nas {
namespace {

constexpr std::array<PlannerKind, 3> kPlanners{{
    {"default", false, 560000000, 8, 0.05, "ExperimentPlanner", "nnUNetPlans"},
    {"resenc-m", true, 680000000, 8, 1, "nnUNetPlannerResEncM", "nnUNetResEncUNetMPlans"},
    {"resenc-l", true, 2100000000, 24, 1, "nnUNetPlannerResEncL", "nnUNetResEncUNetLPlans"},
}};

}  // namespace

const PlannerKind& find_planner(const std::string& name) {
  for (const PlannerKind& kind : kPlanners) {
    if (name == kind.name) return kind;
  }
  fail(ErrorKind::Usage,
       "planner \"",
       name,
       "\": expected default, resenc-m or resenc-l",
       did_you_mean(name, planner_names(), ""));
}

std::vector<std::string> planner_names() {
  std::vector<std::string> names;
  for (const PlannerKind& kind : kPlanners) names.emplace_back(kind.name);
  return names;
}

}  // namespace nas
