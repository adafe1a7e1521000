// SPDX-License-Identifier: Apache-2.0
#include "nas/network/file_nodes.h"

#include <filesystem>
#include <functional>

#include "nas/core/error.h"
#include "nas/core/hash.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

void change_files(Graph& graph, const std::function<std::string(const std::string&)>& change) {
  for (Node& node : graph.nodes) {
    if (node.op == kScriptOp) {
      Attribute& file = node.attributes.at(kScriptFile);
      file = change(std::get<std::string>(file));
    }
    for (Graph& alternative : node.alternatives) change_files(alternative, change);
  }
}

}  // namespace

const Node* file_node(const Graph& graph) {
  for (const Node& node : graph.nodes) {
    if (node.op == kScriptOp) return &node;
    for (const Graph& alternative : node.alternatives) {
      if (const Node* found = file_node(alternative)) return found;
    }
  }
  return nullptr;
}

void refuse_file_nodes(const Graph& graph, std::string_view form) {
  const Node* node = file_node(graph);
  NAS_CHECK_KIND(Usage,
                 node == nullptr,
                 "network '",
                 graph.name,
                 "' is a TorchScript file: it cannot be written as ",
                 form,
                 ", only as torchscript or safetensors");
}

Graph torchscript_network(const std::string& file,
                          std::int64_t channels,
                          std::int64_t classes,
                          const std::string& settings) {
  const fs::path path = fs::absolute(file).lexically_normal();
  Graph graph;
  graph.name = path.stem().string();
  const int image = graph.add("input", "image", {}, {{"channels", channels}});
  const int network = graph.add(
      kScriptOp,
      "network",
      {image},
      {{kScriptFile, path.string()}, {"hash", hash_file(path)}, {"out_channels", classes}});
  if (!settings.empty()) {
    graph.nodes[static_cast<std::size_t>(network)].attributes["settings"] = settings;
  }
  graph.add("output", "seg0", {network});
  return graph;
}

void resolve_files(Graph& graph, const std::string& folder) {
  const fs::path base = fs::absolute(folder.empty() ? "." : folder);
  change_files(graph, [&](const std::string& path) {
    return (base / path).lexically_normal().string();  // an absolute one stays
  });
}

Graph with_relative_files(Graph graph, const std::string& folder) {
  const fs::path base = fs::absolute(folder.empty() ? "." : folder).lexically_normal();
  change_files(graph, [&](const std::string& path) {
    const fs::path relative = fs::path(path).lexically_relative(base);
    const bool below = !relative.empty() && *relative.begin() != "..";
    return below ? relative.string() : path;
  });
  return graph;
}

Graph without_files(Graph graph) {
  change_files(graph, [](const std::string&) { return std::string(); });
  return graph;
}

}  // namespace nas
