// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "nas/core/json.h"
#include "nas/search/limits.h"
#include "nas/search/stage.h"

namespace nas {

/// A search as data. In the file:
///   {"format": "voxnas.recipe", "version": 1, "name": "random", "space": "unet",
///    "space_options": {}, "validation": 0.2, "limits": {"max_parameters": 4000000},
///    "stages": [{"name": "search", "kind": "random", "share": 0.3, "trials": 0},
///               {"name": "final", "kind": "retrain", "share": 0.7}]}
struct Recipe {
  std::string name;
  std::string space = "unet";  // a name of space_names()
  std::string space_options =
      "{}";                 // JSON text: options of the space, e.g. {"operations":"slides"}
  double validation = 0.2;  // share of the training cases that scores search trials, (0, 0.5]
  /// By what they are scored there, a name of metric_table() (nas/imaging/metrics.h); of distances
  /// the score is the negative value.
  std::string metric = "dice";
  Limits limits;
  std::vector<StageSpec> stages;  // the last one, and no other, is of a final kind
  bool operator==(const Recipe&) const = default;
};

/// Whether anything of the search depends on how long a training step takes: a limit, or a stage that
/// compares networks by it.
bool measures_step_times(const Recipe& recipe);

Json to_json(const Recipe& recipe);
/// \param kinds the table of all kinds. Unknown keys are errors that name the key's path and the
/// nearest known name. \throws Error(Usage|Input).
Recipe recipe_from_json(const Json& value, const std::string& where, const StrategyKinds& kinds);

/// Built-in recipes: "auto" (the default of `voxnas search`), "plan" (no search), "random", "c2fnas", "vnas", "combined".
std::vector<std::string> recipe_names();
/// A built-in name or a JSON file. \throws Error(Usage) if it is neither.
Recipe load_recipe(const std::string& name_or_file, const StrategyKinds& kinds);

/// Adds a random search over all groups of the space as a control that may spend as much as all
/// search stages together; its winner is retrained beside best and baseline. \throws Error(Usage)
/// if there is one already.
void add_random_control(Recipe& recipe);
/// Adds a stage that searches the group "training" from the winner of the stages before, with a
/// quarter of their share. \throws Error(Usage) if a stage searches it already.
void add_training_search(Recipe& recipe);

}  // namespace nas
