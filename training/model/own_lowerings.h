// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>

#include "nas/network/graph.h"
#include "training/model/step_function.h"

namespace nas {

/// A tensor of a node's state by its name in the operations table ("weight"). It stays the same
/// tensor while the network lives; its values are trained.
using NodeState = std::function<at::Tensor(const std::string&)>;

/// What an operation of a program of the user's own (add_operation) runs.
struct OwnLowering {
  std::string op;
  std::function<StepFunction(const Node& node, const NodeState& state)> make;
};

/// \throws Error(Usage) after the first network was made.
void add_lowering(OwnLowering lowering);
/// nullptr: the operation is one of ours.
const OwnLowering* own_lowering(const std::string& op);

}  // namespace nas
