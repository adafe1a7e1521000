// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace nas {

/// What TrainOptions::loss may be beside a TorchScript file.
const std::vector<std::string>& loss_names();
/// Of a program of the user's own. \throws Error(Usage) after the names were first asked for.
void add_loss_name(const std::string& name);

}  // namespace nas
