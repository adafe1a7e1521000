// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "nas/core/error.h"
#include "nas/network/graph.h"
#include "nas/network/operations.h"

namespace nas {
namespace {

struct Measured {
  std::vector<TensorShape> shapes;
  std::vector<Cost> costs;
};

std::vector<TensorShape> input_shapes(const Node& node, const std::vector<TensorShape>& shapes) {
  std::vector<TensorShape> inputs;
  for (const int input : node.inputs) inputs.push_back(shapes[static_cast<std::size_t>(input)]);
  return inputs;
}

Cost sum(const std::vector<Cost>& costs) {
  Cost total;
  for (const Cost& cost : costs) {
    total.parameters = checked_sum(total.parameters, cost.parameters, "parameters");
    total.macs = checked_sum(total.macs, cost.macs, "MACs");
    total.output_elements = checked_sum(total.output_elements, cost.output_elements, "activations");
  }
  return total;
}

/// Shapes of an alternative whose inputs have the given shapes. Alternatives are graphs without a
/// size of their own, so the shapes of their input nodes come from outside; infer_shapes() has
/// already checked that all agree.
std::vector<TensorShape> alternative_shapes(const Graph& graph,
                                            const std::vector<TensorShape>& given);

std::vector<Cost> costs_of(const Graph& graph, const std::vector<TensorShape>& shapes) {
  std::vector<Cost> costs(graph.nodes.size());
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    const std::vector<TensorShape> inputs = input_shapes(node, shapes);
    if (node.op == "choice") {
      for (const Graph& alternative : node.alternatives) {
        const Cost cost = sum(costs_of(alternative, alternative_shapes(alternative, inputs)));
        costs[i].parameters = checked_sum(costs[i].parameters, cost.parameters, "parameters");
        costs[i].macs = std::max(costs[i].macs, cost.macs);
        costs[i].output_elements = std::max(costs[i].output_elements, cost.output_elements);
      }
      continue;
    }
    const Operation& row = operation(node);
    for (const StateTensor& tensor : state_tensors(node, inputs)) {
      if (!tensor.learnable) continue;
      std::int64_t elements = 1;
      for (const std::int64_t size : tensor.shape)
        elements = checked_product(elements, size, node_label(node));
      costs[i].parameters = checked_sum(costs[i].parameters, elements, node_label(node));
    }
    if (row.macs) costs[i].macs = row.macs(node, inputs, shapes[i]);
    costs[i].output_elements = shapes[i].elements();
  }
  return costs;
}

std::vector<TensorShape> alternative_shapes(const Graph& graph,
                                            const std::vector<TensorShape>& given) {
  std::vector<TensorShape> shapes(graph.nodes.size());
  std::size_t next_input = 0;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    std::vector<TensorShape> inputs = input_shapes(node, shapes);
    if (node.op == "choice") {
      const Graph& first = node.alternatives.front();
      const std::vector<TensorShape> inner = alternative_shapes(first, inputs);
      shapes[i] = inner[static_cast<std::size_t>(first.output_nodes().front())];
      continue;
    }
    if (node.op == "input") inputs.push_back(given.at(next_input++));
    shapes[i] = operation(node).shape(node, inputs);
  }
  return shapes;
}

/// What one step keeps for the backward pass, in elements of a result and in bytes of odd size
/// (indices, masks).
struct Kept {
  std::int64_t elements = 0;
  std::int64_t extra_bytes = 0;
  std::int64_t largest = 0;  // elements of the largest result
};

