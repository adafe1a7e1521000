// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

namespace nas {

/// Seconds since this process began: loading libraries is part of what the user waits for. An hour
/// at most: a process that is older did something else before.
double process_age_seconds();

/// The clock of a run with a budget in seconds: `spent` now, then it goes on. Without such a budget
/// it stands at 0.
std::function<double()> make_run_clock(bool has_clock, double spent);

}  // namespace nas
