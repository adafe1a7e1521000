// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "nas/core/json.h"
#include "nas/search/limits.h"

namespace nas {

/// One stage of a search. Kinds: "random", "regularized", "clustered", "single_path",
/// "differentiable", "scaling" (the strategy table) and "retrain". A key that a kind does not use
/// is an error in a recipe file.
struct StageSpec {
  std::string name;                 // unique in the recipe
  std::string kind;                 // a name of the strategy table, or "retrain"
  double share = 0;                 // of the budget, relative to the other stages; > 0
  std::vector<std::string> groups;  // gene groups that may change; empty: all but "network"
  bool control = false;  // equal-budget control: starts from the space's start, inherits nothing,
                         // and its winner is retrained beside best and baseline

  // Own trainings (random, regularized, clustered, scaling).
  std::int64_t trials =
      0;  // trials in the first rung, the baseline included; 0: chosen from the budget
  std::int64_t rungs = 0;     // random: levels of successive halving; 0: from the number of trials
  double keep = 1.0 / 3;      // random: share of a rung that is promoted, (0, 1)
  std::int64_t clusters = 8;  // clustered: K
  /// regularized: what a parent should keep small beside its score (cost_objectives()); parents are
  /// then compared by non-dominated front. Empty: by score alone.
  std::vector<std::string> objectives;

  // Super-networks (single_path, differentiable).
  double supernet_share = 0.55;        // of the stage: training the super-network, (0, 1)
  double rank_share = 0.3;             // of the stage: own trainings that check the ranking, [0, 1)
  std::int64_t rank_trials = 8;        // at most; fewer where the budget cannot pay
  std::int64_t candidates = 0;         // single_path: inherited scorings; 0: from the budget
  std::string search = "auto";         // single_path: "auto", "random", "regularized", "exhaustive"
  std::string on_unranked = "direct";  // where the interval of Kendall's tau includes 0: "direct"
                                       // (the best by own training wins) or "continue"
  std::string merge = "none";          // differentiable: "none", "exact" (branches) or "mixed" (one
                                       // convolution; needs norms after the choice)
  std::int64_t order = 1;              // differentiable: 1, or 2 (unrolled step)
  double warmup = 0.3;  // differentiable: share of the steps before alpha moves, [0, 1)

  bool warm_start = false;  // scaling, retrain: start from the last super-network's weights

  bool operator==(const StageSpec&) const = default;
  bool is_retrain() const { return kind == "retrain"; }
  bool is_supernet() const { return kind == "single_path" || kind == "differentiable"; }
};

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
  Limits limits;
  std::vector<StageSpec> stages;  // the last one is of kind "retrain", no other
  bool operator==(const Recipe&) const = default;
};

Json to_json(const Recipe& recipe);
/// Unknown keys are errors that name the key's path and the nearest known name. \throws
/// Error(Usage|Input).
Recipe recipe_from_json(const Json& value,
                        const std::string& where,
                        const std::vector<std::string>& strategies);

/// Built-in recipes: "random", "c2fnas", "vnas", "combined".
std::vector<std::string> recipe_names();
/// A built-in name or a JSON file. \throws Error(Usage) if it is neither.
Recipe load_recipe(const std::string& name_or_file, const std::vector<std::string>& strategies);

/// Adds a random search over all groups of the space as a control that may spend as much as all
/// search stages together; its winner is retrained beside best and baseline. \throws Error(Usage)
/// if there is one already.
void add_random_control(Recipe& recipe);
/// Adds a stage that searches the group "training" from the winner of the stages before, with a
/// quarter of their share. \throws Error(Usage) if a stage searches it already.
void add_training_search(Recipe& recipe);

}  // namespace nas
