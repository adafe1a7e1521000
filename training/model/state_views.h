// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <string>

#include <torch/torch.h>

#include "nas/network/safetensors.h"

namespace nas {

/// Parameters and buffers of a module by state-dict name, as float32 on the CPU; the views point
/// into the tensors, which may be the module's own.
struct StateViews {
  std::map<std::string, at::Tensor> tensors;
  std::map<std::string, TensorView, std::less<>> views;
};
StateViews state_views(const torch::nn::Module& module);

}  // namespace nas
