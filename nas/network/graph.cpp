// SPDX-License-Identifier: Apache-2.0
#include "nas/network/graph.h"

#include <algorithm>
#include <string_view>
#include <unordered_set>

#include "nas/core/error.h"
#include "nas/network/operations.h"

namespace nas {
namespace {

constexpr std::string_view kChoice = "choice";
constexpr int kMaxChoiceDepth = 8;
constexpr std::size_t kMaxNameLength = 256;

void check_name(const std::string& name) {
  bool good = !name.empty() && name.size() <= kMaxNameLength && name.front() != '.' &&
              name.back() != '.' && name.find("..") == std::string::npos;
  for (const char c : name) {
    good = good && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '_' || c == '-' || c == '.');
  }
  NAS_CHECK(good,
            "node name: expected letters, digits, '_', '-' in parts joined by '.', at most ",
            kMaxNameLength,
            " characters, got '",
            name.substr(0, 80),
            "'");
}

void check_inputs(const Node& node, std::size_t index) {
  for (const int input : node.inputs) {
    NAS_CHECK(input >= 0 && static_cast<std::size_t>(input) < index,
              node_label(node),
              ": input ",
              input,
              " is not an earlier node (this is node ",
              index,
              ")");
  }
}

void check_arity(const Node& node) {
  const int given = static_cast<int>(std::min<std::size_t>(node.inputs.size(), kAnyInputs + 1));
  if (node.op == kChoice) {
    NAS_CHECK(given >= 1, node_label(node), ": expected at least one input, got none");
    return;
  }
  const Operation& row = operation(node);
  if (given >= row.min_inputs && given <= row.max_inputs) return;
  std::string expected = std::to_string(row.min_inputs);
  if (row.max_inputs == kAnyInputs) {
    expected = "at least " + expected;
  } else if (row.max_inputs != row.min_inputs) {
    expected += " to " + std::to_string(row.max_inputs);
  }
  fail(ErrorKind::Input,
       node_label(node),
       ": expected ",
       expected,
       " inputs, got ",
       node.inputs.size());
}

void check_node(const Node& node, std::size_t index, int depth);

/// Rules of a whole graph. `inputs` < 0: the root, which needs at least one input and one output.
void check_graph(const Graph& graph, int inputs, int depth) {
  NAS_CHECK(depth <= kMaxChoiceDepth,
            "graph ",
            graph.name.substr(0, 80),
            ": choices are nested deeper than ",
            kMaxChoiceDepth);
  std::vector<std::string_view> names;
  names.reserve(graph.nodes.size());
  int given_inputs = 0;
  int outputs = 0;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    check_node(node, i, depth);
    names.push_back(node.name);
    given_inputs += node.op == "input";
    outputs += node.op == "output";
    for (const int input : node.inputs) {
      NAS_CHECK(graph.nodes[static_cast<std::size_t>(input)].op != "output",
                node_label(node),
                ": input ",
                graph.nodes[static_cast<std::size_t>(input)].name,
                " is an output, which nothing may use");
    }
  }
  std::ranges::sort(names);
  const auto twice = std::ranges::adjacent_find(names);
  NAS_CHECK(twice == names.end(), "node ", *twice, ": the name is used twice");
  // A node "a" with a tensor "weight" and a node "a.weight" (or "a.weight.b") would claim one
  // state-dict entry.
  for (const Node& node : graph.nodes) {
    for (const char* tensor : {".weight", ".bias", ".running_mean", ".running_var"}) {
      const std::string claimed = node.name + tensor;
      const auto at = std::ranges::lower_bound(names, std::string_view(claimed));
      const bool clash = at != names.end() && at->starts_with(claimed) &&
                         (at->size() == claimed.size() || (*at)[claimed.size()] == '.');
      NAS_CHECK(!clash, "node ", *at, ": the name collides with a tensor of node ", node.name);
    }
  }
  if (inputs < 0) {
    NAS_CHECK(given_inputs >= 1 && outputs >= 1,
              "graph ",
              graph.name.substr(0, 80),
              ": expected at least one input and one output node, got ",
              given_inputs,
              " and ",
              outputs);
  } else {
    NAS_CHECK(given_inputs == inputs && outputs == 1,
              "alternative ",
              graph.name.substr(0, 80),
              ": expected ",
              inputs,
              " input nodes and one output, got ",
              given_inputs,
              " and ",
              outputs);
  }
}

