// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

#include "nas/core/stop.h"

namespace nas {

/// Calls body(i) for i in [0, count) on `threads` threads (0: all processors). The first exception
/// is rethrown after all threads have stopped. Order is not defined; results must not depend on it.
void parallel_for(std::int64_t count,
                  const std::function<void(std::int64_t)>& body,
                  int threads = 0);

/// Processors this process may use: those it may run on (taskset), or fewer if a control group
/// (container) gives it a smaller share.
int processor_count();

}  // namespace nas
