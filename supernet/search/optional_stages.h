// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nas/search/forecast.h"
#include "nas/search/recipe.h"
#include "nas/search/search_space.h"

namespace nas {

// A super-network is dear, and whether its ranking means anything is seen from own trainings
// (supernet_search.h). A stage with the option "optional" is there only where the budget buys enough
// of them.

/// Of a ranking that is to be checked: half the interval of Kendall's tau is below this, so that a
/// tau of one half would be told from chance.
inline constexpr double kWidestTau = 0.5;

bool is_optional(const StageSpec& stage);
/// The recipe without them.
Recipe without_optional_stages(const Recipe& recipe);

/// Takes out of `recipe` the optional stages that the space has nothing for, that the budget cannot
/// buy, or whose ranking could not be checked to kWidestTau. \param elapsed and `probes` as for
/// forecast_stages. \returns a line for each stage: that it runs, or is left out, and why.
std::vector<std::string> choose_optional_stages(Recipe& recipe,
                                                const SearchSpace& space,
                                                const Budget& budget,
                                                double elapsed,
                                                const SearchProbes& probes);

}  // namespace nas
