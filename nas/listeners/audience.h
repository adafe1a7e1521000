// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "nas/search/run_search.h"

namespace nas {

/// Who hears of a search beside those that every run has. A run that goes on is told these again:
/// what a record says is neither started nor called.
struct SearchAudience {
  std::vector<std::string> handlers = {};  // programs of the user, as a shell takes them
  std::vector<std::string> webhooks = {};  // addresses
  std::string mlflow = {};                 // address of a server; "": none
};

/// A wrong address fails before any work. \throws Error(Usage) naming the option.
void check_audience(const SearchAudience& audience);

/// Starts the programs; servers are told of in the background.
std::vector<std::unique_ptr<SearchListener>> make_audience(const SearchSpace& space,
                                                           const std::filesystem::path& run_folder,
                                                           const SearchAudience& audience);

}  // namespace nas
