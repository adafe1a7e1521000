// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nas/search/search_space.h"

namespace nas {

struct Configuration;

/// The factory: one visible table of spaces ("unet", ...) in spaces.cpp. `description` is
/// what describe() gave. \throws Error(Usage) on an unknown space, Error(Input) on a damaged
/// description.
std::unique_ptr<SearchSpace> make_space(const Json& description);
/// The space called `name` around a planned configuration. `options`: keys of the space's own
/// description besides "space" and "configuration" (an object, or null for none). \throws
/// Error(Usage) on an unknown name or key, with the nearest known one; Error(Input) on a bad value.
std::unique_ptr<SearchSpace> space_for_plan(const std::string& name,
                                            const Configuration& planned,
                                            const Json& options = nullptr);
std::vector<std::string> space_names();
/// The description of a small space of this kind, for tests and examples.
Json example_description(const std::string& name);

}  // namespace nas
