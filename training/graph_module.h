// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <torch/torch.h>

#include "nas/network/graph.h"

namespace nas {

/// A closed graph as a LibTorch module. Parameters are registered in nested modules so that `named_parameters()` gives
/// "<node name>.weight", "<node name>.bias": the graph's node names are the state-dict names.
class GraphModuleImpl : public torch::nn::Module {
 public:
  /// Weights are drawn from `seed`: He normal (slope 0.01, fan in) for convolutions, zero bias; norms 1 and 0.
  explicit GraphModuleImpl(Graph graph, std::uint64_t seed = 1);

  /// \param input [N, C, D, H, W]
  /// \returns one tensor per output node, finest first; in eval mode all outputs too (use first_output_only() to save work).
  std::vector<at::Tensor> forward(const at::Tensor& input);
  const Graph& graph() const { return graph_; }

 private:
  void reset(std::uint64_t seed);
  Graph graph_;
  struct Step;
  std::vector<std::shared_ptr<Step>> steps_;
};
TORCH_MODULE(GraphModule);

/// Weights of a module as a safetensors file with the graph's names, and back (all names and shapes must fit;
/// \throws Error(Input) naming file, tensor, expected and found shape).
void save_weights(const std::string& file, const torch::nn::Module& module);
void load_weights(const std::string& file, torch::nn::Module& module);

}  // namespace nas
