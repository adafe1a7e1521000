// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "nas/core/json.h"

namespace nas {

/// How a data set is taken: what the user says of it beside its folder, the same for every verb that
/// plans.
struct DataOptions {
  std::string planner = "default";  // one of planner_names()
  std::string orientation = {};     // axis codes that images are turned to; "": the commonest
  bool accept_misaligned = false;   // as `DataSet::accept_misaligned`
  bool operator==(const DataOptions&) const = default;
};

/// As members "planner", "orientation" and "accept_misaligned" of a run's record. What a record of
/// before does not have keeps its default. \throws Error(Input) naming the key.
void add_data_options(Json& record, const DataOptions& options);
DataOptions data_options_from_json(const JsonReader& record);

}  // namespace nas
