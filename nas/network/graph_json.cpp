// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <filesystem>
#include <limits>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/hash.h"
#include "nas/network/file_nodes.h"
#include "nas/network/graph.h"
#include "nas/network/operations.h"

namespace nas {
namespace {

constexpr std::size_t kMaxNodes = 100'000;
constexpr int kMaxDepth = 8;
constexpr std::int64_t kMaxFileBytes = 64 << 20;

Json attribute_json(const Attribute& value) {
  return std::visit([](const auto& held) { return Json(held); }, value);
}

Json node_json(const Node& node);

Json nodes_json(const Graph& graph) {
  Json nodes = Json::array();
  for (const Node& node : graph.nodes) nodes.push_back(node_json(node));
  return nodes;
}

Json node_json(const Node& node) {
  Json out{{"op", node.op}, {"name", node.name}, {"inputs", node.inputs}};
  for (const auto& [name, value] : node.attributes) out["attributes"][name] = attribute_json(value);
  for (const Graph& alternative : node.alternatives) {
    Json inner{{"nodes", nodes_json(alternative)}};
    if (!alternative.name.empty()) inner["name"] = alternative.name;
    out["alternatives"].push_back(std::move(inner));
  }
  return out;
}

[[noreturn]] void reject(const std::string& where, const std::string& expected, const Json& found) {
  std::string text = found.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 60) + "...";
  fail(ErrorKind::Input, where, ": expected ", expected, ", found ", text);
}

const Json& member(const Json& object, const char* key, const std::string& where) {
  if (!object.is_object())
    fail(ErrorKind::Input, where, ": expected an object, found ", object.type_name());
  const auto found = object.find(key);
  NAS_CHECK(found != object.end(), where, ": key \"", key, "\" is missing");
  return *found;
}

void check_keys(const Json& object,
                std::initializer_list<std::string_view> known,
                const std::string& where) {
  for (const auto& [key, value] : object.items()) {
    bool good = false;
    for (const std::string_view name : known) good = good || key == name;
    NAS_CHECK(good, where, ": unknown key \"", key.substr(0, 64), "\"");
  }
}

std::string text(const Json& value, const std::string& where, std::size_t longest) {
  if (!value.is_string()) reject(where, "text", value);
  const auto& held = value.get_ref<const std::string&>();
  NAS_CHECK(held.size() <= longest,
            where,
            ": expected at most ",
            longest,
            " characters, found ",
            held.size());
  return held;
}

std::int64_t integer(const Json& value, const std::string& where) {
  if (!value.is_number_integer() ||
      (value.is_number_unsigned() &&
       value.get<std::uint64_t>() >
           static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))) {
    reject(where, "a 64-bit integer", value);
  }
  return value.get<std::int64_t>();
}

double number(const Json& value, const std::string& where) {
  if (!value.is_number()) reject(where, "a number", value);
  const double held = value.get<double>();
  if (!std::isfinite(held)) reject(where, "a finite number", value);
  return held;
}

Attribute attribute(const Json& value, const std::string& where) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_string()) return text(value, where, 1024);  // a path may be long
  if (value.is_number_integer()) return integer(value, where);
  if (value.is_number()) return number(value, where);
  if (!value.is_array()) reject(where, "a number, true or false, text or a list of numbers", value);
  NAS_CHECK(value.size() <= 64, where, ": expected at most 64 elements, found ", value.size());
  bool whole = true;
  for (const Json& item : value) whole = whole && item.is_number_integer();
  std::vector<std::int64_t> integers;
  std::vector<double> numbers;
  for (const Json& item : value) {
    if (whole) {
      integers.push_back(integer(item, where));
    } else {
      numbers.push_back(number(item, where));
    }
  }
  if (whole) return integers;
  return numbers;
}

Graph read_nodes(const Json& object, const std::string& where, int depth, std::size_t& budget);

