// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/torch.h>

#include "training/model/program.h"

namespace nas {

/// A convolution as the program runs it: its kernel is a function of parameters, so that several
/// convolutions of the graph can be one.
struct Convolution {
  std::function<at::Tensor()> kernel;  // [Cout, Cin / groups, kD, kH, kW]
  std::function<at::Tensor()> bias;    // [Cout]; empty: none
  std::vector<std::int64_t> size, stride, padding, dilation;
  std::int64_t groups = 1;
  std::int64_t in = 0, out = 0;  // channels
  std::string name;

  double macs() const {  // per voxel of the result
    return static_cast<double>(in / groups * out * size[0] * size[1] * size[2]);
  }
};

/// `second` after `first` as one convolution, with equal values and gradients: kernels multiply
/// over the channels between. \returns nullopt where that is not exact: a bias in between (its sum
/// would change at the borders), groups, or an axis where both kernels have more than one tap (the
/// zeros that pad the result in between are not what one convolution sees there).
std::optional<Convolution> compose(const Convolution& first, const Convolution& second);

/// The alternatives of a choice as one convolution with the kernel sum_k w_k K_k, each K_k in its
/// place in the smallest kernel that holds all. `weights` gives the [k] mixture weights when it
/// runs. \returns nullopt where strides differ, or on groups and dilation.
std::optional<Convolution> superpose(const std::vector<Convolution>& terms,
                                     std::function<at::Tensor()> weights);

/// Type in which a convolution of bf16 tensors runs on a CPU: float where an axis is shorter than the
/// kernel, else the tensors' own. The bf16 kernels of oneDNN 3.10.2 (LibTorch 2.11, AVX512-BF16) read
/// and write past their buffers there when they compute the gradient of the weights, which then is
/// not finite, or any number; these layers are small.
/// \param extents of the axes that the kernel slides over: of the input, of a transposed
/// convolution of the result.
/// The choice is kept from autocast while the object lives.
class ConvolutionType {
 public:
  ConvolutionType(const at::Tensor& x,
                  at::IntArrayRef extents,
                  const std::vector<std::int64_t>& kernel);
  operator at::ScalarType() const { return type_; }

 private:
  at::ScalarType type_;
  std::optional<c10::impl::ExcludeDispatchKeyGuard> exact_;
};

/// The step that runs `conv` on its first input, in the input's type.
StepFunction run_convolution(const Convolution& conv);

/// y = sum_k w_k x_k over the alternatives of a choice. The terms are kept only where the weights
/// need a gradient, so that a weight step of a super-network costs no more memory than its
/// branches.
at::Tensor weighted_sum(const at::Tensor& weights, const Values& terms);

/// A transposed convolution whose kernel is its stride, on NDHWC tensors: each input voxel becomes
/// a block of kernel voxels, so it is one matrix product and a permutation. [N, Cin, D, H, W] ->
/// [N, Cout, kD D, kH H, kW W]. \param weight [Cin, Cout, kD, kH, kW]. \param bias [Cout] or
/// undefined.
at::Tensor block_conv_transpose(const at::Tensor& x,
                                const at::Tensor& weight,
                                const at::Tensor& bias);

}  // namespace nas
