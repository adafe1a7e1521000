// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "supernet/search/decisions.h"
#include "supernet/super_options.h"
#include "training/fit/fit.h"

namespace nas {

/// Trains a super-network in place, through `fit`, by super.method: train_uniform_paths on all of
/// `train_ids`, or train_differentiable. A killed training goes on from its checkpoint and ends
/// like the straight one. \param accept refuses paths that the search space does not allow (single
/// path). \param hooks should_stop, before_step and after_step are called; the others are ours.
SuperReport train_super_network(GraphModule& network,
                                const std::vector<Decision>& decisions,
                                const CaseCache& data,
                                const std::vector<std::string>& train_ids,
                                const TrainOptions& options,
                                const SuperOptions& super = {},
                                const FitFiles& files = {},
                                const FitHooks& hooks = {},
                                const std::function<bool(const std::vector<int>&)>& accept = {});

}  // namespace nas
