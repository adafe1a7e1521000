// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/planned_unet/data_options.h"

#include <nlohmann/json.hpp>

namespace nas {

void add_data_options(Json& record, const DataOptions& options) {
  record["planner"] = options.planner;
  record["orientation"] = options.orientation;
  record["accept_misaligned"] = options.accept_misaligned;
}

DataOptions data_options_from_json(const JsonReader& record) {
  DataOptions options;
  if (record.has("planner")) options.planner = record.at("planner").text();
  if (record.has("orientation")) options.orientation = record.at("orientation").text();
  if (record.has("accept_misaligned")) {
    options.accept_misaligned = record.at("accept_misaligned").boolean();
  }
  return options;
}

}  // namespace nas
