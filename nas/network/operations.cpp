// SPDX-License-Identifier: Apache-2.0
#include "nas/network/operations.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <optional>

#include "nas/core/error.h"
#include "nas/core/open_table.h"
#include "nas/core/text.h"

namespace nas {
namespace {

using Shapes = std::span<const TensorShape>;

constexpr double kMaxCount = 1 << 20;
constexpr double kMaxKernel = 1023;
constexpr double kMaxReal = 1e9;

// ---- rows of attributes ----

AttributeSpec required_count(std::string name) {
  AttributeSpec spec;
  spec.name = std::move(name);
  spec.type = AttributeType::Integer;
  spec.required = true;
  spec.low = 1;
  spec.high = kMaxCount;
  return spec;
}

AttributeSpec count(std::string name, std::int64_t fallback, double low) {
  AttributeSpec spec = required_count(std::move(name));
  spec.required = false;
  spec.fallback = fallback;
  spec.low = low;
  return spec;
}

AttributeSpec required_triple(std::string name) {
  AttributeSpec spec;
  spec.name = std::move(name);
  spec.type = AttributeType::Integers3;
  spec.required = true;
  spec.low = 1;
  spec.high = kMaxKernel;
  return spec;
}

AttributeSpec triple(std::string name, std::int64_t fallback, double low) {
  AttributeSpec spec = required_triple(std::move(name));
  spec.required = false;
  spec.fallback = std::vector<std::int64_t>(3, fallback);
  spec.low = low;
  return spec;
}

AttributeSpec derived_triple(std::string name, double low, Attribute (*derived)(const Node&)) {
  AttributeSpec spec = required_triple(std::move(name));
  spec.required = false;
  spec.low = low;
  spec.derived = derived;
  return spec;
}

AttributeSpec real(std::string name, double fallback, double low, double high) {
  AttributeSpec spec;
  spec.name = std::move(name);
  spec.type = AttributeType::Real;
  spec.fallback = fallback;
  spec.low = low;
  spec.high = high;
  return spec;
}

AttributeSpec flag(std::string name, bool fallback) {
  AttributeSpec spec;
  spec.name = std::move(name);
  spec.type = AttributeType::Boolean;
  spec.fallback = fallback;
  return spec;
}

AttributeSpec word(std::string name, std::vector<std::string> words) {
  AttributeSpec spec;
  spec.name = std::move(name);
  spec.type = AttributeType::Text;
  spec.fallback = words.front();
  spec.words = std::move(words);
  return spec;
}

AttributeSpec required_text(std::string name) {
  AttributeSpec spec;
  spec.name = std::move(name);
  spec.type = AttributeType::Text;
  spec.required = true;
  return spec;
}

AttributeSpec any_text(std::string name) {
  AttributeSpec spec;
  spec.name = std::move(name);
  spec.type = AttributeType::Text;
  spec.fallback = std::string();
  return spec;
}

AttributeSpec scale_triple() {
  AttributeSpec spec;
  spec.name = "scale";
  spec.type = AttributeType::Reals3;
  spec.required = true;
  spec.low = 1.0 / 64;
  spec.high = 64;
  return spec;
}

Attribute same_padding(const Node& node) {
  const Extent3 kernel = attribute_extent(node, "kernel");
  const Extent3 dilation = attribute_extent(node, "dilation");
  std::vector<std::int64_t> padding(3);
  for (std::size_t a = 0; a < 3; ++a) padding[a] = dilation[a] * (kernel[a] - 1) / 2;
  return padding;
}

Attribute kernel_as_stride(const Node& node) { return attribute_ints(node, "kernel"); }

// ---- shape rules ----

[[noreturn]] void misfit(const Node& node, const std::string& what) {
  fail(ErrorKind::Shape, node_label(node), ": ", what);
}

TensorShape input_shape(const Node& node, Shapes in) {
  if (const auto channels = attribute_int(node, "channels"); in[0].channels != channels) {
    misfit(node, concat_text("expects ", channels, " channels, got ", to_text(in[0])));
  }
  return in[0];
}

TensorShape same_shape(const Node&, Shapes in) { return in[0]; }

/// Probing the file found which sizes it takes.
TensorShape torchscript_shape(const Node& node, Shapes in) {
  const Extent3 multiple = attribute_extent(node, "multiple");
  for (std::size_t a = 0; a < 3; ++a) {
    if (in[0].space[a] % multiple[a] != 0) {
      misfit(node, "takes multiples of " + to_text(multiple) + " voxels, got " + to_text(in[0]));
    }
  }
  return {attribute_int(node, "out_channels"), in[0].space};
}

TensorShape instance_norm_shape(const Node& node, Shapes in) {
  // Statistics over a single voxel do not exist; LibTorch refuses too.
  if (volume(in[0].space) < 2) misfit(node, "needs more than one voxel, got " + to_text(in[0]));
  return in[0];
}

/// Result of sliding a window of `kernel` over `in` voxels.
Extent3 windows(const Node& node, const TensorShape& in, const Extent3& dilation) {
  const Extent3 kernel = attribute_extent(node, "kernel");
  const Extent3 stride = attribute_extent(node, "stride");
  const Extent3 padding = attribute_extent(node, "padding");
  Extent3 out{};
  for (std::size_t a = 0; a < 3; ++a) {
    const std::int64_t reach = in.space[a] + 2 * padding[a] - dilation[a] * (kernel[a] - 1) - 1;
    if (reach < 0) {
      misfit(node,
             concat_text("kernel ",
                         to_text(kernel),
                         " with padding ",
                         to_text(padding),
                         " and dilation ",
                         to_text(dilation),
                         " does not fit into ",
                         to_text(in)));
    }
    out[a] = reach / stride[a] + 1;
  }
  return out;
}

TensorShape conv_shape(const Node& node, Shapes in) {
  const std::int64_t out = attribute_int(node, "out_channels");
  const std::int64_t groups = attribute_int(node, "groups");
  if (in[0].channels % groups != 0 || out % groups != 0) {
    misfit(node,
           concat_text(groups,
                       " groups must divide input ",
                       to_text(in[0]),
                       " and ",
                       out,
                       " output channels"));
  }
  return {out, windows(node, in[0], attribute_extent(node, "dilation"))};
}

TensorShape conv_transpose_shape(const Node& node, Shapes in) {
  const Extent3 kernel = attribute_extent(node, "kernel");
  const Extent3 stride = attribute_extent(node, "stride");
  const Extent3 padding = attribute_extent(node, "padding");
  TensorShape out{attribute_int(node, "out_channels"), {}};
  for (std::size_t a = 0; a < 3; ++a) {
    out.space[a] = (in[0].space[a] - 1) * stride[a] - 2 * padding[a] + kernel[a];
    if (out.space[a] < 1) {
      misfit(node,
             concat_text("padding ",
                         to_text(padding),
                         " leaves nothing of ",
                         to_text(in[0]),
                         " (kernel ",
                         to_text(kernel),
                         ", stride ",
                         to_text(stride),
                         ")"));
    }
  }
  return out;
}

TensorShape pool_shape(const Node& node, Shapes in) {
  const Extent3 kernel = attribute_extent(node, "kernel");
  const Extent3 padding = attribute_extent(node, "padding");
  for (std::size_t a = 0; a < 3; ++a) {
    if (2 * padding[a] > kernel[a]) {
      misfit(node,
             concat_text("padding ",
                         to_text(padding),
                         " exceeds half of kernel ",
                         to_text(kernel),
                         " for input ",
                         to_text(in[0])));
    }
  }
  return {in[0].channels, windows(node, in[0], {1, 1, 1})};
}

TensorShape add_shape(const Node& node, Shapes in) {
  for (const TensorShape& other : in) {
    if (other != in[0])
      misfit(node, concat_text("inputs differ: ", to_text(in[0]), " and ", to_text(other)));
  }
  return in[0];
}

TensorShape concat_shape(const Node& node, Shapes in) {
  TensorShape out = in[0];
  out.channels = 0;
  for (const TensorShape& other : in) {
    if (other.space != in[0].space) {
      misfit(node,
             concat_text("inputs differ in space: ", to_text(in[0]), " and ", to_text(other)));
    }
    out.channels += other.channels;
  }
  return out;
}

/// A map of one channel weighs every channel of the first input alike (attention gates).
TensorShape multiply_shape(const Node& node, Shapes in) {
  if (in[1].space != in[0].space || (in[1].channels != 1 && in[1].channels != in[0].channels)) {
    misfit(node,
           concat_text("expects the second input to have the size of the first, ",
                       to_text(in[0]),
                       ", or one channel; got ",
                       to_text(in[1])));
  }
  return in[0];
}

TensorShape resize_shape(const Node& node, Shapes in) {
  const Vec3 scale = attribute_vec3(node, "scale");
  TensorShape out = in[0];
  for (std::size_t a = 0; a < 3; ++a) {
    out.space[a] =
        static_cast<std::int64_t>(std::floor(static_cast<double>(in[0].space[a]) * scale[a]));
    if (out.space[a] < 1)
      misfit(node, concat_text("scale ", scale[a], " leaves nothing of ", to_text(in[0])));
  }
  return out;
}

TensorShape crop_shape(const Node& node, Shapes in) {
  if (in.size() == 2) {
    for (std::size_t a = 0; a < 3; ++a) {
      if (in[1].space[a] > in[0].space[a]) {
        misfit(node,
               concat_text("cannot crop ", to_text(in[0]), " to the larger ", to_text(in[1])));
      }
    }
  }
  const Margins margins = crop_margins(node, in[0].space, in.size() == 2 ? &in[1].space : nullptr);
  TensorShape out = in[0];
  for (std::size_t a = 0; a < 3; ++a) {
    out.space[a] -= margins.begin[a] + margins.end[a];
    if (out.space[a] < 1) {
      misfit(node,
             concat_text("margins ",
                         to_text(margins.begin),
                         " and ",
                         to_text(margins.end),
                         " leave nothing of ",
                         to_text(in[0])));
    }
  }
  return out;
}

TensorShape pad_shape(const Node& node, Shapes in) {
  const Extent3 begin = attribute_extent(node, "begin");
  const Extent3 end = attribute_extent(node, "end");
  TensorShape out = in[0];
  for (std::size_t a = 0; a < 3; ++a) out.space[a] += begin[a] + end[a];
  return out;
}

TensorShape slice_shape(const Node& node, Shapes in) {
  const std::int64_t begin = attribute_int(node, "begin");
  const std::int64_t end = attribute_int(node, "end");
  if (begin >= end || end > in[0].channels) {
    misfit(node,
           concat_text("channels [", begin, ", ", end, ") are not a part of ", to_text(in[0])));
  }
  return {end - begin, in[0].space};
}

// ---- channels of the result where they are not those of the first input ----

using Channels = std::span<const std::int64_t>;

std::int64_t input_channels(const Node& node, Channels) { return attribute_int(node, "channels"); }

std::int64_t conv_channels(const Node& node, Channels) {
  return attribute_int(node, "out_channels");
}

std::int64_t concat_channels(const Node&, Channels in) {
  return std::accumulate(in.begin(), in.end(), std::int64_t{0});
}

std::int64_t slice_channels(const Node& node, Channels) {
  return attribute_int(node, "end") - attribute_int(node, "begin");
}

// ---- state ----

std::vector<StateTensor> conv_state(const Node& node, Shapes in) {
  const Extent3 k = attribute_extent(node, "kernel");
  const std::int64_t out = attribute_int(node, "out_channels");
  std::vector<StateTensor> state{
      {"weight", {out, in[0].channels / attribute_int(node, "groups"), k[0], k[1], k[2]}, true}};
  if (attribute_bool(node, "bias")) state.push_back({"bias", {out}, true});
  return state;
}

std::vector<StateTensor> conv_transpose_state(const Node& node, Shapes in) {
  const Extent3 k = attribute_extent(node, "kernel");
  const std::int64_t out = attribute_int(node, "out_channels");
  std::vector<StateTensor> state{{"weight", {in[0].channels, out, k[0], k[1], k[2]}, true}};
  if (attribute_bool(node, "bias")) state.push_back({"bias", {out}, true});
  return state;
}

std::vector<StateTensor> instance_norm_state(const Node& node, Shapes in) {
  if (!attribute_bool(node, "affine")) return {};
  return {{"weight", {in[0].channels}, true}, {"bias", {in[0].channels}, true}};
}

std::vector<StateTensor> batch_norm_state(const Node& node, Shapes in) {
  std::vector<StateTensor> state = instance_norm_state(node, in);
  state.push_back({"running_mean", {in[0].channels}, false});
  state.push_back({"running_var", {in[0].channels}, false});
  return state;
}

std::vector<StateTensor> prelu_state(const Node& node, Shapes in) {
  return {{"weight", {attribute_bool(node, "per_channel") ? in[0].channels : 1}, true}};
}

// ---- multiply-adds ----

std::int64_t kernel_macs(const Node& node, std::int64_t positions, std::int64_t channels) {
  const Extent3 k = attribute_extent(node, "kernel");
  std::int64_t macs = positions;
  for (const std::int64_t factor : {channels, k[0], k[1], k[2]})
    macs = checked_product(macs, factor, "MACs");
  return macs;
}

std::int64_t conv_macs(const Node& node, Shapes in, const TensorShape& result) {
  return kernel_macs(node, result.elements(), in[0].channels / attribute_int(node, "groups"));
}

std::int64_t conv_transpose_macs(const Node& node, Shapes in, const TensorShape& result) {
  return kernel_macs(node, in[0].elements(), result.channels);
}

using Ints = std::vector<std::int64_t>;
using Reals = std::vector<double>;

// clang-format off
std::vector<Operation> make_table() {
  const AttributeSpec eps = real("eps", 1e-5, 1e-12, 1);
  const AttributeSpec bias = flag("bias", true);
  std::vector<Operation> table;
  table.push_back({.name = "input", .kind = OperationKind::Input, .min_inputs = 0, .max_inputs = 0,
                   .attributes = {required_count("channels")}, .shape = input_shape, .channels = input_channels, .examples = {{{"channels", 4}}}});
  table.push_back({.name = "conv", .kind = OperationKind::Convolution,
                   .attributes = {required_count("out_channels"), required_triple("kernel"), triple("stride", 1, 1),
                                  triple("dilation", 1, 1), derived_triple("padding", 0, same_padding),
                                  count("groups", 1, 1), bias},
                   .shape = conv_shape, .channels = conv_channels, .state = conv_state, .macs = conv_macs,
                   .keeps = Keeps::Inputs, .onnx = "Conv",
                   .examples = {{{"out_channels", 6}, {"kernel", 3}},
                                {{"out_channels", 6}, {"kernel", Ints{1, 3, 5}}, {"stride", Ints{1, 2, 2}}, {"bias", false}},
                                {{"out_channels", 8}, {"kernel", 3}, {"groups", 4}, {"dilation", 2}},
                                {{"out_channels", 2}, {"kernel", Ints{2, 4, 3}}, {"padding", Ints{0, 1, 2}}, {"stride", Ints{2, 3, 1}}}}});
  table.push_back({.name = "conv_transpose", .kind = OperationKind::Convolution,
                   .attributes = {required_count("out_channels"), required_triple("kernel"), required_triple("stride"),
                                  triple("padding", 0, 0), bias},
                   .shape = conv_transpose_shape, .channels = conv_channels, .state = conv_transpose_state,
                   .macs = conv_transpose_macs, .keeps = Keeps::Inputs, .onnx = "ConvTranspose",
                   .examples = {{{"out_channels", 6}, {"kernel", 2}, {"stride", 2}},
                                {{"out_channels", 3}, {"kernel", Ints{1, 3, 4}}, {"stride", Ints{1, 2, 3}},
                                 {"padding", Ints{0, 1, 1}}, {"bias", false}}}});
  table.push_back({.name = "instance_norm", .kind = OperationKind::Norm,
                   .attributes = {eps, flag("affine", true)}, .shape = instance_norm_shape,
                   .state = instance_norm_state, .keeps = Keeps::Inputs, .onnx = "InstanceNormalization",
                   .examples = {{}, {{"affine", false}, {"eps", 1e-3}}}});
  table.push_back({.name = "batch_norm", .kind = OperationKind::Norm,
                   .attributes = {eps, real("momentum", 0.1, 0, 1), flag("affine", true)}, .shape = same_shape,
                   .state = batch_norm_state, .keeps = Keeps::Inputs, .onnx = "BatchNormalization",
                   .examples = {{}, {{"affine", false}, {"momentum", 0.5}}}});
  table.push_back({.name = "relu", .kind = OperationKind::Activation, .shape = same_shape, .keeps = Keeps::Result,
                   .onnx = "Relu", .examples = {{}}});
  table.push_back({.name = "leaky_relu", .kind = OperationKind::Activation,
                   .attributes = {real("slope", 0.01, 0, kMaxReal)}, .shape = same_shape, .keeps = Keeps::Result,
                   .onnx = "LeakyRelu", .examples = {{}, {{"slope", 0.25}}}});
  table.push_back({.name = "prelu", .kind = OperationKind::Activation, .attributes = {flag("per_channel", false)},
                   .shape = same_shape, .state = prelu_state, .keeps = Keeps::Inputs, .onnx = "PRelu",
                   .examples = {{}, {{"per_channel", true}}}});
  table.push_back({.name = "elu", .kind = OperationKind::Activation, .attributes = {real("alpha", 1, 0, kMaxReal)},
                   .shape = same_shape, .keeps = Keeps::Result, .onnx = "Elu", .examples = {{}, {{"alpha", 0.5}}}});
  table.push_back({.name = "sigmoid", .kind = OperationKind::Activation, .shape = same_shape, .keeps = Keeps::Result,
                   .onnx = "Sigmoid", .examples = {{}}});
  table.push_back({.name = "add", .kind = OperationKind::Merge, .min_inputs = 2, .max_inputs = kAnyInputs,
                   .shape = add_shape, .onnx = "Add", .examples = {{}}});
  table.push_back({.name = "concat", .kind = OperationKind::Merge, .min_inputs = 1, .max_inputs = kAnyInputs,
                   .shape = concat_shape, .channels = concat_channels, .onnx = "Concat", .examples = {{}}});
  table.push_back({.name = "multiply", .kind = OperationKind::Merge, .min_inputs = 2, .max_inputs = 2,
                   .shape = multiply_shape, .keeps = Keeps::Inputs, .onnx = "Mul", .examples = {{}}});
  const std::vector<AttributeSpec> pool{required_triple("kernel"), derived_triple("stride", 1, kernel_as_stride),
                                        triple("padding", 0, 0)};
  const std::vector<Attributes> pools{{{"kernel", 2}}, {{"kernel", Ints{1, 2, 3}}, {"stride", Ints{1, 1, 2}}, {"padding", Ints{0, 1, 1}}}};
  table.push_back({.name = "max_pool", .kind = OperationKind::Pool, .attributes = pool, .shape = pool_shape,
                   .keeps = Keeps::Inputs, .extra_bytes = 8, .onnx = "MaxPool", .examples = pools});
  table.push_back({.name = "avg_pool", .kind = OperationKind::Pool, .attributes = pool, .shape = pool_shape,
                   .keeps = Keeps::Inputs, .onnx = "AveragePool", .examples = pools});
  table.push_back({.name = "resize", .kind = OperationKind::Resample,
                   .attributes = {scale_triple(), word("mode", {"trilinear", "nearest"})}, .shape = resize_shape,
                   .onnx = "Resize",
                   .examples = {{{"scale", 2}}, {{"scale", Reals{1, 2, 1.5}}}, {{"scale", Reals{0.5, 2, 3}}, {"mode", "nearest"}}}});
  table.push_back({.name = "crop", .kind = OperationKind::Other, .min_inputs = 1, .max_inputs = 2,
                   .attributes = {triple("begin", 0, 0), triple("end", 0, 0)}, .shape = crop_shape, .onnx = "Slice",
                   .examples = {{{"begin", Ints{1, 0, 2}}, {"end", Ints{0, 3, 1}}}}});
  table.push_back({.name = "pad", .kind = OperationKind::Other,
                   .attributes = {triple("begin", 0, 0), triple("end", 0, 0), real("value", 0, -kMaxReal, kMaxReal)},
                   .shape = pad_shape, .onnx = "Pad",
                   .examples = {{{"begin", Ints{1, 0, 2}}, {"end", Ints{0, 3, 1}}}, {{"end", 1}, {"value", -1.5}}}});
  table.push_back({.name = "dropout", .kind = OperationKind::Other, .attributes = {real("p", 0.5, 0, 0.999)},
                   .shape = same_shape, .extra_bytes = 1, .onnx = "Dropout", .examples = {{}, {{"p", 0.25}}}});
  table.push_back({.name = "slice", .kind = OperationKind::Other,
                   .attributes = {count("begin", 0, 0), required_count("end")}, .shape = slice_shape,
                   .channels = slice_channels, .onnx = "Slice",
                   .examples = {{{"begin", 1}, {"end", 3}}, {{"end", 2}}}});
  table.push_back({.name = "torchscript", .kind = OperationKind::Other,
                   .attributes = {required_text("file"), required_text("hash"), required_count("out_channels"),
                                  any_text("settings"), triple("multiple", 1, 1)},
                   .shape = torchscript_shape, .channels = conv_channels, .keeps = Keeps::Inputs, .examples = {}});
  table.push_back({.name = "output", .kind = OperationKind::Output, .shape = same_shape, .keeps = Keeps::Result,
                   .examples = {{}}});
  return table;
}
// clang-format on

const AttributeSpec& spec_of(const Node& node, std::string_view name) {
  for (const AttributeSpec& spec : operation(node).attributes) {
    if (spec.name == name) return spec;
  }
  fail(ErrorKind::Internal, node_label(node), ": the operation has no attribute '", name, "'");
}

std::string type_text(AttributeType type) {
  switch (type) {
    case AttributeType::Integer:
      return "an integer";
    case AttributeType::Real:
      return "a number";
    case AttributeType::Boolean:
      return "true or false";
    case AttributeType::Text:
      return "text";
    case AttributeType::Integers3:
      return "one or three integers (D H W)";
    case AttributeType::Reals3:
      return "one or three numbers (D H W)";
  }
  return "";
}

std::string value_text(const Attribute& value) {
  const auto list = [](const auto& items) {
    std::string text = "[";
    for (std::size_t i = 0; i < items.size() && i < 8; ++i)
      text += (i ? ", " : "") + concat_text(items[i]);
    return text + (items.size() > 8 ? ", ...]" : "]");
  };
  struct Visitor {
    const decltype(list)& print;
    std::string operator()(std::int64_t v) const { return std::to_string(v); }
    std::string operator()(double v) const { return concat_text(v); }
    std::string operator()(bool v) const { return v ? "true" : "false"; }
    std::string operator()(const std::string& v) const { return "\"" + v.substr(0, 64) + "\""; }
    std::string operator()(const Ints& v) const { return print(v); }
    std::string operator()(const Reals& v) const { return print(v); }
  };
  return std::visit(Visitor{list}, value);
}

/// `value` in the type of `spec`, or nothing if it is of another type.
std::optional<Attribute> coerced(const AttributeSpec& spec, const Attribute& value) {
  const auto* integer = std::get_if<std::int64_t>(&value);
  const auto* number = std::get_if<double>(&value);
  const auto* integers = std::get_if<Ints>(&value);
  const auto* numbers = std::get_if<Reals>(&value);
  switch (spec.type) {
    case AttributeType::Integer:
      if (integer) return value;
      break;
    case AttributeType::Real:
      if (number) return value;
      if (integer) return static_cast<double>(*integer);
      break;
    case AttributeType::Boolean:
      if (std::holds_alternative<bool>(value)) return value;
      break;
    case AttributeType::Text:
      if (std::holds_alternative<std::string>(value)) return value;
      break;
    case AttributeType::Integers3:
      if (integer) return Ints(3, *integer);
      if (integers && integers->size() == 3) return value;
      break;
    case AttributeType::Reals3:
      if (integer) return Reals(3, static_cast<double>(*integer));
      if (number) return Reals(3, *number);
      if (numbers && numbers->size() == 3) return value;
      if (integers && integers->size() == 3) return Reals(integers->begin(), integers->end());
      break;
  }
  return std::nullopt;
}

bool in_range(const AttributeSpec& spec, const Attribute& value) {
  const auto inside = [&spec](double v) {
    return std::isfinite(v) && v >= spec.low && v <= spec.high;
  };
  if (const auto* v = std::get_if<std::int64_t>(&value)) return inside(static_cast<double>(*v));
  if (const auto* v = std::get_if<double>(&value)) return inside(*v);
  if (const auto* v = std::get_if<Ints>(&value)) {
    return std::ranges::all_of(*v, [&](std::int64_t x) { return inside(static_cast<double>(x)); });
  }
  if (const auto* v = std::get_if<Reals>(&value)) return std::ranges::all_of(*v, inside);
  if (const auto* v = std::get_if<std::string>(&value))
    return spec.words.empty() || std::ranges::find(spec.words, *v) != spec.words.end();
  return true;
}

Attribute value_of(const Node& node, std::string_view name) {
  const AttributeSpec& spec = spec_of(node, name);
  if (const auto found = node.attributes.find(name); found != node.attributes.end()) {
    if (auto value = coerced(spec, found->second)) return *std::move(value);
    fail(ErrorKind::Input,
         node_label(node),
         ": ",
         name,
         " must be ",
         type_text(spec.type),
         ", got ",
         value_text(found->second));
  }
  NAS_CHECK(!spec.required, node_label(node), ": ", name, " is missing");
  return spec.derived ? spec.derived(node) : spec.fallback;
}

template <class T>
T typed(const Node& node, std::string_view name) {
  Attribute value = value_of(node, name);
  if (T* held = std::get_if<T>(&value)) return std::move(*held);
  fail(
      ErrorKind::Internal, node_label(node), ": attribute ", name, " is asked for as another type");
}

OpenTable<Operation>& table() {
  static OpenTable<Operation> rows(
      "operation", [](const Operation& row) { return row.name; }, make_table());
  return rows;
}

}  // namespace

const std::vector<Operation>& operations() { return table().rows(); }

void add_operation(Operation row) {
  NAS_CHECK_KIND(Usage, row.shape != nullptr, "operation '", row.name, "': has no shape rule");
  NAS_CHECK_KIND(Usage, row.name != "choice", "operation 'choice': stands for open choices");
  table().add(std::move(row));
}

const Operation* find_operation(std::string_view name) {
  static const std::map<std::string, const Operation*, std::less<>> index = [] {
    std::map<std::string, const Operation*, std::less<>> all;
    for (const Operation& row : operations()) all[row.name] = &row;
    return all;
  }();
  const auto found = index.find(name);
  return found == index.end() ? nullptr : found->second;
}

const Operation& operation(const Node& node) {
  const Operation* row = find_operation(node.op);
  if (row) return *row;
  std::vector<std::string> names;
  for (const Operation& known : operations()) names.push_back(known.name);
  fail(ErrorKind::Input,
       "node ",
       node.name.substr(0, 256),
       ": unknown operation '",
       node.op.substr(0, 64),
       "'",
       did_you_mean(node.op, names));
}

std::int64_t attribute_int(const Node& node, std::string_view name) {
  return typed<std::int64_t>(node, name);
}
double attribute_real(const Node& node, std::string_view name) { return typed<double>(node, name); }
bool attribute_bool(const Node& node, std::string_view name) { return typed<bool>(node, name); }
std::string attribute_text(const Node& node, std::string_view name) {
  return typed<std::string>(node, name);
}
std::vector<std::int64_t> attribute_ints(const Node& node, std::string_view name) {
  return typed<Ints>(node, name);
}

Extent3 attribute_extent(const Node& node, std::string_view name) {
  const Ints values = typed<Ints>(node, name);
  return {values[0], values[1], values[2]};
}

Vec3 attribute_vec3(const Node& node, std::string_view name) {
  const Reals values = typed<Reals>(node, name);
  return {values[0], values[1], values[2]};
}

void canonicalize_attributes(Node& node) {
  const Operation& row = operation(node);
  for (auto& [name, value] : node.attributes) {
    const auto spec = std::ranges::find(row.attributes, name, &AttributeSpec::name);
    if (spec == row.attributes.end()) {
      std::vector<std::string> names;
      for (const AttributeSpec& known : row.attributes) names.push_back(known.name);
      fail(ErrorKind::Input,
           node_label(node),
           ": unknown attribute '",
           name.substr(0, 64),
           "'",
           did_you_mean(name, names));
    }
    auto converted = coerced(*spec, value);
    NAS_CHECK(converted.has_value(),
              node_label(node),
              ": ",
              name,
              " must be ",
              type_text(spec->type),
              ", got ",
              value_text(value));
    if (!in_range(*spec, *converted)) {
      std::string expected = joined(spec->words);
      if (spec->words.empty()) expected = concat_text("in [", spec->low, ", ", spec->high, "]");
      fail(ErrorKind::Input,
           node_label(node),
           ": ",
           name,
           " must be ",
           spec->words.empty() ? "" : "one of ",
           expected,
           ", got ",
           value_text(value));
    }
    value = *std::move(converted);
  }
  for (const AttributeSpec& spec : row.attributes) {
    const auto found = node.attributes.find(spec.name);
    if (found == node.attributes.end()) {
      NAS_CHECK(!spec.required, node_label(node), ": ", spec.name, " is missing");
      continue;
    }
    if (spec.required) continue;
    if (found->second == (spec.derived ? spec.derived(node) : spec.fallback))
      node.attributes.erase(found);
  }
}

Margins crop_margins(const Node& node, const Extent3& input, const Extent3* like) {
  Margins margins{attribute_extent(node, "begin"), attribute_extent(node, "end")};
  if (like == nullptr) return margins;
  for (std::size_t a = 0; a < 3; ++a) {
    const std::int64_t surplus = input[a] - (*like)[a];
    margins.begin[a] = surplus / 2;
    margins.end[a] = surplus - surplus / 2;
  }
  return margins;
}

std::int64_t result_channels(const Node& node, std::span<const std::int64_t> inputs) {
  const Operation& row = operation(node);
  return row.channels ? row.channels(node, inputs) : inputs[0];
}

std::vector<StateTensor> state_tensors(const Node& node, std::span<const TensorShape> inputs) {
  if (node.op == "choice") return {};
  const Operation& row = operation(node);
  return row.state ? row.state(node, inputs) : std::vector<StateTensor>{};
}

std::vector<std::int64_t> channel_counts(const Graph& graph) {
  NAS_CHECK_KIND(Usage,
                 graph.is_closed(),
                 "network '",
                 graph.name,
                 "' has open choices: close them first (close_choices)");
  std::vector<std::int64_t> channels;
  channels.reserve(graph.nodes.size());
  for (const Node& node : graph.nodes) {
    std::vector<std::int64_t> inputs;
    for (const int input : node.inputs) inputs.push_back(channels[static_cast<std::size_t>(input)]);
    channels.push_back(result_channels(node, inputs));
  }
  return channels;
}

NetworkEnds network_ends(const Graph& graph) {
  const std::vector<std::int64_t> channels = channel_counts(graph);
  const std::vector<int> inputs = graph.input_nodes(), outputs = graph.output_nodes();
  NAS_CHECK(inputs.size() == 1 && !outputs.empty(),
            "network '",
            graph.name,
            "': expected one input and an output, found ",
            inputs.size(),
            " and ",
            outputs.size());
  return {channels[static_cast<std::size_t>(inputs[0])],
          channels[static_cast<std::size_t>(outputs[0])]};
}

std::vector<std::vector<StateTensor>> graph_state(const Graph& graph) {
  const std::vector<std::int64_t> channels = channel_counts(graph);
  std::vector<std::vector<StateTensor>> states;
  states.reserve(graph.nodes.size());
  for (const Node& node : graph.nodes) {
    std::vector<TensorShape> inputs;
    for (const int input : node.inputs) {
      inputs.push_back({channels[static_cast<std::size_t>(input)], {1, 1, 1}});
    }
    states.push_back(state_tensors(node, inputs));
  }
  return states;
}

std::string node_label(const Node& node) {
  return "node " + node.name.substr(0, 256) + " (" + node.op.substr(0, 64) + ")";
}

std::int64_t checked_product(std::int64_t a, std::int64_t b, std::string_view what) {
  std::int64_t result = 0;
  NAS_CHECK_KIND(
      Shape, !__builtin_mul_overflow(a, b, &result), what, ": too large (", a, " times ", b, ")");
  return result;
}

std::int64_t checked_sum(std::int64_t a, std::int64_t b, std::string_view what) {
  std::int64_t result = 0;
  NAS_CHECK_KIND(
      Shape, !__builtin_add_overflow(a, b, &result), what, ": too large (", a, " plus ", b, ")");
  return result;
}

void check_shape(const TensorShape& shape, const std::string& label) {
  NAS_CHECK_KIND(Shape,
                 shape.channels >= 1 && shape.channels <= kMaxChannels,
                 label,
                 ": expected 1 to ",
                 kMaxChannels,
                 " channels, got ",
                 to_text(shape));
  for (const std::int64_t size : shape.space) {
    NAS_CHECK_KIND(Shape,
                   size >= 1 && size <= kMaxAxis,
                   label,
                   ": expected 1 to ",
                   kMaxAxis,
                   " voxels along each axis, got ",
                   to_text(shape));
  }
  // 2^20 * 2^20 cannot overflow; every further factor is checked before it is applied.
  std::int64_t elements = shape.channels * shape.space[0];
  for (const std::size_t a : {std::size_t{1}, std::size_t{2}}) {
    NAS_CHECK_KIND(Shape,
                   elements <= kMaxElements / shape.space[a],
                   label,
                   ": a tensor of ",
                   to_text(shape),
                   " exceeds ",
                   kMaxElements,
                   " elements");
    elements *= shape.space[a];
  }
}

}  // namespace nas
