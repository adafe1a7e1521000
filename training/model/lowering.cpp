// SPDX-License-Identifier: Apache-2.0
#include "training/model/lowering.h"

#include <utility>
#include <vector>

#include "nas/core/error.h"
#include "nas/core/rng.h"
#include "nas/network/file_nodes.h"
#include "nas/network/operations.h"
#include "training/model/convolution.h"
#include "training/model/norm_act.h"
#include "training/model/own_lowerings.h"
#include "training/model/script_file.h"
#include "training/model/stateless_step.h"

namespace nas {
namespace {

/// Who does the work of whom: a norm runs the activation behind it, a convolution the one in front
/// of it (merging), a convolution in front of a norm drops its bias. One entry per node.
struct Fusion {
  std::vector<char> runs_elsewhere, without_bias;
  std::vector<int> activation;            // the node that this one runs besides; -1: none
  std::vector<std::vector<int>> sources;  // inputs of what is left
  std::map<std::size_t, Convolution> convolutions;
};

/// Turns graphs into programs.
struct Lowering {
  const ProgramContext& context;
  std::size_t next_choice = 0;

  Program lower(const Graph& graph, const std::string& prefix);
  Program::Step lower_choice(const Node& node,
                             int index,
                             const std::string& name,
                             Program& program);
  Fusion fuse(const Graph& graph, const std::string& prefix, Program& program) const;
  Program::Step lower_node(const Graph& graph,
                           std::size_t index,
                           const std::string& prefix,
                           const Fusion& fusion) const;
  /// What a node with state runs; empty: it has none.
  StepFunction stateful_step(const Node& node, const std::string& name) const;
  /// The convolution of a node; `keeps_bias` false: its bias is left out.
  Convolution convolution(const Node& node, const std::string& name, bool keeps_bias) const;
  /// An alternative that is a chain of convolutions as one; nullopt if it is anything else.
  std::optional<Convolution> as_convolution(const Graph& graph, const std::string& prefix) const;
};

Convolution Lowering::convolution(const Node& node,
                                  const std::string& name,
                                  bool keeps_bias) const {
  const at::Tensor weight = context.state_of(name + ".weight"),
                   bias = context.state_of(name + ".bias");
  Convolution result;
  result.name = name;
  result.kernel = [weight] { return weight; };
  if (bias.defined() && keeps_bias) result.bias = [bias] { return bias; };
  result.size = attribute_ints(node, "kernel");
  result.stride = attribute_ints(node, "stride");
  result.padding = attribute_ints(node, "padding");
  result.dilation = attribute_ints(node, "dilation");
  result.groups = attribute_int(node, "groups");
  result.out = weight.size(0);
  result.in = weight.size(1) * result.groups;
  return result;
}

std::optional<Convolution> Lowering::as_convolution(const Graph& graph,
                                                    const std::string& prefix) const {
  std::optional<Convolution> whole;
  int last = -1;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    if (node.op == "input" && last < 0) {
      last = static_cast<int>(i);
      continue;
    }
    if (node.inputs != std::vector<int>{last}) return std::nullopt;
    if (node.op == "output") return whole;
    if (node.op != "conv") return std::nullopt;
    const Convolution next = convolution(node, prefix + node.name, true);
    whole = whole ? compose(*whole, next) : next;
    if (!whole) return std::nullopt;
    last = static_cast<int>(i);
  }
  return std::nullopt;
}

Fusion Lowering::fuse(const Graph& graph, const std::string& prefix, Program& program) const {
  const std::size_t count = graph.nodes.size();
  std::vector<int> uses(count, 0);
  for (const Node& node : graph.nodes) {
    for (const int input : node.inputs) ++uses[static_cast<std::size_t>(input)];
  }
  Fusion fusion{.runs_elsewhere = std::vector<char>(count, 0),
                .without_bias = std::vector<char>(count, 0),
                .activation = std::vector<int>(count, -1),
                .sources = std::vector<std::vector<int>>(count),
                .convolutions = {}};
  for (std::size_t i = 0; i < count; ++i) {
    const Node& node = graph.nodes[i];
    if (node.inputs.empty()) continue;
    const auto source = static_cast<std::size_t>(node.inputs[0]);
    const Node& before = graph.nodes[source];
    if (uses[source] != 1) continue;
    if ((node.op == "leaky_relu" || node.op == "relu") && before.op == "instance_norm") {
      fusion.activation[source] = static_cast<int>(i);
      fusion.runs_elsewhere[i] = 1;
    }
    if (node.op == "instance_norm" && before.op == "conv") fusion.without_bias[source] = 1;
  }
  for (std::size_t i = 0; i < count; ++i) {
    const Node& node = graph.nodes[i];
    fusion.sources[i] = node.inputs;
    if (node.op != "conv") continue;
    Convolution own = convolution(node, prefix + node.name, !fusion.without_bias[i]);
    const auto before = static_cast<std::size_t>(node.inputs[0]);
    if (context.merge != Merge::None && uses[before] == 1 && fusion.convolutions.contains(before)) {
      const Convolution& first = fusion.convolutions.at(before);
      const std::optional<Convolution> whole = compose(first, own);
      if (whole && whole->macs() <= first.macs() + own.macs()) {
        fusion.sources[i] = fusion.sources[before];
        fusion.runs_elsewhere[before] = 1;
        own = *whole;
        ++program.merged_pairs;
      }
    }
    fusion.convolutions.emplace(i, std::move(own));
  }
  return fusion;
}

StepFunction Lowering::stateful_step(const Node& node, const std::string& name) const {
  const at::Tensor weight = context.state_of(name + ".weight"),
                   bias = context.state_of(name + ".bias");
  const ProgramContext* const c = &context;
  if (node.op == "conv_transpose") {
    const auto stride = attribute_ints(node, "stride"), padding = attribute_ints(node, "padding");
    const auto kernel = attribute_ints(node, "kernel");
    const bool blocks = kernel == stride && padding == std::vector<std::int64_t>{0, 0, 0};
    return [=](const Values& in) {
      if (blocks && c->fused && in[0].device().is_cpu()) {
        const auto type = in[0].scalar_type();
        return block_conv_transpose(in[0], weight.to(type), bias.defined() ? bias.to(type) : bias);
      }
      std::vector<std::int64_t> result;
      for (std::size_t axis = 0; axis < 3; ++axis) {
        result.push_back(in[0].size(static_cast<std::int64_t>(axis) + 2) * stride[axis]);
      }
      const ConvolutionType type(in[0], result, kernel);
      return at::conv_transpose3d(in[0].to(type),
                                  weight.to(type),
                                  bias.defined() ? bias.to(type) : bias,
                                  stride,
                                  padding)
          .to(in[0].scalar_type());
    };
  }
  if (node.op == "batch_norm") {
    const double eps = attribute_real(node, "eps"), momentum = attribute_real(node, "momentum");
    const at::Tensor mean = context.state_of(name + ".running_mean"),
                     var = context.state_of(name + ".running_var");
    return [=](const Values& in) {
      return at::batch_norm(in[0],
                            weight,
                            bias,
                            mean,
                            var,
                            c->module->is_training() || c->norm_momentum.has_value(),
                            c->norm_momentum.value_or(momentum),
                            eps,
                            at::globalContext().userEnabledCuDNN());
    };
  }
  if (node.op == "dropout") {
    const double keep = 1 - attribute_real(node, "p");
    return [=](const Values& in) {
      if (!c->module->is_training() || keep >= 1) return in[0];
      at::Generator generator = at::globalContext().defaultGenerator(in[0].device()).clone();
      generator.set_current_seed(Rng(c->dropout_stream).split("dropout").split(name).key());
      return in[0] * at::empty_like(in[0]).bernoulli_(keep, generator).mul_(1 / keep);
    };
  }
  if (node.op == kScriptOp) {
    const std::shared_ptr<const ScriptModule> script = script_module(*context.module);
    return [=](const Values& in) {
      const Rng stream = Rng(c->dropout_stream).split("script").split(name);
      return script->run(in[0], c->module->is_training(), stream.key());
    };
  }
  if (node.op == "prelu") {
    return [=](const Values& in) { return at::prelu(in[0], weight.to(in[0].scalar_type())); };
  }
  return nullptr;
}

Program::Step Lowering::lower_node(const Graph& graph,
                                   std::size_t index,
                                   const std::string& prefix,
                                   const Fusion& fusion) const {
  const Node& node = graph.nodes[index];
  const std::string name = prefix + node.name;
  Program::Step step;
  step.node = static_cast<int>(index);
  step.inputs = fusion.sources[index];
  step.does = name;
  if (node.op == "conv") {
    const Convolution& conv = fusion.convolutions.at(index);
    step.does = conv.name + (fusion.without_bias[index] ? " without bias" : "");
    step.run = run_convolution(conv);
  } else if (node.op == "instance_norm") {
    const at::Tensor weight = context.state_of(name + ".weight"),
                     bias = context.state_of(name + ".bias");
    const double eps = attribute_real(node, "eps");
    double slope = 1;
    if (fusion.activation[index] >= 0) {
      step.node = fusion.activation[index];
      const Node& next = graph.nodes[static_cast<std::size_t>(step.node)];
      slope = next.op == "relu" ? 0 : attribute_real(next, "slope");
      step.does += " + " + prefix + next.name;
    }
    step.run = [=, c = &context](const Values& in) {
      return c->fused ? norm_act(in[0], weight, bias, eps, slope)
                      : norm_act_composed(in[0], weight, bias, eps, slope);
    };
  } else if (node.op != "input") {
    if (const OwnLowering* own = own_lowering(node.op))
      step.run = own->make(
          node, [&](const std::string& tensor) { return context.state_of(name + "." + tensor); });
    if (!step.run) step.run = stateful_step(node, name);
    if (!step.run) step.run = stateless_step(node);
  }
  return step;
}

Program Lowering::lower(const Graph& graph, const std::string& prefix) {
  Program program;
  program.graph = graph;
  const Fusion fusion = fuse(graph, prefix, program);
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    if (node.op == "choice") {
      program.steps.push_back(lower_choice(node, static_cast<int>(i), prefix + node.name, program));
    } else if (!fusion.runs_elsewhere[i]) {
      program.steps.push_back(lower_node(graph, i, prefix, fusion));
    }
  }
  std::vector<char> seen(graph.nodes.size(), 0);
  for (auto step = program.steps.rbegin(); step != program.steps.rend(); ++step) {
    for (const int input : step->inputs) {
      if (seen[static_cast<std::size_t>(input)]) continue;
      seen[static_cast<std::size_t>(input)] = 1;
      step->last_used.push_back(input);
    }
  }
  return program;
}

