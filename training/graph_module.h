// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <torch/torch.h>

#include "nas/network/graph.h"

namespace nas {

/// A closed graph as a LibTorch module. Parameters are registered in nested modules so that
/// `named_parameters()` gives
/// "<node name>.weight", "<node name>.bias": the graph's node names are the state-dict names.
///
/// Running fuses what the graph keeps apart: instance norm with the activation behind it (own
/// kernels, NDHWC, statistics in float32, on the CPU), the bias of a convolution in front of an
/// instance norm is left out (the norm removes it; its gradient is 0 and stays undefined), and a
/// transposed convolution whose kernel is its stride is a matrix product and a permutation. Under
/// autocast (Autocast below) convolutions run in the lower type; parameters stay float32.
class GraphModuleImpl : public torch::nn::Module {
 public:
  /// Weights are drawn from `seed`: He normal (slope 0.01, fan in) for convolutions, zero bias;
  /// norms 1 and 0. Each tensor has a stream of its own, named after it: the same name gives the
  /// same weights in every network.
  explicit GraphModuleImpl(Graph graph, std::uint64_t seed = 1);

  /// \param input [N, C, D, H, W]
  /// \returns one tensor per output node, finest first; in eval mode all outputs too (use
  /// first_output_only() to save work).
  std::vector<at::Tensor> forward(const at::Tensor& input);
  const Graph& graph() const { return graph_; }

  /// Whether tensors run as NDHWC through our own kernels on the CPU (default) or as LibTorch's
  /// NCDHW.
  void set_fused(bool fused) { fused_ = fused; }
  /// The stream of dropout masks; fit() sets it before each step, so that a step can be repeated.
  void set_dropout_stream(std::uint64_t key) { dropout_stream_ = key; }

 private:
  struct Step;
  void lower(int node, std::uint64_t seed);
  at::Tensor parameter(const std::string& node, const std::string& leaf, const at::Tensor& value);
  at::Tensor buffer(const std::string& node, const std::string& leaf, const at::Tensor& value);
  torch::nn::Module& holder(const std::string& node);

  Graph graph_;
  std::vector<std::shared_ptr<Step>> steps_;
  bool fused_ = true;
  std::uint64_t dropout_stream_ = 0;
};
TORCH_MODULE(GraphModule);

/// Instance norm with affine weights (undefined: none), then leaky ReLU (`slope` 1: none, 0: ReLU);
/// statistics in float32. [N, C, D, H, W] in float, bfloat16 or half; the result has the type and
/// memory format of `x`. On the CPU NDHWC tensors go through the kernels of
/// training/kernels/norm_act.h, others through norm_act_composed (LibTorch's operators).
at::Tensor norm_act(const at::Tensor& x,
                    const at::Tensor& weight,
                    const at::Tensor& bias,
                    double eps,
                    double slope);
at::Tensor norm_act_composed(const at::Tensor& x,
                             const at::Tensor& weight,
                             const at::Tensor& bias,
                             double eps,
                             double slope);

/// A transposed convolution whose kernel is its stride, on NDHWC tensors: each input voxel becomes
/// a block of kernel voxels, so it is one matrix product and a permutation. [N, Cin, D, H, W] ->
/// [N, Cout, kD D, kH H, kW W]. \param weight [Cin, Cout, kD, kH, kW]. \param bias [Cout] or
/// undefined.
at::Tensor block_conv_transpose(const at::Tensor& x,
                                const at::Tensor& weight,
                                const at::Tensor& bias);

/// Autocast to `type` on `device` for the life of the object; nothing for float32.
class Autocast {
 public:
  Autocast(const at::Device& device, at::ScalarType type);
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;
  ~Autocast();

 private:
  at::DeviceType device_;
  bool was_enabled_;
  at::ScalarType was_type_;
};

/// Type of the arithmetic for "auto", "fp32", "bf16" or "fp16": auto is bf16 where the device has
/// it in hardware (AVX512-BF16 or AMX; CUDA compute capability 8 and up), else float32 (fp16 on
/// older CUDA). \throws Error(Usage) on an unknown name, and on fp16 on a CPU.
at::ScalarType choose_precision(const std::string& precision, const at::Device& device);

/// Weights of a module as a safetensors file with the graph's names, and back (all names and shapes
/// must fit; \throws Error(Input) naming file, tensor, expected and found shape).
void save_weights(const std::string& file, const torch::nn::Module& module);
void load_weights(const std::string& file, torch::nn::Module& module);

/// What load_matching_weights found.
struct WeightTransfer {
  std::vector<std::string> copied;     // names, in the module's order
  std::vector<std::string> own_start;  // in the module, but not in the file or of another shape
};
/// Copies the tensors whose name and shape agree and leaves the others at their start: another
/// task's weights for an adapted network (adapt_network). 	hrows Error(Input) if none agrees.
WeightTransfer load_matching_weights(const std::string& file, torch::nn::Module& module);

}  // namespace nas
