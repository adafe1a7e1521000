// SPDX-License-Identifier: Apache-2.0
#include "nas/search/recipe.h"

#include <algorithm>
#include <set>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/search/pareto.h"

namespace nas {
namespace {

const std::vector<std::string> kGroups = {"topology", "operations", "scale", "training"};

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

std::string did_you_mean(const std::string& word, const std::vector<std::string>& known) {
  const std::string nearest = nearest_word(word, known);
  return nearest.empty() ? "" : "; did you mean \"" + nearest + "\"?";
}

// ---------------------------------------------------------------- the keys of a stage

/// Which kinds of stage a key belongs to.
enum class For {
  All,
  Trained,
  Random,
  Regularized,
  Clustered,
  SuperNet,
  SinglePath,
  Differentiable,
  WarmStart
};

bool belongs(For which, const StageSpec& stage) {
  const std::string& kind = stage.kind;
  switch (which) {
    case For::All:
      return true;
    case For::Trained:
      return !stage.is_retrain() && !stage.is_supernet();
    case For::Random:
      return kind == "random";
    case For::Regularized:
      return kind == "regularized";
    case For::Clustered:
      return kind == "clustered";
    case For::SuperNet:
      return stage.is_supernet();
    case For::SinglePath:
      return kind == "single_path";
    case For::Differentiable:
      return kind == "differentiable";
    case For::WarmStart:
      return stage.is_retrain() || kind == "scaling";
  }
  return false;
}

/// One row a key: reading and writing cannot drift apart.
struct StageKey {
  const char* name;
  For which;
  void (*read)(StageSpec& stage, const JsonReader& value);
  Json (*write)(const StageSpec& stage);
};

double number_in(const JsonReader& value, double low, double high, bool low_open, bool high_open) {
  const double number = value.number();
  const bool fits =
      (low_open ? number > low : number >= low) && (high_open ? number < high : number <= high);
  NAS_CHECK(fits,
            value.where(),
            ": expected a number in ",
            low_open ? "(" : "[",
            low,
            ", ",
            high,
            high_open ? ")" : "]",
            ", found ",
            number);
  return number;
}

std::string word_of(const JsonReader& value, const std::vector<std::string>& words) {
  const std::string word = value.text();
  if (std::find(words.begin(), words.end(), word) == words.end()) {
    fail(ErrorKind::Usage,
         value.where(),
         ": expected ",
         joined(words),
         "; found \"",
         word,
         "\"",
         did_you_mean(word, words));
  }
  return word;
}

std::vector<std::string> words_of(const JsonReader& value, const std::vector<std::string>& words) {
  const std::vector<std::string> list = value.texts();
  for (std::size_t i = 0; i < list.size(); ++i) word_of(value.at(i), words);
  return list;
}

using R = const JsonReader&;
using S = const StageSpec&;
const StageKey kStageKeys[] = {
    {"share",
     For::All,
     [](StageSpec& s, R v) { s.share = number_in(v, 0, 1e6, true, false); },
     [](S s) { return Json(s.share); }},
    {"groups",
     For::All,
     [](StageSpec& s, R v) { s.groups = words_of(v, kGroups); },
     [](S s) { return Json(s.groups); }},
    {"control",
     For::Trained,
     [](StageSpec& s, R v) { s.control = v.boolean(); },
     [](S s) { return Json(s.control); }},
    {"trials",
     For::Trained,
     [](StageSpec& s, R v) { s.trials = v.integer(0, 100000); },
     [](S s) { return Json(s.trials); }},
    {"rungs",
     For::Random,
     [](StageSpec& s, R v) { s.rungs = v.integer(0, 16); },
     [](S s) { return Json(s.rungs); }},
    {"keep",
     For::Random,
     [](StageSpec& s, R v) { s.keep = number_in(v, 0, 1, true, true); },
     [](S s) { return Json(s.keep); }},
    {"objectives",
     For::Regularized,
     [](StageSpec& s, R v) { s.objectives = words_of(v, cost_objectives()); },
     [](S s) { return Json(s.objectives); }},
    {"clusters",
     For::Clustered,
     [](StageSpec& s, R v) { s.clusters = v.integer(1, 1000); },
     [](S s) { return Json(s.clusters); }},
    {"supernet_share",
     For::SuperNet,
     [](StageSpec& s, R v) { s.supernet_share = number_in(v, 0, 1, true, true); },
     [](S s) { return Json(s.supernet_share); }},
    {"rank_share",
     For::SuperNet,
     [](StageSpec& s, R v) { s.rank_share = number_in(v, 0, 1, false, true); },
     [](S s) { return Json(s.rank_share); }},
    {"rank_trials",
     For::SuperNet,
     [](StageSpec& s, R v) { s.rank_trials = v.integer(0, 1000); },
     [](S s) { return Json(s.rank_trials); }},
    {"candidates",
     For::SinglePath,
     [](StageSpec& s, R v) { s.candidates = v.integer(0, 10'000'000); },
     [](S s) { return Json(s.candidates); }},
    {"search",
     For::SinglePath,
     [](StageSpec& s, R v) {
       s.search = word_of(v, {"auto", "random", "regularized", "exhaustive"});
     },
     [](S s) { return Json(s.search); }},
    {"on_unranked",
     For::SuperNet,
     [](StageSpec& s, R v) {
       s.on_unranked = word_of(v, {"direct", "continue"});
     },
     [](S s) { return Json(s.on_unranked); }},
    {"merge",
     For::Differentiable,
     [](StageSpec& s, R v) {
       s.merge = word_of(v, {"none", "exact", "mixed"});
     },
     [](S s) { return Json(s.merge); }},
    {"order",
     For::Differentiable,
     [](StageSpec& s, R v) { s.order = v.integer(1, 2); },
     [](S s) { return Json(s.order); }},
    {"warmup",
     For::Differentiable,
     [](StageSpec& s, R v) { s.warmup = number_in(v, 0, 1, false, true); },
     [](S s) { return Json(s.warmup); }},
    {"warm_start",
     For::WarmStart,
     [](StageSpec& s, R v) { s.warm_start = v.boolean(); },
     [](S s) { return Json(s.warm_start); }},
};

StageSpec stage_from_json(const JsonReader& reader, const std::vector<std::string>& kinds) {
  StageSpec stage;
  stage.name = reader.at("name").text();
  NAS_CHECK(!stage.name.empty(), reader.where(), ".name: expected a name, found \"\"");
  stage.kind = word_of(reader.at("kind"), kinds);
  std::vector<std::string> known = {"name", "kind"};
  for (const StageKey& key : kStageKeys) {
    if (belongs(key.which, stage)) known.emplace_back(key.name);
  }
  reader.check_keys(known);
  reader.at("share");  // required
  for (const StageKey& key : kStageKeys) {
    if (reader.has(key.name)) key.read(stage, reader.at(key.name));
  }
  NAS_CHECK_KIND(Usage,
                 !stage.is_supernet() || stage.supernet_share + stage.rank_share < 1,
                 reader.where(),
                 ": supernet_share + rank_share: expected less than 1, so that candidates can be "
                 "scored; found ",
                 stage.supernet_share + stage.rank_share);
  return stage;
}

// ---------------------------------------------------------------- built-in recipes

StageSpec make_stage(const char* name,
                     const char* kind,
                     double share,
                     std::vector<std::string> groups = {}) {
  StageSpec stage;
  stage.name = name;
  stage.kind = kind;
  stage.share = share;
  stage.groups = std::move(groups);
  return stage;
}

Recipe random_recipe() {
  Recipe recipe;
  recipe.name = "random";
  recipe.stages = {make_stage("search", "random", 0.3), make_stage("final", "retrain", 0.7)};
  return recipe;
}

/// The published order (C2FNAS); shares and the limit are ours.
Recipe c2fnas_recipe() {
  Recipe recipe;
  recipe.name = "c2fnas";
  recipe.space = "c2fnas";
  recipe.limits.parameters_of_plan = 0.5;
  recipe.stages = {make_stage("macro", "clustered", 0.14, {"topology"}),
                   make_stage("cells", "single_path", 0.2, {"operations"}),
                   make_stage("scale", "scaling", 0.1, {"scale"}),
                   make_stage("final", "retrain", 0.56)};
  recipe.stages[2].warm_start = true;
  return recipe;
}

/// On the plan's own skeleton by default; "--space vnas" is the paper's.
Recipe vnas_recipe() {
  Recipe recipe;
  recipe.name = "vnas";
  recipe.space = "mixed-unet";
  recipe.limits.parameters_of_plan = 0.5;
  recipe.stages = {make_stage("alpha", "differentiable", 0.34, {"operations"}),
                   make_stage("final", "retrain", 0.66)};
  recipe.stages[0].merge = "exact";  // the same values, sooner
  return recipe;
}

Recipe combined_recipe() {
  Recipe recipe = c2fnas_recipe();
  recipe.name = "combined";
  recipe.stages[1] = make_stage("alpha", "differentiable", 0.2, {"operations"});
  recipe.stages[1].merge = "exact";
  return recipe;
}

struct BuiltIn {
  const char* name;
  Recipe (*make)();
};
constexpr BuiltIn kRecipes[] = {{"random", random_recipe},
                                {"c2fnas", c2fnas_recipe},
                                {"vnas", vnas_recipe},
                                {"combined", combined_recipe}};

double search_share(const Recipe& recipe) {
  double sum = 0;
  for (const StageSpec& stage : recipe.stages) {
    if (!stage.is_retrain() && !stage.control) sum += stage.share;
  }
  return sum;
}

}  // namespace

Json to_json(const Recipe& recipe) {
  Json stages = Json::array();
  for (const StageSpec& stage : recipe.stages) {
    Json item = {{"name", stage.name}, {"kind", stage.kind}};
    for (const StageKey& key : kStageKeys) {
      if (belongs(key.which, stage)) item[key.name] = key.write(stage);
    }
    stages.push_back(std::move(item));
  }
  return {{"format", "voxnas.recipe"},
          {"version", 1},
          {"name", recipe.name},
          {"space", recipe.space},
          {"space_options", parse_json(recipe.space_options, "recipe: space_options")},
          {"validation", recipe.validation},
          {"limits", to_json(recipe.limits)},
          {"stages", std::move(stages)}};
}

Recipe recipe_from_json(const Json& value,
                        const std::string& where,
                        const std::vector<std::string>& strategies) {
  const JsonReader reader(value, where);
  reader.check_keys({"format",
                     "version",
                     "name",
                     "description",
                     "space",
                     "space_options",
                     "validation",
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
    recipe.validation = number_in(reader.at("validation"), 0, 0.5, true, false);
  }
  if (reader.has("limits")) {
    recipe.limits = limits_from_json(reader.at("limits").json(), reader.at("limits").where());
  }
  std::vector<std::string> kinds = strategies;
  kinds.emplace_back("retrain");
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
    NAS_CHECK(last == stage.is_retrain(),
              stages.where(),
              "[",
              i,
              "].kind: the last stage, and only the last, must be \"retrain\"; found \"",
              stage.kind,
              "\"");
  }
  NAS_CHECK(search_share(recipe) > 0,
            stages.where(),
            ": expected at least one search stage and a final \"retrain\", found ",
            recipe.stages.size(),
            " stage(s)");
  return recipe;
}

std::vector<std::string> recipe_names() {
  std::vector<std::string> names;
  for (const BuiltIn& recipe : kRecipes) names.emplace_back(recipe.name);
  return names;
}

Recipe load_recipe(const std::string& name_or_file, const std::vector<std::string>& strategies) {
  for (const BuiltIn& recipe : kRecipes) {
    if (name_or_file == recipe.name) return recipe.make();
  }
  if (!std::filesystem::is_regular_file(name_or_file)) {
    fail(ErrorKind::Usage,
         "recipe \"",
         name_or_file,
         "\" is neither built in (",
         joined(recipe_names()),
         ") nor a file",
         did_you_mean(name_or_file, recipe_names()));
  }
  return recipe_from_json(read_json(name_or_file, 1 << 20), name_or_file, strategies);
}

void add_random_control(Recipe& recipe) {
  for (const StageSpec& stage : recipe.stages) {
    NAS_CHECK_KIND(Usage,
                   !stage.control && stage.name != "control",
                   "--control: the recipe has a control stage already (\"",
                   stage.name,
                   "\")");
  }
  StageSpec control = make_stage("control", "random", search_share(recipe));
  control.control = true;
  recipe.stages.insert(recipe.stages.end() - 1, control);
}

void add_training_search(Recipe& recipe) {
  for (const StageSpec& stage : recipe.stages) {
    const bool searched =
        std::find(stage.groups.begin(), stage.groups.end(), "training") != stage.groups.end();
    NAS_CHECK_KIND(Usage,
                   !searched && stage.name != "training",
                   "--search training: stage \"",
                   stage.name,
                   "\" of the recipe does so already");
  }
  const StageSpec stage =
      make_stage("training", "random", 0.25 * search_share(recipe), {"training"});
  recipe.stages.insert(recipe.stages.end() - 1, stage);
}

}  // namespace nas
