// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/config_space/description.h"

#include <algorithm>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/text.h"
#include "search_spaces/config_space/component_file.h"
#include "search_spaces/config_space/mmar.h"
#include "search_spaces/config_space/resolve.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFormat = "voxnas.training";

/// Whether some "{name}" takes a first-level value of the user's own.
bool is_named(const Json& root, const std::string& key) {
  return root.dump().find("{" + key + "}") != std::string::npos;
}

void check_own_keys(const Json& root, const std::string& where) {
  std::vector<std::string> known = own_keys();
  known.emplace_back("search");
  known.emplace_back("lr_search");
  for (const auto& item : root.items()) {
    const bool own = item.value().is_primitive() && is_named(root, item.key());
    if (own || item.key().starts_with(kParked)) known.push_back(item.key());
  }
  JsonReader(root, where).check_keys(known);
}

Json controller_args(const JsonReader& controller) {
  return controller.has("args") ? controller.at("args").json() : Json::object();
}

}  // namespace

TrainingDescription make_description(Json root, Json environment, std::string where) {
  TrainingDescription result;
  result.mmar = is_mmar(root, where);
  if (!result.mmar) {
    const JsonReader reader(root, where);
    NAS_CHECK(reader.has("format"),
              where,
              ": expected \"format\": \"",
              kFormat,
              "\", or the block \"train\" of Clara's configurations, found neither");
    NAS_CHECK(reader.at("format").text() == kFormat,
              reader.at("format").where(),
              ": expected ",
              kFormat,
              ", found '",
              reader.at("format").text(),
              "'");
    NAS_CHECK(reader.at("version").integer() == 1,
              reader.at("version").where(),
              ": expected 1, found ",
              reader.at("version").integer());
    check_own_keys(root, where);
  }
  result.rules = find_search_rules(root, where);
  result.root = std::move(root);
  result.environment = std::move(environment);
  result.folder = fs::absolute(where).parent_path();
  result.where = std::move(where);
  return result;
}

Json TrainingDescription::resolved(const std::vector<std::optional<Json>>& values) const {
  Json tree = resolve_description(
      root, environment, rules, values, mmar ? mmar_singles() : own_singles(), where);
  resolve_component_files(tree, mmar ? mmar_file_places() : own_file_places(), folder);
  return tree;
}

Json TrainingDescription::concrete(const std::vector<std::optional<Json>>& values,
                                   std::vector<std::string>* notes) const {
  Json tree = resolved(values);
  check_component_files(tree, mmar ? mmar_file_places() : own_file_places(), where);
  if (!mmar) {
    for (auto item = tree.begin(); item != tree.end();) {
      const bool own = std::ranges::find(own_keys(), item.key()) != own_keys().end();
      item = own ? std::next(item) : tree.erase(item);
    }
    return tree;
  }
  std::vector<std::string> unheard;
  return from_mmar(tree, where, notes ? *notes : unheard);
}

AutomlSettings read_automl_settings(const Json& value, const std::string& where) {
  AutomlSettings result;
  const JsonReader reader(value, where);
  const auto refuse_python = [&](const JsonReader& component, const char* what) {
    NAS_CHECK(!component.has("path"),
              component.where(),
              ": ",
              what,
              " '",
              component.has("path") ? component.at("path").json().dump() : "",
              "' brings Python code, which is not run; a ",
              what,
              " of your own takes part as a process that speaks JSON lines (docs/extending.md)");
  };
  if (reader.has("controller")) {
    const JsonReader controller = reader.at("controller");
    refuse_python(controller, "controller");
    const std::string name = controller.at("name").text();
    const std::vector<std::pair<std::string, std::string>> known{{"ReinforcementController", "rl"},
                                                                 {"EnumController", "enum"},
                                                                 {"RandomController", "random"}};
    std::vector<std::string> names;
    for (const auto& [theirs, ours] : known) {
      names.push_back(theirs);
      if (name == theirs) result.controller = ours;
    }
    NAS_CHECK(!result.controller.empty(),
              controller.at("name").where(),
              ": expected one of ",
              joined(names),
              ", found '",
              name,
              "'",
              did_you_mean(name, names));
    const Json args = controller_args(controller);
    const JsonReader read(args, controller.where() + ".args");
    if (read.has("max_rounds")) result.max_rounds = read.at("max_rounds").integer(1, 1'000'000);
  }
  if (!reader.has("handlers")) return result;
  const JsonReader handlers = reader.at("handlers");
  for (std::size_t i = 0; i < handlers.size(); ++i) {
    const JsonReader handler = handlers.at(i);
    refuse_python(handler, "handler");
    const std::string name = handler.at("name").text();
    const Json args = controller_args(handler);
    const JsonReader read(args, handler.where() + ".args");
    if (name == "MMARHandler") {
      if (read.has("num_mmars_to_keep"))
        result.keep = read.at("num_mmars_to_keep").integer(1, 1'000'000);
      if (read.has("stop_threshold") && read.at("stop_threshold").number() < 1)
        result.stop_at = read.at("stop_threshold").number();
    } else {
      result.notes.push_back(handler.where() + ": VoxNAS writes its own log and curves");
    }
  }
  return result;
}

AutomlFiles read_automl_files(const fs::path& config, const std::string& name) {
  AutomlFiles files;
  fs::path file = config, folder = config.parent_path();
  if (fs::is_directory(config)) {
    folder = config / "config";
    NAS_CHECK(fs::is_directory(folder),
              config.string(),
              ": expected a training description or the folder of an MMAR, which has a folder "
              "\"config\"; found a folder without one");
    file = folder / (name.empty() ? "config_train.json" : name);
    if (const fs::path automl = folder / "config_automl.json"; fs::is_regular_file(automl))
      files.automl = read_automl_settings(read_json(automl), automl.string());
  } else {
    NAS_CHECK_KIND(Usage,
                   name.empty(),
                   "--config names a file within an MMAR; ",
                   config.string(),
                   " is a file already");
  }
  if (!fs::is_regular_file(file)) {
    std::vector<std::string> there;
    std::error_code none;
    for (const auto& entry : fs::directory_iterator(folder.empty() ? "." : folder, none)) {
      if (entry.path().extension() == ".json") there.push_back(entry.path().filename().string());
    }
    std::ranges::sort(there);
    fail(ErrorKind::Io,
         file.string(),
         ": no such file",
         there.empty() ? "" : "; beside it are " + joined(there),
         did_you_mean(file.filename().string(), there));
  }
  Json root = read_json(file, 16 << 20);
  Json environment = Json::object();
  if (is_mmar(root, file.string())) {
    if (const fs::path beside = folder / "environment.json"; fs::is_regular_file(beside)) {
      environment = read_json(beside, 16 << 20);
      NAS_CHECK(environment.is_object(), beside.string(), ": expected an object");
    }
  }
  files.description = make_description(std::move(root), std::move(environment), file.string());
  return files;
}

}  // namespace nas
