// SPDX-License-Identifier: Apache-2.0
#include "nas/network/torch_source.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdint>
#include <set>
#include <utility>

#include "nas/core/error.h"
#include "nas/network/file_nodes.h"
#include "nas/network/operations.h"

namespace nas {
namespace {

using Ints = std::vector<std::int64_t>;

enum class Dialect { Python, TorchScript };

// ---- literals ----

/// The shortest text that reads back as `value`, always with a point or an exponent.
std::string number(double value) {
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  std::string result(text.data(), end);
  if (result.find_first_of(".en") == std::string::npos) result += ".0";
  return result;
}

template <class List, class Print>
std::string joined(const List& items, Print&& print) {
  std::string text;
  for (const auto& item : items) text += (text.empty() ? "" : ", ") + print(item);
  return text;
}

std::string integers(const Ints& values) {
  return joined(values, [](std::int64_t v) { return std::to_string(v); });
}

/// A triple in Python: one number where all three agree, as people write it.
std::string triple(const Ints& values) {
  if (values == Ints(3, values[0])) return std::to_string(values[0]);
  return "(" + integers(values) + ")";
}

std::string list(const Ints& values) { return "[" + integers(values) + "]"; }

/// A tuple (Python) or list (TorchScript) of real numbers.
std::string reals(const Vec3& values, Dialect dialect) {
  const std::string inside = joined(values, number);
  return dialect == Dialect::Python ? "(" + inside + ")" : "[" + inside + "]";
}

// ---- names ----

const std::set<std::string, std::less<>>& keywords() {
  static const std::set<std::string, std::less<>> words = {
      "False", "None",     "True",  "and",    "as",   "assert", "async",  "await",    "break",
      "class", "continue", "def",   "del",    "elif", "else",   "except", "finally",  "for",
      "from",  "global",   "if",    "import", "in",   "is",     "lambda", "nonlocal", "not",
      "or",    "pass",     "raise", "return", "try",  "while",  "with",   "yield"};
  return words;
}

bool is_identifier(std::string_view text) {
  if (text.empty() || std::isdigit(static_cast<unsigned char>(text[0])) ||
      keywords().contains(text))
    return false;
  return std::ranges::all_of(
      text, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; });
}

std::vector<std::string> parts_of(const std::string& name) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = std::min(name.find('.', begin), name.size());
    parts.push_back(name.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

/// Names that torch.nn.Module itself has: a part of the network cannot be called so.
void check_module_name(const Node& node) {
  static const std::set<std::string, std::less<>> taken = {"T_destination",
                                                           "add_module",
                                                           "apply",
                                                           "bfloat16",
                                                           "buffers",
                                                           "call_super_init",
                                                           "children",
                                                           "compile",
                                                           "cpu",
                                                           "cuda",
                                                           "double",
                                                           "dump_patches",
                                                           "eval",
                                                           "extra_repr",
                                                           "float",
                                                           "forward",
                                                           "get_buffer",
                                                           "get_extra_state",
                                                           "get_parameter",
                                                           "get_submodule",
                                                           "half",
                                                           "ipu",
                                                           "load_state_dict",
                                                           "modules",
                                                           "mtia",
                                                           "named_buffers",
                                                           "named_children",
                                                           "named_modules",
                                                           "named_parameters",
                                                           "parameters",
                                                           "register_buffer",
                                                           "register_module",
                                                           "register_parameter",
                                                           "requires_grad_",
                                                           "set_extra_state",
                                                           "set_submodule",
                                                           "share_memory",
                                                           "state_dict",
                                                           "to",
                                                           "to_empty",
                                                           "train",
                                                           "training",
                                                           "type",
                                                           "xpu",
                                                           "zero_grad",
                                                           "crop_to"};
  for (const std::string& part : parts_of(node.name)) {
    NAS_CHECK(!taken.contains(part) && !part.starts_with("_"),
              node_label(node),
              ": PyTorch's modules have a '",
              part,
              "' of their own; the network cannot be exported under this name");
  }
}

/// Where TorchScript finds the module of a node: self.encoder.stages is an attribute, "0" is not a
/// word of the language and goes through getattr.
std::string module_path(const std::string& name) {
  std::string path = "self";
  for (const std::string& part : parts_of(name)) {
    path = is_identifier(part) ? path + "." + part : "getattr(" + path + ", \"" + part + "\")";
  }
  return path;
}

bool has_state(const std::vector<StateTensor>& state, std::string_view leaf) {
  return std::ranges::find(state, leaf, &StateTensor::name) != state.end();
}

// ---- layers: the nodes with weights ----

/// Such as "nn.Conv3d(1, 32, 3, padding=1)"; "" for an operation without a layer.
std::string python_layer(const Node& node, std::int64_t channels) {
  const auto option = [](const std::string& name, const std::string& value, bool is_default) {
    return is_default ? "" : ", " + name + "=" + value;
  };
  const auto ints = [&](const char* name, std::int64_t usual) {
    const Ints value = attribute_ints(node, name);
    return option(name, triple(value), value == Ints(3, usual));
  };
  const std::string in = std::to_string(channels);
  if (node.op == "conv" || node.op == "conv_transpose") {
    const bool turned = node.op == "conv_transpose";
    std::string text = concat_text(turned ? "nn.ConvTranspose3d(" : "nn.Conv3d(",
                                   in,
                                   ", ",
                                   attribute_int(node, "out_channels"),
                                   ", ",
                                   triple(attribute_ints(node, "kernel")));
    text += ints("stride", 1) + ints("padding", 0);
    if (!turned) {
      const std::int64_t groups = attribute_int(node, "groups");
      text += ints("dilation", 1) + option("groups", std::to_string(groups), groups == 1);
    }
    return text + option("bias", "False", attribute_bool(node, "bias")) + ")";
  }
  if (node.op == "instance_norm" || node.op == "batch_norm") {
    const bool batch = node.op == "batch_norm", affine = attribute_bool(node, "affine");
    const double eps = attribute_real(node, "eps");
    std::string text = (batch ? "nn.BatchNorm3d(" : "nn.InstanceNorm3d(") + in +
                       option("eps", number(eps), eps == 1e-5);
    if (batch) {
      const double momentum = attribute_real(node, "momentum");
      text += option("momentum", number(momentum), momentum == 0.1);
    }
    return text + option("affine", affine ? "True" : "False", affine == batch) + ")";
  }
  if (node.op == "prelu") {
    return "nn.PReLU(" + std::string(attribute_bool(node, "per_channel") ? in : "1") + ")";
  }
  return "";
}

/// The forward method of a node with weights in TorchScript; "" for an operation without a layer.
std::string script_layer(const Node& node, const std::vector<StateTensor>& state) {
  const auto tensor = [&](const char* leaf) {
    return has_state(state, leaf) ? std::string("self.") + leaf : std::string("None");
  };
  std::string call;
  if (node.op == "conv") {
    call = concat_text("torch.conv3d(x, self.weight, ",
                       tensor("bias"),
                       ", ",
                       list(attribute_ints(node, "stride")),
                       ", ",
                       list(attribute_ints(node, "padding")),
                       ", ",
                       list(attribute_ints(node, "dilation")),
                       ", ",
                       attribute_int(node, "groups"),
                       ")");
  } else if (node.op == "conv_transpose") {
    call = concat_text("torch.conv_transpose3d(x, self.weight, ",
                       tensor("bias"),
                       ", ",
                       list(attribute_ints(node, "stride")),
                       ", ",
                       list(attribute_ints(node, "padding")),
                       ")");
  } else if (node.op == "instance_norm") {
    call = concat_text("torch.instance_norm(x, ",
                       tensor("weight"),
                       ", ",
                       tensor("bias"),
                       ", None, None, True, 0.1, ",
                       number(attribute_real(node, "eps")),
                       ", True)");
  } else if (node.op == "batch_norm") {
    call = concat_text("torch.batch_norm(x, ",
                       tensor("weight"),
                       ", ",
                       tensor("bias"),
                       ", self.running_mean, self.running_var, self.training, ",
                       number(attribute_real(node, "momentum")),
                       ", ",
                       number(attribute_real(node, "eps")),
                       ", True)");
  } else if (node.op == "prelu") {
    call = "torch.prelu(x, self.weight)";
  } else {
    return "";
  }
  return "def forward(self, x: Tensor) -> Tensor:\n    return " + call + "\n";
}

// ---- everything else: expressions ----

/// "x[:, :, 1:-2, :, 3:]": the part of each spatial axis that is left.
std::string cropped(const std::string& x, const Ints& begin, const Ints& end) {
  std::string text = x + "[:, :";
  for (std::size_t a = 0; a < 3; ++a) {
    text += ", " + (begin[a] ? std::to_string(begin[a]) : std::string()) + ":" +
            (end[a] ? "-" + std::to_string(end[a]) : std::string());
  }
  return text + "]";
}

/// Expression of a node without weights. `in`: what its inputs are called.
std::string expression(const Node& node, const std::vector<std::string>& in, Dialect dialect) {
  const bool python = dialect == Dialect::Python;
  const auto call = [&](const std::string& function, const std::string& rest) {
    return (python ? "F." : "torch.") + function + "(" + in[0] + rest + ")";
  };
  const std::string& op = node.op;
  if (op == "relu") return call("relu", "");
  if (op == "leaky_relu") return call("leaky_relu", ", " + number(attribute_real(node, "slope")));
  if (op == "elu") return call("elu", ", " + number(attribute_real(node, "alpha")));
  if (op == "sigmoid") return "torch.sigmoid(" + in[0] + ")";
  if (op == "add") {
    std::string sum = in[0];
    for (std::size_t i = 1; i < in.size(); ++i) sum += " + " + in[i];
    return sum;
  }
  if (op == "multiply") return in[0] + " * " + in[1];
  if (op == "concat") {
    return "torch.cat([" + joined(in, [](const std::string& name) { return name; }) + "], 1)";
  }
  if (op == "max_pool" || op == "avg_pool") {
    const Ints kernel = attribute_ints(node, "kernel"), stride = attribute_ints(node, "stride");
    const Ints padding = attribute_ints(node, "padding");
    const auto text = [&](const Ints& values) { return python ? triple(values) : list(values); };
    return call(op + "3d", ", " + text(kernel) + ", " + text(stride) + ", " + text(padding));
  }
  if (op == "resize") {
    const std::string scale = reals(attribute_vec3(node, "scale"), dialect);
    const bool nearest = attribute_text(node, "mode") == "nearest";
    if (python) {
      const std::string mode =
          nearest ? "mode=\"nearest\"" : "mode=\"trilinear\", align_corners=False";
      return call("interpolate", ", scale_factor=" + scale + ", " + mode);
    }
    return nearest ? call("upsample_nearest3d", ", None, " + scale)
                   : call("upsample_trilinear3d", ", None, False, " + scale);
  }
  if (op == "crop") {
    if (in.size() == 2) return "self.crop_to(" + in[0] + ", " + in[1] + ")";
    return cropped(in[0], attribute_ints(node, "begin"), attribute_ints(node, "end"));
  }
  if (op == "pad") {
    const Ints b = attribute_ints(node, "begin"), e = attribute_ints(node, "end");
    const std::string margins = integers({b[2], e[2], b[1], e[1], b[0], e[0]});
    const std::string value = number(attribute_real(node, "value"));
    return python ? call("pad", ", (" + margins + "), value=" + value)
                  : call("constant_pad_nd", ", [" + margins + "], " + value);
  }
  if (op == "dropout") {
    return call("dropout", ", " + number(attribute_real(node, "p")) + ", self.training");
  }
  if (op == "slice") {
    return concat_text(
        in[0], "[:, ", attribute_int(node, "begin"), ":", attribute_int(node, "end"), "]");
  }
  fail(ErrorKind::Input, node_label(node), ": this operation cannot be expressed in PyTorch");
}

constexpr const char* kCropTo = R"(def crop_to(self, x: Tensor, like: Tensor) -> Tensor:
    d = (x.size(2) - like.size(2)) // 2
    h = (x.size(3) - like.size(3)) // 2
    w = (x.size(4) - like.size(4)) // 2
    return x[:, :, d:d + like.size(2), h:h + like.size(3), w:w + like.size(4)]
)";

struct Body {
  std::vector<std::string> lines;
  std::vector<std::string> outputs;  // what the results are called, finest first
  bool crops_to = false;             // needs the method crop_to
};

/// The statements that compute the graph from `image`. A result that only the next statement reads
/// is called x; others are named after their node.
Body forward_body(const Graph& graph, Dialect dialect) {
  NAS_CHECK(graph.input_nodes().size() == 1,
            "network '",
            graph.name,
            "': export expects one input, found ",
            graph.input_nodes().size());
  const std::size_t count = graph.nodes.size();
  const std::vector<std::vector<StateTensor>> states = graph_state(graph);
  const std::vector<std::int64_t> channels = channel_counts(graph);
  std::vector<int> uses(count, 0);
  for (const Node& node : graph.nodes) {
    for (const int input : node.inputs) ++uses[static_cast<std::size_t>(input)];
  }
  Body body;
  std::vector<std::string> names(count);
  std::set<std::string> used = {"x", "image", "self", "layer", "torch", "nn", "F", "Tensor"};
  for (std::size_t i = 0; i < count; ++i) {
    const Node& node = graph.nodes[i];
    std::vector<std::string> inputs;
    for (const int input : node.inputs) inputs.push_back(names[static_cast<std::size_t>(input)]);
    if (node.op == "input") {
      names[i] = "image";
      continue;
    }
    if (node.op == "output") {
      names[i] = inputs[0];
      body.outputs.push_back(inputs[0]);
      continue;
    }
    const bool passed_on = uses[i] == 1 && i + 1 < count && graph.nodes[i + 1].op != "output" &&
                           std::ranges::count(graph.nodes[i + 1].inputs, static_cast<int>(i)) == 1;
    if (passed_on) {
      names[i] = "x";
    } else {
      std::string name = node.name;
      for (char& c : name) {
        if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
      }
      if (!is_identifier(name)) name = "n_" + name;
      while (!used.insert(name).second) name += "_";
      names[i] = name;
    }
    std::string value;
    const auto input_channels = channels[static_cast<std::size_t>(node.inputs[0])];
    if (!python_layer(node, input_channels).empty()) {
      check_module_name(node);
      // A norm without weights needs no module in TorchScript, but its call is the same.
      value = dialect == Dialect::Python ? "layer(\"" + node.name + "\")(" + inputs[0] + ")"
                                         : module_path(node.name) + ".forward(" + inputs[0] + ")";
    } else {
      value = expression(node, inputs, dialect);
    }
    body.crops_to |= node.op == "crop" && node.inputs.size() == 2;
    body.lines.push_back(names[i] + " = " + value);
  }
  return body;
}

std::string indented(const std::string& text, const std::string& margin) {
  std::string result;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    result += margin + text.substr(begin, end - begin) + "\n";
    begin = end + 1;
  }
  return result;
}

}  // namespace

