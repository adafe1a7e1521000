// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "nas/search/run_search.h"

namespace nas {

// Servers. Each is told by a thread of its own, each request takes at most kHttpSeconds; one that
// does not answer is named in the log, and after kMostFailures in a row hears nothing more. When the
// search ends, what is left is sent within kLastSeconds. \throws Error(Usage) on an address that is
// none.

/// Every event (docs/formats.md, "Plug-ins") as a POST with a JSON body.
std::unique_ptr<SearchListener> make_webhook_listener(const SearchSpace& space,
                                                      const std::string& url);

/// An MLflow server, by its REST interface (2.0): a run of experiment "VoxNAS" for the search, in it
/// a run for each trial with its genes as parameters, its score and metrics. The search's run is
/// remembered in RUN/mlflow.json, so that a search that goes on does so in the same.
std::unique_ptr<SearchListener> make_mlflow_listener(const SearchSpace& space,
                                                     const std::filesystem::path& run_folder,
                                                     const std::string& uri);

}  // namespace nas
