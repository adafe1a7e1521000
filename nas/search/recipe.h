// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "nas/core/json.h"

namespace nas {

/// One stage of a search.
struct StageSpec {
  std::string name;                 // unique in the recipe
  std::string kind;                 // a name of the strategy table ("random"), or "retrain"
  double share = 0;                 // of the budget, relative to the other stages; > 0
  std::vector<std::string> groups;  // gene groups that may change; empty: all
  std::int64_t trials =
      0;  // trials in the first rung, the baseline included; 0: chosen from the budget
  std::int64_t rungs = 0;  // levels of successive halving; 0: chosen from the number of trials
  double keep = 1.0 / 3;   // share of a rung that is promoted, (0, 1)
  bool operator==(const StageSpec&) const = default;
};

/// A search as data. In the file:
///   {"format": "voxnas.recipe", "version": 1, "name": "random", "space": "unet",
///    "validation": 0.2,
///    "stages": [{"name": "search", "kind": "random", "share": 0.3, "trials": 0, "rungs": 0,
///    "keep": 0.333},
///               {"name": "final", "kind": "retrain", "share": 0.7}]}
struct Recipe {
  std::string name;
  std::string space = "unet";     // a name of space_names()
  double validation = 0.2;        // share of the training cases that scores search trials, (0, 0.5]
  std::vector<StageSpec> stages;  // the last one is of kind "retrain", no other
  bool operator==(const Recipe&) const = default;
};

Json to_json(const Recipe& recipe);
/// Unknown keys are errors that name the key's path and the nearest known name. \throws
/// Error(Usage|Input).
Recipe recipe_from_json(const Json& value,
                        const std::string& where,
                        const std::vector<std::string>& strategies);

/// Built-in recipes: "random".
std::vector<std::string> recipe_names();
/// A built-in name or a JSON file. \throws Error(Usage) if it is neither.
Recipe load_recipe(const std::string& name_or_file, const std::vector<std::string>& strategies);

}  // namespace nas
