// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "nas/core/json.h"
#include "nas/search/search_space.h"
#include "search_spaces/config_space/resolve.h"
#include "search_spaces/planned_unet/plan.h"

namespace nas {

/// How images become network input where a description says so: once for all trials. Axes D H W.
struct DataSetup {
  std::optional<Vec3> spacing;  // mm
  std::string orientation;      // axis codes; "": as planned
  /// "clip" to [low, high] and bring that to [to_low, to_high]; "zscore" of each image; "": planned.
  std::string intensity;
  double low = 0, high = 1, to_low = 0, to_high = 1;
  bool nonzero = false;  // zscore over voxels that are not 0
  bool operator==(const DataSetup&) const = default;
};
/// The plan with these settings. \param configuration of the plan.
void apply_data_setup(const DataSetup& setup, Plan& plan, const std::string& configuration);

/// A concrete description in our own form, read.
struct ConcreteTraining {
  Json network;            // {"name", "args"}, or {"path", "args"}
  Json options;            // changes of training options (adjust_train_options)
  Extent3 patch{0, 0, 0};  // voxels, D H W; 0: planned
  std::int64_t batch = 0;  // 0: planned
  DataSetup data;
  std::int64_t steps = 0;  // 0: not said
  double epochs = 0;       // 0: not said
  double cases_per_step = 0;
  std::optional<std::int64_t> seed;
  std::optional<double> validation;  // share of the training cases that scores trials
  std::string metric = "dice";       // by what, of metric_table()
};

/// The first-level keys of our own form.
const std::vector<std::string>& own_keys();
/// The places of components in our own form.
const std::vector<SinglePlace>& own_singles();

/// Reads what resolve_description gave for our own form, or from_mmar().
/// \param training_cases how many there are: an epoch is each of them once. \throws
/// Error(Input|Usage) with the path, what was expected and the nearest known word.
ConcreteTraining read_concrete(const Json& tree,
                               std::int64_t training_cases,
                               const std::string& where);

/// The network of a description for the planned configuration's channels and classes.
/// \param make_space makes a space from its description: networks are also points of spaces.
Graph make_described_network(const Json& network,
                             const Configuration& planned,
                             const Extent3& patch,
                             std::unique_ptr<SearchSpace> (*make_space)(const Json&),
                             const std::string& where);

}  // namespace nas