void check_node(const Node& node, std::size_t index, int depth) {
  check_name(node.name);
  check_inputs(node, index);
  check_arity(node);
  if (node.op == kChoice) {
    NAS_CHECK(!node.alternatives.empty(), node_label(node), ": has no alternatives");
    NAS_CHECK(node.attributes.empty(), node_label(node), ": a choice has no attributes");
    for (const Graph& alternative : node.alternatives) {
      try {
        check_graph(alternative, static_cast<int>(node.inputs.size()), depth + 1);
      } catch (const Error& error) {
        throw Error(error.kind(), node_label(node) + ": " + error.what());
      }
    }
    return;
  }
  NAS_CHECK(node.alternatives.empty(), node_label(node), ": only a choice has alternatives");
  Node copy{node.op, node.name, {}, node.attributes, {}};
  canonicalize_attributes(copy);  // checks names, types, ranges and required ones
}

std::vector<TensorShape> infer(const Graph& graph,
                               std::span<const TensorShape> given,
                               const Extent3* root_space) {
  std::vector<TensorShape> shapes(graph.nodes.size());
  std::vector<TensorShape> inputs;
  std::size_t next_input = 0;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    check_inputs(node, i);
    check_arity(node);
    inputs.clear();
    for (const int input : node.inputs) inputs.push_back(shapes[static_cast<std::size_t>(input)]);
    if (node.op == kChoice) {
      NAS_CHECK(!node.alternatives.empty(), node_label(node), ": has no alternatives");
      for (std::size_t k = 0; k < node.alternatives.size(); ++k) {
        const Graph& alternative = node.alternatives[k];
        TensorShape result;
        try {
          const std::vector<TensorShape> inner = infer(alternative, inputs, nullptr);
          const std::vector<int> outputs = alternative.output_nodes();
          NAS_CHECK(outputs.size() == 1, "expected one output, got ", outputs.size());
          result = inner[static_cast<std::size_t>(outputs[0])];
        } catch (const Error& error) {
          throw Error(error.kind(),
                      concat_text(node_label(node), ", alternative ", k, ": ", error.what()));
        }
        if (k == 0) shapes[i] = result;
        NAS_CHECK_KIND(Shape,
                       result == shapes[i],
                       node_label(node),
                       ": alternative ",
                       k,
                       " gives ",
                       to_text(result),
                       ", alternative 0 ",
                       to_text(shapes[i]));
      }
      continue;
    }
    if (node.op == "input") {
      if (root_space) {
        inputs.push_back({attribute_int(node, "channels"), *root_space});
      } else {
        NAS_CHECK(next_input < given.size(),
                  node_label(node),
                  ": more input nodes than inputs (",
                  given.size(),
                  ")");
        inputs.push_back(given[next_input++]);
      }
    }
    shapes[i] = operation(node).shape(node, inputs);
    check_shape(shapes[i], node_label(node));
  }
  return shapes;
}

void collect_sizes(const Graph& graph, std::vector<int>& sizes) {
  for (const Node& node : graph.nodes) {
    if (node.op != kChoice) continue;
    sizes.push_back(static_cast<int>(node.alternatives.size()));
    for (const Graph& alternative : node.alternatives) collect_sizes(alternative, sizes);
  }
}

/// Appends the nodes of `graph` to `result` with choices closed. `given`: where its input nodes
/// stand in `result` (nullptr: the root, whose inputs are copied). Returns where its first output's
/// source stands.
int inline_graph(const Graph& graph,
                 const std::vector<int>* given,
                 const std::string& prefix,
                 const std::vector<int>& pick,
                 std::size_t& next_pick,
                 Graph& result) {
  std::vector<int> place(graph.nodes.size(), -1);
  std::size_t next_input = 0;
  int first_output = -1;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    std::vector<int> inputs;
    for (const int input : node.inputs) inputs.push_back(place[static_cast<std::size_t>(input)]);
    if (node.op == kChoice) {
      const auto chosen = static_cast<std::size_t>(pick[next_pick++]);
      for (std::size_t k = 0; k < node.alternatives.size(); ++k) {
        if (k == chosen) {
          place[i] = inline_graph(node.alternatives[k],
                                  &inputs,
                                  alternative_prefix(prefix + node.name, k),
                                  pick,
                                  next_pick,
                                  result);
        } else {
          std::vector<int> skipped;
          collect_sizes(node.alternatives[k], skipped);
          next_pick += skipped.size();
        }
      }
    } else if (given && node.op == "input") {
      place[i] = given->at(next_input++);
    } else if (given && node.op == "output") {
      if (first_output < 0) first_output = inputs.at(0);
    } else {
      Node copy = node;
      copy.name = prefix + node.name;
      copy.inputs = std::move(inputs);
      place[i] = static_cast<int>(result.nodes.size());
      result.nodes.push_back(std::move(copy));
    }
  }
  return first_output;
}

}  // namespace

