// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "nas/network/graph.h"
#include "training/model/lowering.h"

namespace nas {

/// A graph as a LibTorch module. Parameters are registered in nested modules so that
/// `named_parameters()` gives "<node name>.weight", "<node name>.bias": the graph's node names are
/// the state-dict names.
///
/// A graph with open choices is a super-network: the module holds the parameters of every
/// alternative, under the names and with the first values that they have in the closed graph's
/// module ("<choice>.alt<k>.<node>.weight"). It runs one path (select_path), the program of the
/// closed graph itself, or the weighted sum of the alternatives (mix).
///
/// Running fuses what the graph keeps apart: instance norm with the activation behind it (own
/// kernels, NDHWC, statistics in float32, on the CPU), the bias of a convolution in front of an
/// instance norm is left out (the norm removes it; its gradient is 0 and stays undefined), and a
/// transposed convolution whose kernel is its stride is a matrix product and a permutation. Under
/// autocast (device.h) convolutions run in the lower type; parameters stay float32.
class GraphModuleImpl : public torch::nn::Module {
 public:
  /// Weights are drawn from `seed`: He normal (slope 0.01, fan in) for convolutions, zero bias;
  /// norms 1 and 0. Each tensor has a stream of its own, named after it: the same name gives the
  /// same weights in every network.
  explicit GraphModuleImpl(Graph graph, std::uint64_t seed = 1);

  /// \param input [N, C, D, H, W]
  /// \returns one tensor per output node, finest first; in eval mode all outputs too (use
  /// first_output_only() to save work). \throws Error(Usage) if choices are open and neither a path
  /// nor a mixture was set.
  std::vector<at::Tensor> forward(const at::Tensor& input);
  const Graph& graph() const { return graph_; }

  /// forward() runs the path that close_choices(graph(), picks) is: bit for bit what its own module
  /// with the same weights gives. Parameters off the path get no gradient.
  void select_path(const std::vector<int>& picks);
  /// forward() runs y = sum_k w_k alternative_k(x) at every choice. `weights`: one tensor [k] per
  /// choice in the order of choice_sizes(); gradients flow into those that need them.
  /// \returns the program. \throws Error(Usage) if nothing can be merged with Merge::Mixed.
  const Program& mix(std::vector<at::Tensor> weights);
  /// Forgets path and mixture. Default None.
  void set_merge(Merge merge);

  /// The program of a path, for evaluation in pieces; `first_output`: without the others.
  std::shared_ptr<const Program> path(const std::vector<int>& picks, bool first_output = false);
  /// The values of all nodes before the first step: the input, cast as forward() does.
  std::vector<at::Tensor> start(const Program& program, const at::Tensor& input);

  /// Whether tensors run as NDHWC through our own kernels on the CPU (default) or as LibTorch's
  /// NCDHW.
  void set_fused(bool fused) { context_.fused = fused; }
  /// The stream of dropout masks; fit() sets it before each step, so that a step can be repeated.
  void set_dropout_stream(std::uint64_t key) { context_.dropout_stream = key; }
  /// Batch norms use the batch's statistics, also in evaluation mode, and take this share of them
  /// into the running ones, in place of the nodes' own (to estimate them anew); nullopt: as usual.
  void set_norm_momentum(std::optional<double> momentum) { context_.norm_momentum = momentum; }

 private:
  std::int64_t make_state(const Graph& graph,
                          const std::string& prefix,
                          const std::vector<std::int64_t>& given,
                          std::uint64_t seed);
  torch::nn::Module& holder(const std::string& node);

  Graph graph_;
  std::vector<int> choice_sizes_;
  ProgramContext context_;
  std::shared_ptr<const Program> active_, mixture_program_;
};
TORCH_MODULE(GraphModule);

}  // namespace nas
