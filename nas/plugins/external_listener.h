// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "nas/core/process_peer.h"
#include "nas/search/run_search.h"

namespace nas {

/// A program of the user hears what happens, a line for each event, and may write "stop", "enqueue"
/// and "annotate" at any time (docs/formats.md, "Plug-ins"). What it does wrong is logged with
/// its name and ends it, not the search.
std::unique_ptr<SearchListener> make_external_listener(const SearchSpace& space,
                                                       PeerOptions options);

}  // namespace nas