bool Node::operator==(const Node& other) const {
  return op == other.op && name == other.name && inputs == other.inputs &&
         attributes == other.attributes && alternatives == other.alternatives;
}

bool Graph::operator==(const Graph& other) const {
  return name == other.name && nodes == other.nodes;
}

int Graph::add(std::string op,
               std::string node_name,
               std::vector<int> inputs,
               Attributes attributes) {
  NAS_CHECK(op != kChoice, "node ", node_name, ": choices are added with add_choice");
  Node node{std::move(op), std::move(node_name), std::move(inputs), std::move(attributes), {}};
  check_name(node.name);
  check_inputs(node, nodes.size());
  check_arity(node);
  canonicalize_attributes(node);
  NAS_CHECK(find(node.name) < 0, node_label(node), ": the name is already taken");
  nodes.push_back(std::move(node));
  return static_cast<int>(nodes.size()) - 1;
}

int Graph::add_choice(std::string node_name,
                      std::vector<int> inputs,
                      std::vector<Graph> alternatives) {
  Node node{
      std::string(kChoice), std::move(node_name), std::move(inputs), {}, std::move(alternatives)};
  check_node(node, nodes.size(), 0);
  NAS_CHECK(find(node.name) < 0, node_label(node), ": the name is already taken");
  nodes.push_back(std::move(node));
  return static_cast<int>(nodes.size()) - 1;
}

int Graph::find(std::string_view node_name) const {
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].name == node_name) return static_cast<int>(i);
  }
  return -1;
}

std::vector<int> Graph::input_nodes() const {
  std::vector<int> found;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].op == "input") found.push_back(static_cast<int>(i));
  }
  return found;
}

std::vector<int> Graph::output_nodes() const {
  std::vector<int> found;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    if (nodes[i].op == "output") found.push_back(static_cast<int>(i));
  }
  return found;
}

bool Graph::is_closed() const {
  return std::ranges::none_of(nodes, [](const Node& node) { return node.op == kChoice; });
}

std::string alternative_prefix(const std::string& choice, std::size_t k) {
  return choice + ".alt" + std::to_string(k) + ".";
}

std::vector<int> choice_sizes(const Graph& graph) {
  std::vector<int> sizes;
  collect_sizes(graph, sizes);
  return sizes;
}

Graph close_choices(const Graph& graph, const std::vector<int>& pick) {
  validate(graph);
  const std::vector<int> sizes = choice_sizes(graph);
  NAS_CHECK(pick.size() == sizes.size(),
            "close_choices: expected ",
            sizes.size(),
            " picks, got ",
            pick.size());
  for (std::size_t i = 0; i < pick.size(); ++i) {
    NAS_CHECK(pick[i] >= 0 && pick[i] < sizes[i],
              "close_choices: pick ",
              i,
              " must be in [0, ",
              sizes[i],
              "), got ",
              pick[i]);
  }
  Graph result;
  result.name = graph.name;
  std::size_t next_pick = 0;
  inline_graph(graph, nullptr, "", pick, next_pick, result);
  validate(result);
  return result;
}

void validate(const Graph& graph) { check_graph(graph, -1, 0); }

std::string to_text(const TensorShape& shape) {
  return std::to_string(shape.channels) + "x" + to_text(shape.space);
}

std::vector<TensorShape> infer_shapes(const Graph& graph, const Extent3& input_space) {
  check_shape({1, input_space}, "input size");
  return infer(graph, {}, &input_space);
}

Graph first_output_only(const Graph& graph) {
  const std::vector<int> outputs = graph.output_nodes();
  NAS_CHECK(!outputs.empty(), "graph ", graph.name, ": has no output");
  std::vector<char> needed(graph.nodes.size(), 0);
  needed[static_cast<std::size_t>(outputs[0])] = 1;
  for (std::size_t i = graph.nodes.size(); i-- > 0;) {
    if (graph.nodes[i].op == "input") needed[i] = 1;
    if (!needed[i]) continue;
    for (const int input : graph.nodes[i].inputs) needed[static_cast<std::size_t>(input)] = 1;
  }
  Graph result;
  result.name = graph.name;
  std::vector<int> place(graph.nodes.size(), -1);
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    if (!needed[i]) continue;
    Node copy = graph.nodes[i];
    for (int& input : copy.inputs) input = place[static_cast<std::size_t>(input)];
    place[i] = static_cast<int>(result.nodes.size());
    result.nodes.push_back(std::move(copy));
  }
  return result;
}

}  // namespace nas
