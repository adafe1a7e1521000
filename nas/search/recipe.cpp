// SPDX-License-Identifier: Apache-2.0
#include "nas/search/recipe.h"

#include <algorithm>
#include <set>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/text.h"
#include "nas/search/random_search.h"
#include "nas/search/strategy_kind.h"

namespace nas {
namespace {

const std::vector<std::string> kGroups = {"topology", "operations", "scale", "training"};

StopRules stop_rules_from_json(const JsonReader& reader) {
  reader.check_keys({"score", "trials", "patience"});
  StopRules rules;
  if (reader.has("score")) rules.score = reader.at("score").number();
  if (reader.has("trials")) rules.trials = reader.at("trials").integer(1, 1'000'000'000);
  if (reader.has("patience")) rules.patience = reader.at("patience").integer(1, 1'000'000'000);
  return rules;
}

PruneRule prune_rule_from_json(const JsonReader& reader) {
  reader.check_keys({"kind", "percentile", "startup", "threshold", "patience"});
  PruneRule rule;
  rule.kind = word_of(reader.at("kind"), prune_kinds());
  if (reader.has("percentile")) {
    rule.percentile = number_in(reader.at("percentile"),
                                {.low = 0, .high = 100, .low_open = true, .high_open = true});
  }
  if (reader.has("startup")) rule.startup = reader.at("startup").integer(1, 1'000'000);
  if (reader.has("threshold")) rule.threshold = reader.at("threshold").number();
  if (reader.has("patience")) rule.patience = reader.at("patience").integer(1, 1'000'000);
  return rule;
}

Json to_json(const PruneRule& rule) {
  return {{"kind", rule.kind},
          {"percentile", rule.percentile},
          {"startup", rule.startup},
          {"threshold", rule.threshold},
          {"patience", rule.patience}};
}

Json to_json(const StopRules& rules) {
  Json json = Json::object();
  if (rules.score) json["score"] = *rules.score;
  if (rules.trials > 0) json["trials"] = rules.trials;
  if (rules.patience > 0) json["patience"] = rules.patience;
  return json;
}

StageSpec stage_from_json(const JsonReader& reader, const StrategyKinds& kinds) {
  const std::string name = reader.at("name").text();
  NAS_CHECK(!name.empty(), reader.where(), ".name: expected a name, found \"\"");
  const StrategyKind& kind = *find_kind(kinds, word_of(reader.at("kind"), kind_names(kinds)));
  std::vector<std::string> known = {"name", "kind", "share", "groups", "async", "stop", "pruner"};
  if (kind.may_be_control) known.emplace_back("control");
  for (const StageOption& option : kind.options) known.push_back(option.name);
  reader.check_keys(known);
  StageSpec stage = make_stage(
      kind,
      name,
      number_in(reader.at("share"), {.low = 0, .high = 1e6, .low_open = true, .high_open = false}));
  if (reader.has("groups"))
    stage.groups = words_option("groups", kGroups).read(reader.at("groups"));
  if (reader.has("control")) stage.control = reader.at("control").boolean();
  if (reader.has("async")) stage.async = reader.at("async").boolean();
  if (reader.has("pruner")) stage.pruner = prune_rule_from_json(reader.at("pruner"));
  if (reader.has("stop")) stage.stop = stop_rules_from_json(reader.at("stop"));
  for (const StageOption& option : kind.options) {
    if (reader.has(option.name)) stage.options[option.name] = option.read(reader.at(option.name));
  }
  if (kind.check) kind.check(stage, reader.where());
  return stage;
}

// ---------------------------------------------------------------- built-in recipes

struct BuiltIn {
  const char* name;
  const char* text;  // of a recipe file
};
constexpr BuiltIn kRecipes[] = {
    // A portfolio and a race whose winner's training goes on; the plan takes part in the race, so
    // the choice is made before the final training, which learns from all training cases. A paper's
    // super-network comes before, where the space has one and its ranking can be checked: what it
    // finds takes part in the race too, so that the search cannot end below that.
    {"auto", R"({"format": "voxnas.recipe", "version": 1, "name": "auto", "space": "unet",
      "stages": [{"name": "cells", "kind": "single_path", "share": 0.3, "groups": ["operations"],
                  "rank_trials": 16, "optional": true},
                 {"name": "race", "kind": "race", "share": 0.3},
                 {"name": "final", "kind": "retrain", "share": 0.7, "all_cases": true,
                  "compare": "auto"}]})"},
    // No search: the planned network has all of the budget.
    {"plan", R"({"format": "voxnas.recipe", "version": 1, "name": "plan", "space": "unet",
      "stages": [{"name": "final", "kind": "retrain", "share": 1, "all_cases": true,
                  "compare": "no"}]})"},
    {"random", R"({"format": "voxnas.recipe", "version": 1, "name": "random", "space": "unet",
      "stages": [{"name": "search", "kind": "random", "share": 0.3},
                 {"name": "final", "kind": "retrain", "share": 0.7}]})"},
    // The published order (C2FNAS); shares and the limit are ours.
    {"c2fnas", R"({"format": "voxnas.recipe", "version": 1, "name": "c2fnas", "space": "c2fnas",
      "limits": {"parameters_of_plan": 0.5},
      "stages": [{"name": "macro", "kind": "clustered", "share": 0.14, "groups": ["topology"]},
                 {"name": "cells", "kind": "single_path", "share": 0.2, "groups": ["operations"]},
                 {"name": "scale", "kind": "scaling", "share": 0.1, "groups": ["scale"], "warm_start": true},
                 {"name": "final", "kind": "retrain", "share": 0.56}]})"},
    // On the plan's own skeleton by default; "--space vnas" is the paper's. Merging exactly gives
    // the same values, sooner.
    {"vnas", R"({"format": "voxnas.recipe", "version": 1, "name": "vnas", "space": "mixed-unet",
      "limits": {"parameters_of_plan": 0.5},
      "stages": [{"name": "alpha", "kind": "differentiable", "share": 0.34, "groups": ["operations"],
                  "merge": "exact"},
                 {"name": "final", "kind": "retrain", "share": 0.66}]})"},
    {"combined", R"({"format": "voxnas.recipe", "version": 1, "name": "combined", "space": "c2fnas",
      "limits": {"parameters_of_plan": 0.5},
      "stages": [{"name": "macro", "kind": "clustered", "share": 0.14, "groups": ["topology"]},
                 {"name": "alpha", "kind": "differentiable", "share": 0.2, "groups": ["operations"],
                  "merge": "exact"},
                 {"name": "scale", "kind": "scaling", "share": 0.1, "groups": ["scale"], "warm_start": true},
                 {"name": "final", "kind": "retrain", "share": 0.56}]})"},
    // Auto-nnU-Net's protocol (automl/AutoNNUnet; AutoML 2025) at any budget: PriorBand around
    // nnU-Net's settings, eta 3, the plan first and to the highest rung. Its space as far as there
    // are genes for it; its budget is 22 full trainings for the search.
    {"auto-nnunet",
     R"({"format": "voxnas.recipe", "version": 1, "name": "auto-nnunet", "space": "unet",
      "stages": [{"name": "search", "kind": "priorband", "share": 22, "eta": 3, "first": "top",
                  "groups": ["topology", "scale", "training"]},
                 {"name": "final", "kind": "retrain", "share": 2}]})"}};

