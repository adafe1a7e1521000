// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nas/search/strategy.h"

namespace nas {

/// Kind "single_path" (C2FNAS): a search over a super-network that was trained on uniformly drawn
/// paths (supernet_search.h). Step 2 scores `candidates` genotypes by the option `search`:
/// "random"; "regularized" (aging evolution in generations, the scores of the super-network
/// standing for trainings); "exhaustive" (all admissible ones; an error if there are more than
/// candidates); "auto" is exhaustive where that fits, else regularized, and random below 16
/// candidates. Step 3 trains the best one among others. Winner: the best super-network score.
/// Sources: Yu et al., CVPR 2020 (C2FNAS); Guo et al., ECCV 2020, arXiv:1904.00420 (single path).
const StrategyKind& single_path_kind();

}  // namespace nas
