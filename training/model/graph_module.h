// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <torch/torch.h>

#include "nas/network/graph.h"

namespace nas {

/// What a graph is lowered to: steps in order, fused where running fuses, over the parameters of
/// the module that made it (which must outlive it).
struct Program {
  struct Step {
    int node = 0;                // whose result this is
    std::vector<int> inputs;     // nodes
    std::vector<int> last_used;  // nodes whose value is not needed after this step
    std::string does;            // names of the nodes it stands for: the same text, the same work
    /// From the values of `inputs` to the result; empty for a graph input.
    std::function<at::Tensor(const std::vector<at::Tensor>&)> run;
  };
  Graph graph;
  std::vector<Step> steps;
  int choices = 0;         // open choices, nested ones included
  int merged_choices = 0;  // of these, run as one convolution (Merge::Mixed)
  int merged_pairs = 0;    // convolutions that run as part of the next one (Merge::Exact)
};
/// Number of leading steps in which two programs of one module do the same.
std::size_t shared_steps(const Program& a, const Program& b);

/// How convolutions that follow each other without anything in between run (ours, after the remark
/// that such a pair is linear):
///   None:  as written.
///   Exact: two convolutions as one wherever that costs no more multiply-adds. The values are those
///          of None up to rounding, gradients too. (3x3x1, 1x1x1) becomes one 3x3x1; (3x3x1, 1x1x3)
///          stays factorised, 12 taps against 27.
///   Mixed: besides, a mixture of alternatives that are convolutions alone is one convolution with
///          the kernel sum_k w_k K_k. Its values too are those of None; but such alternatives have
///          their norm and activation after the sum, which is another super-network than one with
///          them in every branch. Choices with other alternatives run as in Exact.
enum class Merge { None, Exact, Mixed };

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
/// autocast (Autocast below) convolutions run in the lower type; parameters stay float32.
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
  /// Runs steps [begin, end) on `values`, one slot per node of program.graph. A value is dropped
  /// after its last use in `program` unless keep[node]. Outside of autocast.
  void run(const Program& program,
           std::size_t begin,
           std::size_t end,
           std::vector<at::Tensor>& values,
           const std::vector<char>* keep = nullptr);

  /// Whether tensors run as NDHWC through our own kernels on the CPU (default) or as LibTorch's
  /// NCDHW.
  void set_fused(bool fused) { fused_ = fused; }
  /// The stream of dropout masks; fit() sets it before each step, so that a step can be repeated.
  void set_dropout_stream(std::uint64_t key) { dropout_stream_ = key; }
  /// Batch norms use the batch's statistics, also in evaluation mode, and take this share of them
  /// into the running ones, in place of the nodes' own (to estimate them anew); nullopt: as usual.
  void set_norm_momentum(std::optional<double> momentum) { norm_momentum_ = momentum; }

 private:
  struct Lowering;
  std::int64_t make_state(const Graph& graph,
                          const std::string& prefix,
                          const std::vector<std::int64_t>& given,
                          std::uint64_t seed);
  const at::Tensor& state_of(const std::string& name) const;
  torch::nn::Module& holder(const std::string& node);

  Graph graph_;
  std::vector<int> choice_sizes_;
  std::map<std::string, at::Tensor> state_;  // parameters and buffers by full name
  std::shared_ptr<const Program> active_, mixture_program_;
  std::vector<at::Tensor> mixture_;  // of the choices
  Merge merge_ = Merge::None;
  bool fused_ = true;
  std::uint64_t dropout_stream_ = 0;
  std::optional<double> norm_momentum_;
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
  std::vector<std::string> copied;     // names
  std::int64_t widened = 0;            // of them, how many into a wider tensor
  std::vector<std::string> own_start;  // in the module, but not in the file or of another shape
};
/// Copies the tensors whose name and shape agree and leaves the others at their start: a warm
/// start, or another task's weights for an adapted network (adapt_network).
WeightTransfer load_matching_weights(const std::string& file, torch::nn::Module& module);
/// The same, and weights of a narrower network of this structure become part of the wider one, so
/// that it begins with the narrower one's function: the channels that both have get their weights,
/// the others begin anew and are read with weight 0 by the shared ones. Ours; Net2Net (Chen et al.,
/// ICLR 2016, arXiv:1511.05641) repeats channels instead, which then need noise to differ. Exact
/// for what works channel by channel (norms per channel, not groups of them); with open choices as
/// load_matching_weights.
WeightTransfer load_narrower_weights(const std::string& file, GraphModuleImpl& module);

}  // namespace nas