std::string final_names(const StrategyKinds& kinds) {
  std::vector<std::string> names;
  for (const StrategyKind* kind : kinds) {
    if (kind->final) names.push_back(kind->name);
  }
  return joined(names);
}

double search_share(const Recipe& recipe) {
  double sum = 0;
  for (const StageSpec& stage : recipe.stages) {
    const bool optional = stage.options.value("optional", false);
    if (!stage.kind->final && !stage.control && !optional) sum += stage.share;
  }
  return sum;
}

}  // namespace

bool measures_step_times(const Recipe& recipe) {
  return recipe.limits.max_step_seconds > 0 ||
         std::ranges::any_of(recipe.stages, [](const StageSpec& stage) {
           return stage.kind->measures_step_time && stage.kind->measures_step_time(stage);
         });
}

Json to_json(const Recipe& recipe) {
  Json stages = Json::array();
  for (const StageSpec& stage : recipe.stages) {
    Json item = stage.options;
    item.update({{"name", stage.name},
                 {"kind", stage.kind->name},
                 {"share", stage.share},
                 {"groups", stage.groups}});
    if (stage.kind->may_be_control) item["control"] = stage.control;
    if (stage.async != stage.kind->async) item["async"] = stage.async;
    if (stage.pruner.any()) item["pruner"] = to_json(stage.pruner);
    if (stage.stop.any()) item["stop"] = to_json(stage.stop);
    stages.push_back(std::move(item));
  }
  Json json = {{"format", "voxnas.recipe"},
               {"version", 1},
               {"name", recipe.name},
               {"space", recipe.space},
               {"space_options", parse_json(recipe.space_options, "recipe: space_options")},
               {"validation", recipe.validation},
               {"limits", to_json(recipe.limits)},
               {"stages", std::move(stages)}};
  if (recipe.metric != Recipe{}.metric) json["metric"] = recipe.metric;
  return json;
}

