// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>

#include "nas/search/run_search.h"
#include "nas/search/search_space.h"

namespace nas {

/// Writes to each trial's folder the concrete training.json in our own form and, of an MMAR, its
/// config_train.json; an MMAR's trials are linked in RUN/automl under Clara's names (W1_2_J7: worker,
/// its second trial, trial 7; without worker processes the worker is W1). Null where the space is no
/// description.
std::unique_ptr<SearchListener> make_description_listener(const SearchSpace& space,
                                                          const std::filesystem::path& run_folder);

}  // namespace nas
