// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "nas/results/results_db.h"

namespace nas {

/// A run as lists show it.
struct ListedRun {
  RunEntry entry;
  std::filesystem::path file;  // the database with its rows
  std::string folder;          // RUN
  std::string data, recipe;    // names
};

/// Every run of one results database. \throws Error(Input|Io|Usage) naming it.
std::vector<ListedRun> runs_of_database(const std::filesystem::path& file);
/// Every run whose database lies in the folder or up to five below; a damaged one is left out with a
/// warning. \throws Error(Usage) if there is no such folder.
std::vector<ListedRun> runs_below(const std::filesystem::path& folder);

}  // namespace nas
