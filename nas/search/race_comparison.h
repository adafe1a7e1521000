// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "nas/core/rng.h"
#include "nas/search/race_board.h"

namespace nas {

/// Continues all curves to the horizon (nas/search/curve.h), drops who is worse, and notes the
/// comparison on the board.
/// \param price as RaceBoard::choice.
/// \returns how much each contestant's further training may matter for what is chosen; nullopt:
/// nobody has a score.
std::optional<std::vector<double>> compare_contestants(
    RaceBoard& board,
    const Ledger& ledger,
    const std::function<double(const Genotype&)>& price,
    const Rng& rng);

}  // namespace nas
