// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "training/model/program.h"

namespace nas {

/// What a node of an operation without state runs. \throws Error(Internal) if there is no lowering
/// for the operation.
StepFunction stateless_step(const Node& node);

}  // namespace nas
