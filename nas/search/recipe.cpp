// SPDX-License-Identifier: Apache-2.0
#include "nas/search/recipe.h"

#include <algorithm>
#include <set>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"

namespace nas {
namespace {

Recipe random_recipe() {
  Recipe recipe;
  recipe.name = "random";
  StageSpec search;
  search.name = "search";
  search.kind = "random";
  search.share = 0.3;
  StageSpec last;
  last.name = "final";
  last.kind = "retrain";
  last.share = 0.7;
  recipe.stages = {search, last};
  return recipe;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

double positive(const JsonReader& reader, double high) {
  const double value = reader.number();
  NAS_CHECK(value > 0 && value <= high,
            reader.where(),
            ": expected a number in (0, ",
            high,
            "], found ",
            value);
  return value;
}

StageSpec stage_from_json(const JsonReader& reader, const std::vector<std::string>& kinds) {
  reader.check_keys({"name", "kind", "share", "groups", "trials", "rungs", "keep"});
  StageSpec stage;
  stage.name = reader.at("name").text();
  NAS_CHECK(!stage.name.empty(), reader.where(), ".name: expected a name, found \"\"");
  stage.kind = reader.at("kind").text();
  if (std::find(kinds.begin(), kinds.end(), stage.kind) == kinds.end()) {
    const std::string nearest = nearest_word(stage.kind, kinds);
    fail(ErrorKind::Usage,
         reader.where(),
         ".kind: unknown stage kind \"",
         stage.kind,
         "\"",
         nearest.empty() ? "" : "; did you mean \"" + nearest + "\"?",
         " Known: ",
         joined(kinds));
  }
  stage.share = positive(reader.at("share"), 1e6);
  if (reader.has("groups")) stage.groups = reader.at("groups").texts();
  if (reader.has("trials")) stage.trials = reader.at("trials").integer(0, 100000);
  if (reader.has("rungs")) stage.rungs = reader.at("rungs").integer(0, 16);
  if (reader.has("keep")) {
    stage.keep = positive(reader.at("keep"), 1);
    NAS_CHECK(stage.keep < 1, reader.where(), ".keep: expected a number below 1, found 1");
  }
  return stage;
}

}  // namespace

Json to_json(const Recipe& recipe) {
  Json stages = Json::array();
  for (const StageSpec& stage : recipe.stages) {
    Json item = {{"name", stage.name}, {"kind", stage.kind}, {"share", stage.share}};
    if (stage.kind != "retrain") {
      item["groups"] = stage.groups;
      item["trials"] = stage.trials;
      item["rungs"] = stage.rungs;
      item["keep"] = stage.keep;
    }
    stages.push_back(std::move(item));
  }
  return {{"format", "voxnas.recipe"},
          {"version", 1},
          {"name", recipe.name},
          {"space", recipe.space},
          {"validation", recipe.validation},
          {"stages", std::move(stages)}};
}

Recipe recipe_from_json(const Json& value,
                        const std::string& where,
                        const std::vector<std::string>& strategies) {
  const JsonReader reader(value, where);
  reader.check_keys({"format", "version", "name", "space", "validation", "stages"});
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
  if (reader.has("validation")) recipe.validation = positive(reader.at("validation"), 0.5);
  std::vector<std::string> kinds = strategies;
  kinds.push_back("retrain");
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
    NAS_CHECK(last == (stage.kind == "retrain"),
              stages.where(),
              "[",
              i,
              "].kind: the last stage, and only the last, must be \"retrain\"; found \"",
              stage.kind,
              "\"");
  }
  NAS_CHECK(recipe.stages.size() >= 2,
            stages.where(),
            ": expected at least one search stage and a final \"retrain\", found ",
            recipe.stages.size());
  return recipe;
}

std::vector<std::string> recipe_names() { return {"random"}; }

Recipe load_recipe(const std::string& name_or_file, const std::vector<std::string>& strategies) {
  if (name_or_file == "random") return random_recipe();
  if (!std::filesystem::is_regular_file(name_or_file)) {
    const std::string nearest = nearest_word(name_or_file, recipe_names());
    fail(ErrorKind::Usage,
         "recipe \"",
         name_or_file,
         "\" is neither built in (",
         joined(recipe_names()),
         ") nor a file",
         nearest.empty() ? "" : "; did you mean \"" + nearest + "\"?");
  }
  return recipe_from_json(read_json(name_or_file, 1 << 20), name_or_file, strategies);
}

}  // namespace nas
