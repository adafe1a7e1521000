// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "supernet/search/uniform_path.h"
#include "supernet/super_options.h"
#include "training/fit/fit.h"

namespace nas {

/// Draws a path before each weight step (PathSampler, seed options.seed) and trains it alone.
/// Leaves the network on its last path. Arguments as of train_super_network.
void train_uniform_paths(GraphModule& network,
                         const std::vector<Decision>& decisions,
                         const CaseCache& data,
                         const std::vector<std::string>& train_ids,
                         const TrainOptions& options,
                         const FitFiles& files,
                         const FitHooks& hooks,
                         const std::function<bool(const std::vector<int>&)>& accept,
                         SuperReport& report);

}  // namespace nas
