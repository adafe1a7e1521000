// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>

#include "nas/search/run_search.h"

namespace nas {

/// In the folder of each trial that has ended, for TensorBoard: its genes as text and as settings
/// (tab "HParams"), its score and metrics. \param space is borrowed.
std::unique_ptr<SearchListener> make_tensorboard_listener(const SearchSpace& space,
                                                          const std::filesystem::path& run_folder);

}  // namespace nas