Program::Step Lowering::lower_choice(const Node& node,
                                     int index,
                                     const std::string& name,
                                     Program& program) {
  const std::size_t choice = next_choice++;
  Program::Step step;
  step.node = index;
  step.inputs = node.inputs;
  step.does = name;
  ++program.choices;

  if (context.merge == Merge::Mixed) {
    std::vector<Convolution> terms;
    for (std::size_t k = 0; k < node.alternatives.size(); ++k) {
      auto term = as_convolution(node.alternatives[k], alternative_prefix(name, k));
      if (!term) break;
      terms.push_back(std::move(*term));
    }
    if (terms.size() == node.alternatives.size()) {
      if (const auto whole =
              superpose(terms, [c = &context, choice] { return c->mixture.at(choice); })) {
        ++program.merged_choices;
        step.run = run_convolution(*whole);
        return step;
      }
    }
  }

  struct Branch {
    Program program;
    std::vector<int> inputs;
    int output = 0;
  };
  auto branches = std::make_shared<std::vector<Branch>>();
  for (std::size_t k = 0; k < node.alternatives.size(); ++k) {
    const Graph& alternative = node.alternatives[k];
    branches->push_back({lower(alternative, alternative_prefix(name, k)),
                         alternative.input_nodes(),
                         alternative.output_nodes().front()});
    const Program& inner = branches->back().program;
    program.merged_pairs += inner.merged_pairs;
    program.choices += inner.choices;
    program.merged_choices += inner.merged_choices;
  }
  step.run = [c = &context, choice, branches](const Values& in) {
    Values terms;
    for (const Branch& branch : *branches) {
      Values values(branch.program.graph.nodes.size());
      for (std::size_t i = 0; i < in.size(); ++i) {
        values[static_cast<std::size_t>(branch.inputs[i])] = in[i];
      }
      run_steps(branch.program, 0, branch.program.steps.size(), values);
      terms.push_back(values[static_cast<std::size_t>(branch.output)]);
    }
    return weighted_sum(c->mixture.at(choice), terms);
  };
  return step;
}

}  // namespace

const at::Tensor& ProgramContext::state_of(const std::string& name) const {
  static const at::Tensor none;
  const auto found = state.find(name);
  return found == state.end() ? none : found->second;
}

Program lower(const Graph& graph, const ProgramContext& context) {
  return Lowering{context}.lower(graph, "");
}

}  // namespace nas