std::string python_source(const Graph& graph) {
  refuse_file_nodes(graph, "Python source");
  validate(graph);
  const std::vector<std::int64_t> channels = channel_counts(graph);
  const Body body = forward_body(graph, Dialect::Python);
  std::string layers;
  for (const Node& node : graph.nodes) {
    if (node.inputs.empty()) continue;
    const std::string layer =
        python_layer(node, channels[static_cast<std::size_t>(node.inputs[0])]);
    if (!layer.empty()) layers += "            \"" + node.name + "\": " + layer + ",\n";
  }
  std::string steps;
  for (const std::string& line : body.lines) steps += "        " + line + "\n";
  const auto input = static_cast<std::size_t>(graph.input_nodes().front());
  const auto finest = static_cast<std::size_t>(graph.output_nodes().front());
  const std::string all =
      "[" + joined(body.outputs, [](const std::string& name) { return name; }) + "]";
  const std::string result = body.outputs.size() == 1
                                 ? body.outputs.front()
                                 : all + " if self.training else " + body.outputs.front();
  return concat_text(
      R"(# Written by voxnas export --to pytorch from network.json. Weights: weights.pt beside this file.
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def place(root, name, layer):
    """Registers `layer` under a dotted name, so that the state dict has the network's own names."""
    *parents, leaf = name.split(".")
    for part in parents:
        if part not in dict(root.named_children()):
            root.add_module(part, nn.Module())
        root = getattr(root, part)
    for part, child in dict(root.named_children()).get(leaf, nn.Module()).named_children():
        layer.add_module(part, child)
    root.add_module(leaf, layer)


class Network(nn.Module):
    """[N, )",
      channels[input],
      ", D, H, W] -> logits [N, ",
      channels[finest],
      ", ...]",
      body.outputs.size() == 1
          ? ""
          : concat_text("; in training a list of ", body.outputs.size(), ", finest first"),
      R"(."""

    def __init__(self):
        super().__init__()
        layers = {
)",
      layers,
      R"(        }
        for name, layer in layers.items():
            place(self, name, layer)

    def forward(self, image: Tensor):
        layer = self.get_submodule
)",
      steps,
      "        return ",
      result,
      "\n",
      body.crops_to ? "\n" + indented(kCropTo, "    ") : std::string());
}

std::vector<TorchScriptPart> torchscript_source(const Graph& graph) {
  validate(graph);
  const Graph inference = first_output_only(graph);
  const std::vector<std::vector<StateTensor>> states = graph_state(inference);
  const Body body = forward_body(inference, Dialect::TorchScript);
  std::vector<TorchScriptPart> parts;
  for (std::size_t i = 0; i < inference.nodes.size(); ++i) {
    std::string source = script_layer(inference.nodes[i], states[i]);
    if (!source.empty()) parts.push_back({inference.nodes[i].name, std::move(source)});
  }
  std::string source = "def forward(self, image: Tensor) -> Tensor:\n";
  for (const std::string& line : body.lines) source += "    " + line + "\n";
  source += "    return " + body.outputs.front() + "\n";
  // The method that forward calls comes first.
  parts.push_back({"", (body.crops_to ? kCropTo + source : source)});
  return parts;
}

}  // namespace nas