Node read_node(const Json& object, const std::string& where, int depth, std::size_t& budget) {
  Node node;
  node.op = text(member(object, "op", where), where + ".op", 64);
  node.name = text(member(object, "name", where), where + ".name", 256);
  check_keys(object, {"op", "name", "inputs", "attributes", "alternatives"}, where);
  if (const auto inputs = object.find("inputs"); inputs != object.end()) {
    if (!inputs->is_array()) reject(where + ".inputs", "a list of node indices", *inputs);
    for (const Json& item : *inputs) {
      const std::int64_t index = integer(item, where + ".inputs");
      if (index < 0 || index >= static_cast<std::int64_t>(kMaxNodes)) {
        reject(where + ".inputs", "the index of an earlier node", item);
      }
      node.inputs.push_back(static_cast<int>(index));
    }
  }
  if (const auto attributes = object.find("attributes"); attributes != object.end()) {
    if (!attributes->is_object()) reject(where + ".attributes", "an object", *attributes);
    for (const auto& [name, value] : attributes->items()) {
      node.attributes[name] = attribute(value, where + ".attributes." + name.substr(0, 64));
    }
  }
  if (const auto alternatives = object.find("alternatives"); alternatives != object.end()) {
    if (!alternatives->is_array())
      reject(where + ".alternatives", "a list of graphs", *alternatives);
    for (std::size_t k = 0; k < alternatives->size(); ++k) {
      const std::string inner = where + ".alternatives[" + std::to_string(k) + "]";
      const Json& alternative = (*alternatives)[k];
      if (!alternative.is_object()) reject(inner, "an object with \"nodes\"", alternative);
      check_keys(alternative, {"name", "nodes"}, inner);
      node.alternatives.push_back(read_nodes(alternative, inner, depth + 1, budget));
    }
  }
  try {
    if (node.op != "choice") canonicalize_attributes(node);
  } catch (const Error& error) {
    throw Error(error.kind(), where + ": " + error.what());
  }
  return node;
}

Graph read_nodes(const Json& object, const std::string& where, int depth, std::size_t& budget) {
  NAS_CHECK(depth <= kMaxDepth, where, ": choices are nested deeper than ", kMaxDepth);
  Graph graph;
  if (object.contains("name")) graph.name = text(object["name"], where + ".name", 256);
  const Json& nodes = member(object, "nodes", where);
  if (!nodes.is_array()) reject(where + ".nodes", "a list", nodes);
  NAS_CHECK(nodes.size() <= budget, where, ": more than ", kMaxNodes, " nodes");
  budget -= nodes.size();
  graph.nodes.reserve(nodes.size());
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    graph.nodes.push_back(
        read_node(nodes[i], where + ".nodes[" + std::to_string(i) + "]", depth, budget));
  }
  return graph;
}

}  // namespace

Json to_json(const Graph& graph) {
  return Json{{"format", "voxnas.graph"},
              {"version", 1},
              {"name", graph.name},
              {"nodes", nodes_json(graph)}};
}

Graph graph_from_json(const Json& value, const std::string& where) {
  if (!value.is_object())
    fail(ErrorKind::Input, where, ": expected a graph (an object), found ", value.type_name());
  const Json& format = member(value, "format", where);
  if (format != "voxnas.graph") reject(where + ".format", "\"voxnas.graph\"", format);
  const Json& version = member(value, "version", where);
  if (version != 1) reject(where + ".version", "1", version);
  check_keys(value, {"format", "version", "name", "nodes"}, where);
  std::size_t budget = kMaxNodes;
  Graph graph = read_nodes(value, where, 0, budget);
  try {
    validate(graph);
  } catch (const Error& error) {
    throw Error(error.kind(), where + ": " + error.what());
  }
  return graph;
}

Graph read_graph(const std::string& file) {
  Graph graph = graph_from_json(read_json(file, kMaxFileBytes), file);
  resolve_files(graph, std::filesystem::path(file).parent_path().string());
  return graph;
}

void write_graph(const std::string& file, const Graph& graph) {
  validate(graph);
  write_json(
      file,
      to_json(with_relative_files(graph, std::filesystem::path(file).parent_path().string())));
}

std::string graph_id(const Graph& graph) {
  const bool files = file_node(graph) != nullptr;
  return hash_hex(nodes_json(files ? without_files(graph) : graph).dump()).substr(0, 16);
}

}  // namespace nas
