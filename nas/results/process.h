// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace nas {

/// Seconds since this machine started, sleep included: the same for all its processes, and nobody
/// can set it.
double machine_seconds();

std::string host_name();

/// Names this process for ever: the machine's start, the process id, and when it began.
std::string this_process();

/// Whether `process` (of this_process()) still runs. One of another start of the machine does not.
/// Only for processes of this host.
bool process_lives(const std::string& process);

}  // namespace nas
