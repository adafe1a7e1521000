// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace nas {

/// Set by SIGINT / SIGTERM once `install_stop_handler()` was called; long work polls it, saves and
/// returns. A second signal ends the process at once.
void install_stop_handler();
bool stop_requested();
void request_stop(bool value = true);  // for tests and for embedding

}  // namespace nas
