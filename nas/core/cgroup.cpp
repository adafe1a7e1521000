// SPDX-License-Identifier: Apache-2.0
#include "nas/core/cgroup.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace nas {
namespace {

namespace fs = std::filesystem;

/// A hierarchy of groups as mounted here: a line of /proc/self/mountinfo.
struct Hierarchy {
  bool v2 = false;
  std::string options;  // v1: the controllers, "rw,cpu,cpuacct"
  std::string root;     // the group that is seen at `place`; not "/" in many containers
  fs::path place;
};

/// Mount points are written with \040 for a space.
std::string unescaped(const std::string& text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto octal = [&](std::size_t k) { return text[i + k] >= '0' && text[i + k] <= '7'; };
    if (text[i] == '\\' && i + 3 < text.size() && octal(1) && octal(2) && octal(3)) {
      result += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 +
                                  (text[i + 3] - '0'));
      i += 3;
    } else {
      result += text[i];
    }
  }
  return result;
}

/// Whether `word` is in a list joined by commas.
bool lists(const std::string& list, const std::string& word) {
  return ("," + list + ",").find("," + word + ",") != std::string::npos;
}

std::vector<Hierarchy> hierarchies(const fs::path& root) {
  std::vector<Hierarchy> found;
  std::ifstream in(root / "proc/self/mountinfo");
  for (std::string line; std::getline(in, line);) {
    // "36 35 0:29 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup rw": optional fields end at
    // the dash.
    const std::size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream left(line.substr(0, dash)), right(line.substr(dash + 3));
    std::string id, parent, device, type, source;
    Hierarchy one;
    std::string place;
    left >> id >> parent >> device >> one.root >> place;
    right >> type >> source >> one.options;
    if (type != "cgroup" && type != "cgroup2") continue;
    one.v2 = type == "cgroup2";
    one.root = unescaped(one.root);
    one.place = unescaped(place);
    found.push_back(std::move(one));
  }
  return found;
}

/// This process's group in the hierarchy: "/a/b" of "3:cpu,cpuacct:/a/b" or, in v2, of "0::/a/b".
std::string group_in(const fs::path& root, bool v2, const std::string& controller) {
  std::ifstream in(root / "proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (v2 ? controllers.empty() : lists(controllers, controller)) return line.substr(second + 1);
  }
  return "";
}

/// The folders of this process's group and the groups around it, innermost first.
std::vector<fs::path> group_folders(const fs::path& root,
                                    const Hierarchy& hierarchy,
                                    const std::string& controller) {
  // The mount may show a part of the hierarchy only; then the group's path is below that part's,
  // or nothing here knows it and the mount itself is the innermost group there is.
  const fs::path group = fs::path(group_in(root, hierarchy.v2, controller)).lexically_normal();
  fs::path below = group.lexically_relative(hierarchy.root);
  if (below.empty() || *below.begin() == ".." || below == ".") below.clear();
  const fs::path mount = root / hierarchy.place.relative_path();
  std::vector<fs::path> folders;
  for (; !below.empty(); below = below.parent_path()) folders.push_back(mount / below);
  folders.push_back(mount);
  return folders;
}

double read_number(const fs::path& file) {
  double value = 0;
  std::ifstream in(file);
  return in >> value ? value : 0;  // "max" and what is missing: no limit
}

template <class T>
void tighten(T& limit, T found) {
  if (found > 0 && (limit == 0 || found < limit)) limit = found;
}

/// Where no limit is set v1 gives the largest number that is a multiple of a page.
constexpr double kUnlimitedBytes = 4e18;

void tighten_memory(CgroupLimits& limits, const fs::path& file) {
  const double bytes = read_number(file);
  if (bytes < kUnlimitedBytes) tighten(limits.memory_bytes, static_cast<std::int64_t>(bytes));
}

}  // namespace

CgroupLimits cgroup_limits(const fs::path& root) {
  CgroupLimits limits;
  for (const Hierarchy& hierarchy : hierarchies(root)) {
    if (hierarchy.v2) {
      for (const fs::path& folder : group_folders(root, hierarchy, "")) {
        double quota = 0, period = 0;
        std::ifstream in(folder / "cpu.max");
        if (in >> quota >> period && period > 0) tighten(limits.processors, quota / period);
        tighten_memory(limits, folder / "memory.max");
      }
      continue;
    }
    if (lists(hierarchy.options, "cpu")) {
      for (const fs::path& folder : group_folders(root, hierarchy, "cpu")) {
        const double quota = read_number(folder / "cpu.cfs_quota_us");  // -1: no limit
        const double period = read_number(folder / "cpu.cfs_period_us");
        if (period > 0) tighten(limits.processors, quota / period);
      }
    }
    if (lists(hierarchy.options, "memory")) {
      for (const fs::path& folder : group_folders(root, hierarchy, "memory")) {
        tighten_memory(limits, folder / "memory.limit_in_bytes");
      }
    }
  }
  return limits;
}

std::int64_t memory_limit_bytes() {
  const auto machine = static_cast<std::int64_t>(::sysconf(_SC_PHYS_PAGES)) *
                       static_cast<std::int64_t>(::sysconf(_SC_PAGESIZE));
  const std::int64_t group = cgroup_limits().memory_bytes;
  return group > 0 ? std::min(machine, group) : machine;
}

}  // namespace nas