Recipe recipe_from_json(const Json& value, const std::string& where, const StrategyKinds& kinds) {
  const JsonReader reader(value, where);
  reader.check_keys({"format",
                     "version",
                     "name",
                     "description",
                     "space",
                     "space_options",
                     "validation",
                     "metric",
                     "limits",
                     "stages"});
  const std::string format = reader.at("format").text();
  NAS_CHECK(format == "voxnas.recipe",
            where,
            ": format: expected \"voxnas.recipe\", found \"",
            format,
            "\"");
  reader.at("version").integer(1, 1);
  Recipe recipe;
  recipe.name = reader.at("name").text();
  if (reader.has("space")) recipe.space = reader.at("space").text();
  if (reader.has("space_options")) {
    reader.at("space_options").keys();  // must be an object; the space checks the rest
    recipe.space_options = reader.at("space_options").json().dump();
  }
  if (reader.has("validation")) {
    recipe.validation = number_in(reader.at("validation"),
                                  {.low = 0, .high = 0.5, .low_open = true, .high_open = false});
  }
  if (reader.has("metric")) recipe.metric = reader.at("metric").text();
  if (reader.has("limits")) {
    recipe.limits = limits_from_json(reader.at("limits").json(), reader.at("limits").where());
  }
  const JsonReader stages = reader.at("stages");
  NAS_CHECK(stages.json().is_array(), stages.where(), ": expected a list of stages");
  std::set<std::string> names;
  for (std::size_t i = 0; i < stages.size(); ++i) {
    recipe.stages.push_back(stage_from_json(stages.at(i), kinds));
    const StageSpec& stage = recipe.stages.back();
    NAS_CHECK(names.insert(stage.name).second,
              stages.where(),
              ": stage name \"",
              stage.name,
              "\" occurs twice");
    const bool last = i + 1 == stages.size();
    NAS_CHECK(last == stage.kind->final,
              stages.where(),
              "[",
              i,
              "].kind: the last stage, and only the last, must be \"",
              final_names(kinds),
              "\"; found \"",
              stage.kind->name,
              "\"");
  }
  NAS_CHECK(!recipe.stages.empty(),
            stages.where(),
            ": expected search stages and a final \"",
            final_names(kinds),
            "\", found none");
  return recipe;
}

std::vector<std::string> recipe_names() {
  std::vector<std::string> names;
  for (const BuiltIn& recipe : kRecipes) names.emplace_back(recipe.name);
  return names;
}

Recipe load_recipe(const std::string& name_or_file, const StrategyKinds& kinds) {
  for (const BuiltIn& recipe : kRecipes) {
    if (name_or_file != recipe.name) continue;
    const std::string where = concat_text("built-in recipe \"", recipe.name, "\"");
    return recipe_from_json(parse_json(recipe.text, where), where, kinds);
  }
  if (!std::filesystem::is_regular_file(name_or_file)) {
    fail(ErrorKind::Usage,
         "recipe \"",
         name_or_file,
         "\" is neither built in (",
         joined(recipe_names()),
         ") nor a file",
         did_you_mean(name_or_file, recipe_names(), "\""));
  }
  return recipe_from_json(read_json(name_or_file, 1 << 20), name_or_file, kinds);
}

namespace {

void check_searches(const Recipe& recipe, const char* option) {
  NAS_CHECK_KIND(Usage,
                 recipe.stages.size() > 1,
                 option,
                 ": recipe \"",
                 recipe.name,
                 "\" has no search to add to");
}

}  // namespace

void add_random_control(Recipe& recipe) {
  check_searches(recipe, "--control");
  for (const StageSpec& stage : recipe.stages) {
    NAS_CHECK_KIND(Usage,
                   !stage.control && stage.name != "control",
                   "--control: the recipe has a control stage already (\"",
                   stage.name,
                   "\")");
  }
  StageSpec control = make_stage(random_kind(), "control", search_share(recipe));
  control.control = true;
  recipe.stages.insert(recipe.stages.end() - 1, control);
}

void add_training_search(Recipe& recipe) {
  check_searches(recipe, "--search training");
  for (const StageSpec& stage : recipe.stages) {
    const bool searched =
        std::find(stage.groups.begin(), stage.groups.end(), "training") != stage.groups.end();
    NAS_CHECK_KIND(Usage,
                   !searched && stage.name != "training",
                   "--search training: stage \"",
                   stage.name,
                   "\" of the recipe does so already");
  }
  StageSpec stage = make_stage(random_kind(), "training", 0.25 * search_share(recipe));
  stage.groups = {"training"};
  recipe.stages.insert(recipe.stages.end() - 1, stage);
}

}  // namespace nas
