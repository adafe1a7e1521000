// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include <torch/torch.h>

#include "training/model/program.h"

namespace nas {

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

/// What the steps of a program read while they run, and what lowering is told.
struct ProgramContext {
  const torch::nn::Module* module = nullptr;  // in training or evaluation mode
  std::map<std::string, at::Tensor> state;    // parameters and buffers by full name
  Merge merge = Merge::None;
  bool fused = true;                    // NDHWC and own kernels on the CPU
  Values mixture;                       // weights of the alternatives, one [k] per open choice
  std::uint64_t dropout_stream = 0;     // of the masks
  std::optional<double> norm_momentum;  // batch norms use and learn the batch's statistics

  /// \returns an undefined tensor if there is none of this name.
  const at::Tensor& state_of(const std::string& name) const;
};

/// The program of `graph` over the state of `context`, which must outlive it. Choices are numbered
/// in the order of choice_sizes().
Program lower(const Graph& graph, const ProgramContext& context);

}  // namespace nas
