// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nas/search/strategy.h"

namespace nas {

/// Kinds whose trainings climb a ladder of rungs, each `eta` times as long as the one before; a
/// training that goes on is continued, not begun anew. The best of the highest rung is the winner.
///
/// "asha": asynchronous successive halving. Whenever something is asked for, the best unpromoted
/// training within the top 1 / eta of its rung goes on, the highest rung first; where there is none,
/// a new genotype begins. As many go on from each rung as a synchronous halving promotes, so the
/// budget is kept. Source: Li et al., MLSys 2020, arXiv:1810.05934; the bound is ours.
///
/// "hyperband": brackets of successive halvings that begin at different rungs (hyperband_plan). A
/// rung is promoted when all of it is told (option `promote`: "rung", else "async" as asha);
/// meanwhile later brackets begin. Source: Li et al., JMLR 2018, arXiv:1603.06560.
///
/// "priorband": Hyperband whose new genotypes come from the planned values, from the best one so far
/// or from anywhere (prior_sampling.h), individual 0 first; option `first`: "top" trains it to the
/// highest rung before all else. Until one training has reached the highest rung, a first bracket's
/// effort is spent and a rung has eta results, nothing comes from the best one.
/// Source: Mallik et al., NeurIPS 2023, arXiv:2306.12370.
const StrategyKind& asha_kind();
const StrategyKind& hyperband_kind();
const StrategyKind& priorband_kind();

}  // namespace nas
