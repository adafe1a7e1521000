// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/leading/run_clock.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>

#include "nas/core/stopwatch.h"

namespace nas {

double process_age_seconds() {
  std::ifstream in("/proc/self/stat");
  std::string text((std::istreambuf_iterator<char>(in)), {});
  std::istringstream fields(text.substr(std::min(text.size(), text.rfind(')') + 1)));
  std::string field;
  for (int i = 0; i < 20; ++i) fields >> field;  // the 22nd of the line: ticks from boot to start
  timespec now{};
  if (field.empty() || clock_gettime(CLOCK_BOOTTIME, &now) != 0) return 0;
  const double started =
      std::strtod(field.c_str(), nullptr) / static_cast<double>(sysconf(_SC_CLK_TCK));
  const double age =
      static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec) - started;
  return std::clamp(age, 0.0, 3600.0);
}

std::function<double()> make_run_clock(bool has_clock, double spent) {
  if (!has_clock) return [] { return 0.0; };
  return [spent, watch = Stopwatch()] { return spent + watch.seconds(); };
}

}  // namespace nas
