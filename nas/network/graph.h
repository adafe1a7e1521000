// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "nas/core/extent.h"
#include "nas/core/json.h"

namespace nas {

/// An attribute of a node. Triples (kernel, stride, ...) are integer lists in D H W order.
using Attribute = std::variant<std::int64_t,
                               double,
                               bool,
                               std::string,
                               std::vector<std::int64_t>,
                               std::vector<double>>;
/// Canonical form holds only values that differ from the operation's defaults (operations.h).
using Attributes = std::map<std::string, Attribute, std::less<>>;

struct Graph;

/// One operation. `inputs` are indices of earlier nodes of the same graph.
struct Node {
  std::string op;  // a name of the operations table: "conv", "instance_norm", ...; "choice" for an
                   // open choice
  std::string name;  // unique in its graph; dotted, e.g. "encoder.stages.0.0.convs.0.conv": the
                     // state-dict prefix
  std::vector<int> inputs;
  Attributes attributes;
  /// Only of op "choice": the alternatives, each a graph with as many "input" nodes as this node
  /// has inputs and one "output"; all give the same shape. Closing the choice inlines one of them.
  std::vector<Graph> alternatives;
  bool operator==(const Node&) const;
};

/// A network as data: topologically ordered nodes, value semantics. Inputs are nodes of op "input"
/// (attribute "channels"), results are nodes of op "output" (one input each; several for deep
/// supervision, finest first).
struct Graph {
  std::string name;
  std::vector<Node> nodes;
  bool operator==(const Graph&) const;

  /// Appends a node and returns its index. \throws Error(Input) on an unknown op, attribute, input
  /// index or duplicate name.
  int add(std::string op,
          std::string node_name,
          std::vector<int> inputs,
          Attributes attributes = {});
  /// Appends a choice. \throws as add.
  int add_choice(std::string node_name, std::vector<int> inputs, std::vector<Graph> alternatives);
  int find(std::string_view node_name) const;  // index, or -1
  std::vector<int> input_nodes() const;
  std::vector<int> output_nodes() const;
  bool is_closed() const;  // no open choice at any depth
};

/// Closes every choice by `pick[i]`, i counting choices in node order (depth first). Names of
/// inlined nodes are prefixed by the choice's name and "alt<k>.", so a closed path keeps the names
/// it has in the super-network.
Graph close_choices(const Graph& graph, const std::vector<int>& pick);
/// "<choice>.alt<k>.": what stands before the names of alternative k's nodes once it is inlined, and
/// of its state in a super-network.
std::string alternative_prefix(const std::string& choice, std::size_t k);
/// Number of alternatives of each choice in the order `close_choices` expects.
std::vector<int> choice_sizes(const Graph& graph);

/// Throws Error(Input) naming the node if the graph breaks a rule (order, arity, attributes, names,
/// alternatives).
void validate(const Graph& graph);

/// Shape of one node's result without the batch: [C, D, H, W].
struct TensorShape {
  std::int64_t channels = 0;
  Extent3 space{0, 0, 0};
  bool operator==(const TensorShape&) const = default;
  std::int64_t elements() const { return channels * volume(space); }
};
std::string to_text(const TensorShape& shape);  // "32x40x56x40"

/// Shapes of every node for inputs of the given spatial size (channels come from the input nodes).
/// For an open choice all alternatives are inferred and must agree.
/// \throws Error(Shape) naming the node, its operation and the disagreeing shapes.
std::vector<TensorShape> infer_shapes(const Graph& graph, const Extent3& input_space);

/// Cost of one node or of a whole graph, for one sample. For an open choice: the sum of parameters,
/// the largest alternative's MACs and activations.
struct Cost {
  std::int64_t parameters = 0;       // learnable scalars
  std::int64_t macs = 0;             // multiply-adds of conv and conv_transpose, counted once
  std::int64_t output_elements = 0;  // elements of the results
};
std::vector<Cost> node_costs(const Graph& graph, const Extent3& input_space);
Cost total_cost(const Graph& graph, const Extent3& input_space);
/// What a training step of one sample costs, in multiply-adds of its forward pass: those of the
/// convolutions, and what as many would take as long as: for every element of every result (memory
/// traffic), every parameter (optimizer) and every voxel of the patch (augmentation); cost.cpp.
/// A function of the graph alone, so that compute can be counted the same on every machine.
double training_work(const Graph& graph, const Extent3& input_space);

/// Bytes that one training step keeps for the backward pass (results of all nodes that need them),
/// for `batch` samples with `bytes_per_element` (2 for bf16), plus parameters, gradients and
/// optimizer state in float32.
std::int64_t training_memory_bytes(const Graph& graph,
                                   const Extent3& input_space,
                                   std::int64_t batch,
                                   int bytes_per_element,
                                   int optimizer_states = 1);

/// Without the deep-supervision outputs: only the first output and what it needs (for inference and
/// MACs as published).
Graph first_output_only(const Graph& graph);

/// Canonical JSON, exact both ways:
/// {"format":"voxnas.graph","version":1,"name":...,"nodes":[{"op","name","inputs",...}]}.
Json to_json(const Graph& graph);
/// \throws Error(Input) naming `where`, the path of the key and what was expected. Bounded: 100,000
/// nodes, choices 8 deep.
Graph graph_from_json(const Json& value, const std::string& where);
Graph read_graph(const std::string& file);
void write_graph(const std::string& file, const Graph& graph);

/// Stable 16-hex-digit id of the structure (the graph's own name left out), the same on every
/// machine.
std::string graph_id(const Graph& graph);

}  // namespace nas
