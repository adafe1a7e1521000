// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/config_space/component_file.h"

#include "nas/core/error.h"
#include "nas/network/file_nodes.h"
#include "nas/network/operations.h"
#include "search_spaces/config_space/search_rules.h"

namespace nas {
namespace {

namespace fs = std::filesystem;
using Pointer = Json::json_pointer;

void check_file(const std::string& path,
                const Pointer& at,
                const FilePlaces& places,
                const std::string& where) {
  const std::string here = where + ": " + path_text(at / "path") + ": '" + path + "'";
  NAS_CHECK(
      is_script_path(path) || is_graph_path(path),
      here,
      " brings Python code, which is not run; a network or loss written in PyTorch takes "
      "part as TorchScript (\"path\": \"my_network.ts\", made by torch.jit.script), a program "
      "of your own as a process that speaks JSON lines (docs/extending.md)");
  NAS_CHECK(at == places.network || at == places.loss,
            here,
            ": files take part as network (",
            path_text(places.network),
            ") and loss (",
            path_text(places.loss),
            ") only");
  NAS_CHECK(at == places.network || is_script_path(path),
            here,
            ": expected a TorchScript file *.ts as loss");
}

}  // namespace

FilePlaces own_file_places() { return {Pointer("/network"), Pointer("/loss")}; }
FilePlaces mmar_file_places() { return {Pointer("/train/model"), Pointer("/train/loss")}; }

bool is_script_path(const std::string& path) { return path.ends_with(".ts"); }
bool is_graph_path(const std::string& path) { return path.ends_with(".json"); }

void resolve_component_files(Json& tree, const FilePlaces& places, const fs::path& folder) {
  for (const Pointer& at : {places.network, places.loss}) {
    if (!tree.contains(at) || !tree[at].is_object() || !tree[at].contains("path")) continue;
    Json& path = tree[at]["path"];
    if (!path.is_string()) continue;
    const std::string file = path.get<std::string>();
    if (is_script_path(file) || is_graph_path(file))
      path = (folder / file).lexically_normal().string();  // an absolute one stays
  }
}

void check_component_files(const Json& tree, const FilePlaces& places, const std::string& where) {
  const auto walk = [&](const auto& self, const Json& value, const Pointer& at) -> void {
    if (value.is_array()) {
      for (std::size_t i = 0; i < value.size(); ++i) self(self, value[i], at / i);
    } else if (value.is_object()) {
      if (value.contains("path") && value["path"].is_string())
        check_file(value["path"].get<std::string>(), at, places, where);
      for (const auto& item : value.items()) {
        if (item.key() != "args") self(self, item.value(), at / item.key());
      }
    }
  };
  walk(walk, tree, Pointer());
}

bool has_component_file(const JsonReader& component) {
  if (!component.has("path")) return false;
  const JsonReader path = component.at("path");
  NAS_CHECK_KIND(
      Io, fs::is_regular_file(path.text()), path.where(), ": there is no file ", path.text());
  return true;
}

std::string script_settings(const JsonReader& args) {
  for (const std::string& name : args.keys()) {
    const Json& value = args.at(name).json();
    NAS_CHECK(value.is_number() || value.is_boolean() || value.is_string(),
              args.at(name).where(),
              ": an arg of a TorchScript file sets an attribute of its module: expected a number, "
              "true or false, or text, found ",
              value.dump().substr(0, 60));
  }
  return args.json().empty() ? "" : args.json().dump();
}

Graph network_of_file(const std::string& file,
                      const JsonReader& args,
                      std::int64_t channels,
                      std::int64_t classes) {
  if (is_script_path(file)) {
    return torchscript_network(file, channels, classes, script_settings(args));
  }
  args.check_keys({});
  Graph graph = graph_from_json(read_json(file), file);
  resolve_files(graph, fs::path(file).parent_path().string());
  NAS_CHECK(graph.is_closed(), file, ": expected a network without open choices");
  const NetworkEnds ends = network_ends(graph);
  NAS_CHECK_KIND(Shape,
                 ends.channels == channels && ends.classes == classes,
                 file,
                 ": the network reads ",
                 ends.channels,
                 " channels and gives ",
                 ends.classes,
                 " classes; the data set has ",
                 channels,
                 " and ",
                 classes);
  return graph;
}

}  // namespace nas
