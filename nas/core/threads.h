// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>

namespace nas {

/// Calls body(i) for i in [0, count) on `threads` threads (0: all processors). The first exception
/// is rethrown after all threads have stopped. Order is not defined; results must not depend on it.
void parallel_for(std::int64_t count,
                  const std::function<void(std::int64_t)>& body,
                  int threads = 0);

/// Processors this process may use: those it may run on (taskset), or fewer if a control group
/// (container) gives it a smaller share.
int processor_count();

/// Set by SIGINT / SIGTERM once `install_stop_handler()` was called; long work polls it, saves and
/// returns. A second signal ends the process at once.
void install_stop_handler();
bool stop_requested();
void request_stop(bool value = true);  // for tests and for embedding

}  // namespace nas
