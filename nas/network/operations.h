// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nas/core/extent.h"
#include "nas/network/graph.h"

namespace nas {

enum class AttributeType { Integer, Real, Boolean, Text, Integers3, Reals3 };

/// One attribute of an operation. A triple may be given as one number for all three axes.
struct AttributeSpec {
  std::string name;
  AttributeType type = AttributeType::Integer;
  bool required = false;
  Attribute fallback;              // the default, unless required or derived
  double low = 0, high = 0;        // numbers (each element of a triple): [low, high]
  std::vector<std::string> words;  // Text: the allowed values
  /// Default that follows from other attributes (conv: padding that keeps the size); nullptr
  /// otherwise.
  Attribute (*derived)(const Node& node) = nullptr;
};

/// A tensor of a node's state. Its state-dict name is "<node name>.<name>".
struct StateTensor {
  std::string name;                 // "weight", "bias", "running_mean", "running_var"
  std::vector<std::int64_t> shape;  // as LibTorch lays it out: conv [out, in/groups, D, H, W]
  bool learnable = true;            // false: a buffer (running statistics)
  bool operator==(const StateTensor&) const = default;
};

/// What drawings, fusion and memory estimates need to know about an operation.
enum class OperationKind {
  Input,
  Convolution,
  Norm,
  Activation,
  Merge,
  Pool,
  Resample,
  Other,
  Output
};

/// What the backward pass needs: the operation's inputs, its own result (in-place activations), or
/// neither.
enum class Keeps { Nothing, Inputs, Result };

inline constexpr int kAnyInputs = 1 << 20;

/// One row of the operations table: all that is known about an operation below the torch line.
/// Validation, shapes, costs, JSON, drawing, ONNX and the tests read it; only the LibTorch lowering
/// (lowering.cpp) has a case of its own.
struct Operation {
  std::string name;
  OperationKind kind = OperationKind::Other;
  int min_inputs = 1, max_inputs = 1;
  std::vector<AttributeSpec> attributes = {};
  /// Shape of the result. "input" gets the shape given from outside as its only element. \throws
  /// Error(Shape).
  TensorShape (*shape)(const Node& node, std::span<const TensorShape> inputs) = nullptr;
  /// Channels of the result, which do not depend on sizes in space; nullptr: as the first input.
  std::int64_t (*channels)(const Node& node, std::span<const std::int64_t> inputs) = nullptr;
  /// State of the node, learnable tensors first; nullptr: none.
  std::vector<StateTensor> (*state)(const Node& node,
                                    std::span<const TensorShape> inputs) = nullptr;
  /// Multiply-adds; nullptr: not counted.
  std::int64_t (*macs)(const Node& node,
                       std::span<const TensorShape> inputs,
                       const TensorShape& result) = nullptr;
  Keeps keeps = Keeps::Nothing;
  int extra_bytes = 0;    // kept per result element besides (max_pool indices 8, dropout mask 1)
  std::string onnx = {};  // ONNX operator; "" for input and output
  std::vector<Attributes>
      examples;  // valid settings for 4 input channels of 6x7x8 voxels; the tests run them all
};

/// The table, in a fixed order. "choice" is not in it: it is structure, not an operation.
const std::vector<Operation>& operations();
/// Of a program of the user's own, which also says what it runs (add_lowering). \throws Error(Usage)
/// after the table was first read, or if there is a row of this name.
void add_operation(Operation row);
const Operation* find_operation(std::string_view name);  // nullptr if there is none
/// \throws Error(Input) with the nearest known name.
const Operation& operation(const Node& node);

/// Attribute values with defaults filled in. \throws Error(Input) on a missing required, unknown or
/// wrongly typed one.
std::int64_t attribute_int(const Node& node, std::string_view name);
double attribute_real(const Node& node, std::string_view name);
bool attribute_bool(const Node& node, std::string_view name);
std::string attribute_text(const Node& node, std::string_view name);
Extent3 attribute_extent(const Node& node, std::string_view name);
Vec3 attribute_vec3(const Node& node, std::string_view name);
/// As attribute_extent, in the type that LibTorch's options take.
std::vector<std::int64_t> attribute_ints(const Node& node, std::string_view name);

/// Brings attributes into canonical form: single numbers become triples, integers reals where reals
/// are meant, values equal to the default are dropped. \throws Error(Input) naming the node, the
/// attribute and what was expected.
void canonicalize_attributes(Node& node);

/// Margins of "crop" in voxels (begin, end), worked out for the centre crop to a second input.
struct Margins {
  Extent3 begin{0, 0, 0}, end{0, 0, 0};
};
Margins crop_margins(const Node& node, const Extent3& input, const Extent3* like);

/// Channels of a node's result from those of its inputs, without any size in space.
std::int64_t result_channels(const Node& node, std::span<const std::int64_t> inputs);

/// State tensors of a node; empty for choices. \throws Error(Shape|Input).
std::vector<StateTensor> state_tensors(const Node& node, std::span<const TensorShape> inputs);

/// Channels of every node's result in a closed graph. They follow from the input nodes alone, so no
/// spatial size is needed. \throws Error(Usage) on an open choice.
std::vector<std::int64_t> channel_counts(const Graph& graph);
/// What a network reads and gives: channels of its input and of its first output.
struct NetworkEnds {
  std::int64_t channels = 0, classes = 0;
};
/// \throws Error(Usage) on an open choice, Error(Input) unless there is one input and an output.
NetworkEnds network_ends(const Graph& graph);
/// State tensors of every node of a closed graph, in node order. \throws as channel_counts.
std::vector<std::vector<StateTensor>> graph_state(const Graph& graph);

/// "encoder.conv (conv)": how errors name a node.
std::string node_label(const Node& node);

/// a * b, a + b for non-negative numbers. \throws Error(Shape) naming `what` where int64 would
/// overflow.
std::int64_t checked_product(std::int64_t a, std::int64_t b, std::string_view what);
std::int64_t checked_sum(std::int64_t a, std::int64_t b, std::string_view what);

/// Limits of a single tensor: at most this many channels, voxels along an axis and elements.
inline constexpr std::int64_t kMaxChannels = 1 << 20;
inline constexpr std::int64_t kMaxAxis = 1 << 20;
inline constexpr std::int64_t kMaxElements = std::int64_t{1} << 40;
/// \throws Error(Shape) naming `label` unless every size is positive and within the limits.
void check_shape(const TensorShape& shape, const std::string& label);

}  // namespace nas
