// SPDX-License-Identifier: Apache-2.0
#include "nas/network/summary.h"

#include <algorithm>
#include <array>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/quantity.h"
#include "nas/network/operations.h"

namespace nas {
namespace {

std::string times(const Extent3& e) {
  if (e[0] == e[1] && e[1] == e[2]) return std::to_string(e[0]) + "³";
  return std::to_string(e[0]) + "×" + std::to_string(e[1]) + "×" + std::to_string(e[2]);
}

/// Characters, not bytes: continuation bytes of UTF-8 take no column.
std::size_t columns(const std::string& text) {
  return static_cast<std::size_t>(
      std::ranges::count_if(text, [](char c) { return (c & 0xc0) != 0x80; }));
}

std::string grouped(std::int64_t number) {
  std::string digits = std::to_string(number);
  for (std::ptrdiff_t at = std::ssize(digits) - 3; at > 0; at -= 3)
    digits.insert(static_cast<std::size_t>(at), ",");
  return digits;
}

}  // namespace

std::string describe_node(const Node& node) {
  if (node.op == "choice") return "choice of " + std::to_string(node.alternatives.size());
  std::string text = node.op;
  std::ranges::replace(text, '_', ' ');
  for (const AttributeSpec& spec : operation(node).attributes) {
    if (spec.name == "kernel") {
      text += " " + times(attribute_extent(node, "kernel"));
    } else if (spec.name == "stride") {
      const Extent3 stride = attribute_extent(node, "stride");
      if (stride != Extent3{1, 1, 1}) text += " / " + times(stride);
    } else if (spec.name == "scale") {
      const Vec3 s = attribute_vec3(node, "scale");
      text += concat_text(" × ", s[0], " ", s[1], " ", s[2]);
    } else if (spec.name == "groups" && attribute_int(node, "groups") > 1) {
      text += " in " + std::to_string(attribute_int(node, "groups")) + " groups";
    }
  }
  return text;
}

Summary summarize(const Graph& graph, const Extent3& input_space, std::int64_t batch) {
  validate(graph);
  const std::vector<TensorShape> shapes = infer_shapes(graph, input_space);
  const std::vector<Cost> costs = node_costs(graph, input_space);
  Summary summary;
  summary.name = graph.name;
  summary.id = graph_id(graph);
  summary.input = input_space;
  summary.batch = batch;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    summary.rows.push_back({node.name, describe_node(node), node.op, shapes[i], costs[i]});
  }
  summary.total = total_cost(graph, input_space);
  summary.first_output_macs = total_cost(first_output_only(graph), input_space).macs;
  summary.training_bytes_16 = training_memory_bytes(graph, input_space, batch, 2);
  summary.training_bytes_32 = training_memory_bytes(graph, input_space, batch, 4);
  return summary;
}

std::string to_text(const Summary& summary) {
  const auto count = [](std::int64_t n) { return n ? grouped(n) : std::string("-"); };
  std::vector<std::array<std::string, 5>> rows{
      {"node", "operation", "shape C×D×H×W", "parameters", "MACs"}};
  for (const SummaryRow& row : summary.rows) {
    rows.push_back(
        {row.name, row.text, to_text(row.shape), count(row.cost.parameters), count(row.cost.macs)});
  }
  rows.push_back({"total", "", "", grouped(summary.total.parameters), grouped(summary.total.macs)});
  std::array<std::size_t, 5> widths{};
  for (const auto& row : rows) {
    for (std::size_t c = 0; c < 5; ++c) widths[c] = std::max(widths[c], columns(row[c]));
  }
  std::string text;
  for (const auto& row : rows) {
    for (std::size_t c = 0; c < 5; ++c) {
      const std::string space(widths[c] - columns(row[c]), ' ');
      text += (c ? "  " : "") + (c >= 3 ? space + row[c] : row[c] + space);
    }
    text += "\n";
  }
  const auto bytes = [](std::int64_t n) { return format_bytes(static_cast<double>(n)); };
  text += "\nnetwork " + (summary.name.empty() ? "" : summary.name + " ") + "(id " + summary.id +
          "), input " + to_text(summary.input) + " voxels\n";
  text += "parameters " + format_count(static_cast<double>(summary.total.parameters)) +
          ", multiply-adds " + format_count(static_cast<double>(summary.total.macs)) +
          " a patch (" + format_count(static_cast<double>(summary.first_output_macs)) +
          " for the first output alone)\n";
  text += "training memory, estimated, batch " + std::to_string(summary.batch) + ": " +
          bytes(summary.training_bytes_16) + " with 16-bit activations, " +
          bytes(summary.training_bytes_32) + " with 32-bit\n";
  return text;
}

Json to_json(const Summary& summary) {
  Json nodes = Json::array();
  for (const SummaryRow& row : summary.rows) {
    nodes.push_back(
        {{"name", row.name},
         {"op", row.op},
         {"shape",
          {row.shape.channels, row.shape.space[0], row.shape.space[1], row.shape.space[2]}},
         {"parameters", row.cost.parameters},
         {"macs", row.cost.macs}});
  }
  return {{"name", summary.name},
          {"id", summary.id},
          {"input", summary.input},
          {"batch", summary.batch},
          {"parameters", summary.total.parameters},
          {"macs", summary.total.macs},
          {"first_output_macs", summary.first_output_macs},
          {"output_elements", summary.total.output_elements},
          {"training_bytes_16", summary.training_bytes_16},
          {"training_bytes_32", summary.training_bytes_32},
          {"nodes", nodes}};
}

}  // namespace nas
