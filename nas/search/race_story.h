// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "nas/core/json.h"
#include "nas/search/race_board.h"
#include "nas/search/strategy.h"

namespace nas {

/// What a race tells of itself (docs/formats.md, "Stories of stages"), without draws and front.
/// \param price as RaceBoard::choice.
Json race_story(const RaceBoard& board,
                const Ledger& ledger,
                const SearchSpace& space,
                const std::function<double(const Genotype&)>& price);

/// The winner, and in words how it was chosen; none while nobody has a score.
Winner race_winner(const RaceBoard& board,
                   const Ledger& ledger,
                   const std::function<double(const Genotype&)>& price);

}  // namespace nas
