// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nas/search/strategy.h"

namespace nas {

/// The factory: one visible table of strategies, by the `kind` of a recipe's stage. \throws
/// Error(Usage).
std::unique_ptr<Strategy> make_strategy(const StrategyContext& context);
std::vector<std::string> strategy_names();

}  // namespace nas
