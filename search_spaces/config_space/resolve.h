// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "nas/core/json.h"
#include "search_spaces/config_space/search_rules.h"

namespace nas {

/// A resolved description without the gaps of what was dropped from its lists.
Json without_gaps(Json tree);

/// Where a list may stand instead of one component: alternatives, of which one is to be left.
struct SinglePlace {
  Json::json_pointer at;
  bool required = false;
};

/// A description made concrete. In this order: values of the environment in first-level parameters,
/// searched values, applies, "{name}" from first-level parameters and the environment, "ref"s, what
/// is disabled is dropped, of alternatives one is left. Without search, apply and parked keys.
/// In lists, null stands for what was dropped, so that paths stay those of the file (without_gaps).
/// \param values per dimension of the rules, one value per arg; none: as written. \throws
/// Error(Input) with the path.
Json resolve_description(const Json& root,
                         const Json& environment,
                         const SearchRules& rules,
                         const std::vector<std::optional<Json>>& values,
                         const std::vector<SinglePlace>& singles,
                         const std::string& where);

}  // namespace nas
