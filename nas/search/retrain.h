// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nas/search/strategy.h"

namespace nas {

/// Kind "retrain", the last stage of a recipe: the winner of the stages before, the baseline, and
/// the control's winner where there is one, with equal shares; equal networks are trained once
/// (with the time of all if there is a clock).
const StrategyKind& retrain_kind();

}  // namespace nas
