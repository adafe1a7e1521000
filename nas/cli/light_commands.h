// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "nas/cli/command.h"

namespace nas {

/// The verbs that need no LibTorch.
std::vector<Command> light_commands();

}  // namespace nas
