// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nas/search/strategy.h"

namespace nas {

/// Kind "tpe": tree-structured Parzen estimator. After `start` random genotypes the trials told are
/// split into the best min(ceil(0.2 n), 25) and the rest; each half gets a Parzen density
/// (parzen.h), 48 genotypes are drawn from that of the best, and the one whose density
/// among the best exceeds that among the rest the most is next. Failed trials and those that are
/// not told yet count as bad ones. Earlier runs (option `earlier`) take part with their
/// scores moved so that the means of the runs are equal.
/// Source: Bergstra et al., "Algorithms for hyper-parameter optimization", NeurIPS 2011. Optuna takes
/// 0.1 n and 24 candidates; ours are measured (experiments/bench/controllers).
const StrategyKind& tpe_kind();

}  // namespace nas
