// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nas/search/strategy_kind.h"

namespace nas {

/// The table of all kinds of stages, the final trainings last. Recipes, budgets, forecasts, the
/// search loop and the report know kinds from here alone.
const StrategyKinds& strategy_kinds();

}  // namespace nas
