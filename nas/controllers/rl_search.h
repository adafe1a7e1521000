// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nas/search/strategy.h"

namespace nas {

/// Kind "rl": a recurrent policy (policy_network.h) proposes strategies one after the other, sees
/// the last one told and its score, and is trained by REINFORCE: baseline a moving average of the
/// scores (0.8), advantages in units of their deviation, clipped; entropy bonus falling from 0.01 to
/// 0 over the stage; Adam 0.003 (with 0.01 most policies collapse within 300 rounds), gradient norm at
/// most 1. A failed trial counts as the worst score.
/// `parallel` proposals may wait at once. Not saved are the weights: they follow from the ledger and
/// the order in which things were proposed and told. The recipe is ours: the algorithm of Clara's
/// controller, which takes the same place, is not published in a form that can be followed.
/// Source: Williams, Machine Learning 8 (1992).
const StrategyKind& rl_kind();

}  // namespace nas