Kept kept_of(const Graph& graph, const std::vector<TensorShape>& shapes) {
  std::vector<char> kept(graph.nodes.size(), 0);
  Kept total;
  const auto add = [](std::int64_t& to, std::int64_t what) {
    to = checked_sum(to, what, "activation memory");
  };
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    total.largest = std::max(total.largest, shapes[i].elements());
    bool keeps_inputs = false;
    if (node.op == "choice") {
      Kept most;
      const std::vector<TensorShape> inputs = input_shapes(node, shapes);
      for (const Graph& alternative : node.alternatives) {
        const Kept inner = kept_of(alternative, alternative_shapes(alternative, inputs));
        most.elements = std::max(most.elements, inner.elements);
        most.extra_bytes = std::max(most.extra_bytes, inner.extra_bytes);
        total.largest = std::max(total.largest, inner.largest);
      }
      add(total.elements, most.elements);
      add(total.extra_bytes, most.extra_bytes);
    } else {
      const Operation& row = operation(node);
      keeps_inputs = row.keeps == Keeps::Inputs;
      if (row.keeps == Keeps::Result) kept[i] = 1;
      add(total.extra_bytes,
          checked_product(shapes[i].elements(), row.extra_bytes, "activation memory"));
      // An output is its source under another name: one tensor, kept for the loss.
      if (node.op == "output") {
        kept[i] = 0;
        keeps_inputs = true;
      }
    }
    if (keeps_inputs) {
      for (const int input : node.inputs) kept[static_cast<std::size_t>(input)] = 1;
    }
  }
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    // What a choice gives is the last result of its alternative, counted inside.
    if (kept[i] && graph.nodes[i].op != "choice") add(total.elements, shapes[i].elements());
  }
  return total;
}

}  // namespace

std::vector<Cost> node_costs(const Graph& graph, const Extent3& input_space) {
  return costs_of(graph, infer_shapes(graph, input_space));
}

Cost total_cost(const Graph& graph, const Extent3& input_space) {
  return sum(node_costs(graph, input_space));
}

namespace {

// Fitted to 19 networks' steps of Muon at batch 2 on two AVX2 cores (`record_curves DATA --costs`;
// 11 % off on average, 28 % at most): elements are memory traffic, parameters the optimizer,
// voxels the augmentation.
constexpr double kMacsPerElement = 40;
constexpr double kMacsPerParameter = 1200;
constexpr double kMacsPerVoxel = 29000;

}  // namespace

double training_work(const Graph& graph, const Extent3& input_space) {
  const Cost cost = total_cost(graph, input_space);
  return static_cast<double>(cost.macs) +
         kMacsPerElement * static_cast<double>(cost.output_elements) +
         kMacsPerParameter * static_cast<double>(cost.parameters) +
         kMacsPerVoxel * static_cast<double>(volume(input_space));
}

// The model: convolutions, norms, pools and PReLU keep their inputs; other activations work in
// place and keep their result (which is the next convolution's input: counted once); merges,
// resizing, padding and slicing keep nothing; max-pooling keeps 8-byte indices, dropout a byte
// mask. To that come the gradients of the two largest results, which exist at once while the
// backward pass runs, and parameters, gradients and optimiser state in float32.
std::int64_t training_memory_bytes(const Graph& graph,
                                   const Extent3& input_space,
                                   std::int64_t batch,
                                   int bytes_per_element,
                                   int optimizer_states) {
  NAS_CHECK(batch >= 1 && bytes_per_element >= 1 && optimizer_states >= 0,
            "training memory: expected batch >= 1, bytes per element >= 1 and optimiser states >= "
            "0, got ",
            batch,
            ", ",
            bytes_per_element,
            " and ",
            optimizer_states);
  const std::vector<TensorShape> shapes = infer_shapes(graph, input_space);
  const Kept kept = kept_of(graph, shapes);
  const std::string_view what = "training memory";
  std::int64_t sample = checked_sum(kept.elements, checked_product(kept.largest, 2, what), what);
  sample = checked_product(sample, bytes_per_element, what);
  sample = checked_sum(sample, kept.extra_bytes, what);
  const std::int64_t parameters = sum(costs_of(graph, shapes)).parameters;
  return checked_sum(checked_product(sample, batch, what),
                     checked_product(parameters, 4 * (2 + std::int64_t{optimizer_states}), what),
                     what);
}

}  // namespace nas
