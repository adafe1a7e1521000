// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nas/search/strategy_kind.h"

namespace nas {

/// The table of all kinds of stages. Recipes, budgets, forecasts, the search loop and the report
/// know kinds from here alone.
const StrategyKinds& strategy_kinds();
/// Of a program of the user's own. \throws Error(Usage) after the table was first read, if there is
/// a kind of this name, or if it lacks a rule.
void add_strategy_kind(StrategyKind kind);

}  // namespace nas
