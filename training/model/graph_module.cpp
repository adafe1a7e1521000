// SPDX-License-Identifier: Apache-2.0
#include "training/model/graph_module.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include <ATen/autocast_mode.h>

#include "nas/core/error.h"
#include "nas/core/rng.h"
#include "nas/network/file_nodes.h"
#include "nas/network/operations.h"
#include "training/kernels/kernels.h"
#include "training/model/device.h"
#include "training/model/script_file.h"

namespace nas {
namespace {

/// Normal numbers, a function of `stream` and the index alone (Box-Muller over Philox words).
at::Tensor normal_values(const std::vector<std::int64_t>& shape,
                         double deviation,
                         const Rng& stream) {
  const at::Tensor values = at::empty(shape, at::kFloat);
  float* out = values.data_ptr<float>();
  const std::int64_t count = values.numel();
  for (std::int64_t i = 0; i < count; i += 4) {
    const Philox4 words = philox4x32(stream.key(), static_cast<std::uint64_t>(i / 4));
    for (int pair = 0; pair < 2; ++pair) {
      const double radius =
          std::sqrt(-2 * std::log1p(-static_cast<double>(uniform_from_bits(words.v[2 * pair]))));
      const double angle = 2 * std::numbers::pi * uniform_from_bits(words.v[2 * pair + 1]);
      const std::int64_t at = i + 2 * pair;
      if (at < count) out[at] = static_cast<float>(deviation * radius * std::cos(angle));
      if (at + 1 < count) out[at + 1] = static_cast<float>(deviation * radius * std::sin(angle));
    }
  }
  return values;
}

}  // namespace

torch::nn::Module& GraphModuleImpl::holder(const std::string& node) {
  torch::nn::Module* place = this;
  std::size_t begin = 0;
  while (begin <= node.size()) {
    const std::size_t end = std::min(node.find('.', begin), node.size());
    const std::string part = node.substr(begin, end - begin);
    const auto children = place->named_children();
    if (const auto* found = children.find(part)) {
      place = found->get();
    } else {
      place = place->register_module(part, std::make_shared<torch::nn::Module>()).get();
    }
    begin = end + 1;
  }
  return *place;
}

GraphModuleImpl::GraphModuleImpl(Graph graph, std::uint64_t seed) : graph_(std::move(graph)) {
  validate(graph_);
  context_.module = this;
  make_state(graph_, "", {}, seed);
  choice_sizes_ = choice_sizes(graph_);
  if (choice_sizes_.empty()) select_path({});
}

std::int64_t GraphModuleImpl::make_state(const Graph& graph,
                                         const std::string& prefix,
                                         const std::vector<std::int64_t>& given,
                                         std::uint64_t seed) {
  std::vector<std::int64_t> channels;
  std::size_t next_input = 0;
  std::int64_t result = 0;  // channels of the last output
  const Rng random = Rng(seed).split("weights");
  for (const Node& node : graph.nodes) {
    const std::string name = prefix + node.name;
    std::vector<std::int64_t> input_channels;
    std::vector<TensorShape> input_shapes;
    for (const int input : node.inputs) {
      input_channels.push_back(channels[static_cast<std::size_t>(input)]);
      input_shapes.push_back({input_channels.back(), {8, 8, 8}});
    }
    if (!node.alternatives.empty()) {
      for (std::size_t k = 0; k < node.alternatives.size(); ++k) {
        const std::int64_t found =
            make_state(node.alternatives[k], alternative_prefix(name, k), input_channels, seed);
        if (k == 0) channels.push_back(found);
      }
      continue;
    }
    if (node.op == kScriptOp) register_module(name, std::make_shared<ScriptModule>(node));
    const bool is_given = node.op == "input" && !prefix.empty();
    channels.push_back(is_given ? given.at(next_input++) : result_channels(node, input_channels));
    if (node.op == "output") result = channels.back();

    for (const StateTensor& tensor : state_tensors(node, input_shapes)) {
      at::Tensor value;
      if (tensor.name == "weight" && tensor.shape.size() == 5) {
        // Fan in as LibTorch counts it: axis 1 times the kernel (of a transposed kernel these are
        // its outputs).
        const double fan = static_cast<double>(tensor.shape[1] * tensor.shape[2] * tensor.shape[3] *
                                               tensor.shape[4]);
        value = normal_values(tensor.shape,
                              std::sqrt(2 / (1 + 0.01 * 0.01) / fan),
                              random.split(name).split(tensor.name));
      } else if (tensor.name == "weight") {
        value = at::full(tensor.shape, node.op == "prelu" ? 0.25 : 1.0);
      } else {
        value = at::full(tensor.shape, tensor.name == "running_var" ? 1.0 : 0.0);
      }
      torch::nn::Module& place = holder(name);
      context_.state[name + "." + tensor.name] = tensor.learnable
                                                     ? place.register_parameter(tensor.name, value)
                                                     : place.register_buffer(tensor.name, value);
    }
  }
  return result;
}

std::shared_ptr<const Program> GraphModuleImpl::path(const std::vector<int>& picks,
                                                     bool first_output) {
  Graph closed = choice_sizes_.empty() && picks.empty() ? graph_ : close_choices(graph_, picks);
  if (first_output) closed = first_output_only(closed);
  return std::make_shared<const Program>(lower(closed, context_));
}

void GraphModuleImpl::select_path(const std::vector<int>& picks) { active_ = path(picks); }

const Program& GraphModuleImpl::mix(std::vector<at::Tensor> weights) {
  NAS_CHECK_KIND(Usage,
                 !choice_sizes_.empty() && weights.size() == choice_sizes_.size(),
                 "network '",
                 graph_.name,
                 "': expected mixture weights for ",
                 choice_sizes_.size(),
                 " choices, found ",
                 weights.size());
  for (std::size_t i = 0; i < weights.size(); ++i) {
    NAS_CHECK_KIND(Shape,
                   weights[i].dim() == 1 && weights[i].size(0) == choice_sizes_[i],
                   "network '",
                   graph_.name,
                   "': mixture weights of choice ",
                   i,
                   ": expected ",
                   choice_sizes_[i],
                   " numbers, found sizes ",
                   weights[i].sizes());
  }
  if (!mixture_program_) {
    auto program = std::make_shared<const Program>(lower(graph_, context_));
    NAS_CHECK_KIND(Usage,
                   context_.merge != Merge::Mixed || program->merged_choices > 0,
                   "network '",
                   graph_.name,
                   "': no choice has alternatives that are convolutions alone (norm and activation "
                   "after the choice), so merging the mixed operation would change nothing; use "
                   "merging \"none\" or \"exact\"");
    mixture_program_ = std::move(program);
  }
  context_.mixture = std::move(weights);
  active_ = mixture_program_;
  return *active_;
}

void GraphModuleImpl::set_merge(Merge merge) {
  context_.merge = merge;
  mixture_program_.reset();
  active_.reset();
  if (choice_sizes_.empty()) select_path({});
}

std::vector<at::Tensor> GraphModuleImpl::start(const Program& program, const at::Tensor& input) {
  NAS_CHECK_KIND(Shape,
                 input.dim() == 5,
                 "network '",
                 graph_.name,
                 "': expected input [N, C, D, H, W], found ",
                 input.sizes());
  const auto device = input.device();
  // Autocast decides the type, but we cast ourselves: weights once per step, and norms read and
  // write the lower type with statistics in float32.
  const at::ScalarType type = at::autocast::is_autocast_enabled(device.type())
                                  ? at::autocast::get_autocast_dtype(device.type())
                                  : input.scalar_type();
  const Autocast off(device, at::kFloat);
  at::Tensor x = input.to(type);
  // bfloat16 on CUDA too: tensor cores read NDHWC, and our norm does not turn it.
  const bool own_norm =
      device.is_cpu() || (device.is_cuda() && type == at::kBFloat16 && kernels::cuda::compiled());
  if (context_.fused && own_norm) x = x.contiguous(at::MemoryFormat::ChannelsLast3d);
  Values values(program.graph.nodes.size());
  for (const int i : program.graph.input_nodes()) {
    const Node& node = program.graph.nodes[static_cast<std::size_t>(i)];
    NAS_CHECK_KIND(Shape,
                   input.size(1) == attribute_int(node, "channels"),
                   node_label(node),
                   ": expected ",
                   attribute_int(node, "channels"),
                   " channels, found input ",
                   input.sizes());
    values[static_cast<std::size_t>(i)] = x;
  }
  return values;
}

std::vector<at::Tensor> GraphModuleImpl::forward(const at::Tensor& input) {
  NAS_CHECK_KIND(Usage,
                 active_ != nullptr,
                 "network '",
                 graph_.name,
                 "' has open choices: select a path or mix the alternatives before running it");
  const std::shared_ptr<const Program> program = active_;
  Values values = start(*program, input);
  const Autocast off(input.device(), at::kFloat);
  run_steps(*program, 0, program->steps.size(), values);
  Values outputs;
  for (const int i : program->graph.output_nodes())
    outputs.push_back(values[static_cast<std::size_t>(i)]);
  return outputs;
}

}  // namespace nas
