// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <vector>

#include <ATen/core/Tensor.h>

namespace nas {

using Values = std::vector<at::Tensor>;
/// What a node of a network runs: from the values of its inputs, [N, C, D, H, W], to its result.
using StepFunction = std::function<at::Tensor(const Values&)>;

}  // namespace nas
