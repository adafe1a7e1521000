// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "nas/cli/command.h"

namespace nas {

/// The verbs that train or run networks.
std::vector<Command> torch_commands();
/// For --version --libtorch.
std::string libtorch_version();

}  // namespace nas
