// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "nas/search/strategy.h"

namespace nas {

/// Searches over one trained super-network, kinds "single_path" (C2FNAS, uniform paths) and
/// "differentiable" (V-NAS). Three steps:
///  1. One SuperNet trial with stage.supernet_share of the budget. Its request tells the evaluator
///     {"kind", "groups"} and, if differentiable, {"merge", "order", "warmup"}.
///  2. Inherited trials, which score genotypes with its weights. single_path: stage.candidates of
///     them by stage.search: "random"; "regularized" (aging evolution in generations, the scores of
///     the super-network standing for trainings); "exhaustive" (all admissible ones; an error if
///     there are more than candidates); "auto" is exhaustive where that fits, else regularized, and
///     random below 16 candidates. differentiable: the decoded architecture and random others, as
///     many as step 3 trains. Every batch is sorted by genotype, so that an evaluator can share
///     prefixes. What the other two steps leave of the budget is divided among them.
///  3. stage.rank_trials own trainings of genotypes spread evenly over the ranks of step 2, best
///  and
///     decoded one included, each with an equal part of stage.rank_share. Kendall's tau-b between
///     both scores with a bootstrap interval says whether the super-network ranks at all.
/// Winner: the best super-network score (single_path) or the decoded architecture (differentiable).
/// Where the interval does not lie above 0 and stage.on_unranked is "direct", the best of the own
/// trainings instead. winner().how and story() say which, and when fewer than kWantedRankTrials
/// trainings were paid for. If training the super-network fails, step 3 trains the stage's start
/// and random genotypes, and the best of these wins.
/// Sources: Yu et al., CVPR 2020 (C2FNAS); Guo et al., ECCV 2020, arXiv:1904.00420 (single path);
/// Zhu et al., 3DV 2019 (V-NAS). The rank check and what follows from it are ours.
std::unique_ptr<Strategy> make_supernet_search(const StrategyContext& context);

inline constexpr std::int64_t kWantedRankTrials = 8;

}  // namespace nas
