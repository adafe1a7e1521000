// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>

#include "nas/search/run_search.h"

namespace nas {

/// Tells the course of a search as log lines with the run's time. Candidates that are scored with
/// inherited weights come by the hundred: only those that are better than all before get a line.
/// Networks are told by what they have against their stage's start. \param space is borrowed.
/// \param clock seconds on the run's clock; 0: lines without a time.
std::unique_ptr<SearchListener> make_log_listener(const SearchSpace& space,
                                                  std::function<double()> clock);

}  // namespace nas
