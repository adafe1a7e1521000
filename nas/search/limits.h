// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "nas/core/json.h"
#include "nas/search/evaluator.h"

namespace nas {

/// Hard limits on what a search may propose, checked before anything is trained. 0: no limit.
struct Limits {
  std::int64_t max_parameters = 0;
  std::int64_t max_macs = 0;          // one forward pass of one patch
  std::int64_t max_memory_bytes = 0;  // forecast of a training step
  double max_step_seconds = 0;        // measured training step
  double parameters_of_plan = 0;      // share of the planned network's parameters, e.g. 0.5
  bool operator==(const Limits&) const = default;
  bool any() const { return *this != Limits{}; }
};

/// "" if `cost` is within the limits, else the first limit that is broken with both numbers.
/// \param plan cost of individual 0. A step time of 0 (unknown) breaks nothing.
std::string broken_limit(const Limits& limits, const TrialCost& cost, const TrialCost& plan);

/// A stage's limit on multiply-adds, relative to those of individual 0, which it is not for; 0: none.
bool within_cost_limit(double limit, const TrialCost& cost, const TrialCost& plan);

Json to_json(const Limits& limits);
Limits limits_from_json(const Json& value, const std::string& where);  // \throws Error(Usage|Input)

}  // namespace nas
