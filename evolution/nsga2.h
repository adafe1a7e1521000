// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nas/search/strategy.h"

namespace nas {

/// Kind "nsga2": non-dominated sorting evolution over the score and the stage's `objectives` (all to
/// be small, cost_objectives()). The population are the best `population` of all finished trainings,
/// by front, then by crowding distance. Parents are the best of `tournament` drawn from it; a child
/// takes each gene from one of two parents and is mutated. Children are proposed whenever a place is
/// free, so that outcomes may come in any order. Without objectives it is an elitist evolution of
/// the score. The winner is the best score; the front is in the story.
/// Source: Deb et al., "NSGA-II", IEEE Trans. Evol. Comp. 6 (2002); steady state instead of
/// generations is ours.
const StrategyKind& nsga2_kind();

}  // namespace nas
