// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nas/search/strategy.h"

namespace nas {

/// Kind "differentiable" (V-NAS): a search by gradient over the mixture weights of a super-network
/// (supernet_search.h). Its request tells the evaluator {"merge", "order", "warmup"} and
/// "max_parameters" where there is such a limit. Step 2 scores the decoded architecture and random
/// others, as many as step 3 trains, the decoded one included. Winner: the decoded architecture.
/// Source: Zhu et al., 3DV 2019 (V-NAS).
const StrategyKind& differentiable_kind();

}  // namespace nas
