// SPDX-License-Identifier: Apache-2.0
#include "nas/results/process.h"

#include <time.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <iterator>
#include <sstream>

namespace nas {
namespace {

std::string boot_id() {
  std::ifstream in("/proc/sys/kernel/random/boot_id");
  std::string id;
  in >> id;
  return id.empty() ? "unknown" : id;
}

/// Field 22 of /proc/PID/stat, in ticks since the machine's start; "" where there is no such
/// process, or only what is left of one that has ended.
std::string start_of(const std::string& pid) {
  std::ifstream in("/proc/" + pid + "/stat");
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  const std::size_t name_end = text.rfind(')');  // the name may hold anything
  if (name_end == std::string::npos) return "";
  std::istringstream fields(text.substr(name_end + 1));
  std::string field;
  for (int i = 3; i <= 22 && fields >> field; ++i) {
    if (i == 3 && (field == "Z" || field == "X")) return "";
  }
  return field;
}

}  // namespace

double machine_seconds() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return "unknown";
  return name.data();
}

std::string this_process() {
  const std::string pid = std::to_string(::getpid());
  return boot_id() + ":" + pid + ":" + start_of(pid);
}

bool process_lives(const std::string& process) {
  const std::size_t first = process.find(':'), last = process.rfind(':');
  if (first == std::string::npos || first == last) return false;
  const std::string pid = process.substr(first + 1, last - first - 1);
  if (pid.empty() || pid.find_first_not_of("0123456789") != std::string::npos) return false;
  return process.substr(0, first) == boot_id() && start_of(pid) == process.substr(last + 1);
}

}  // namespace nas
