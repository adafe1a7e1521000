// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>

namespace nas {

/// What the control groups of this process (a container, a batch job) leave it of the machine.
struct CgroupLimits {
  double processors = 0;          // quota / period, may be a fraction; 0: no limit
  std::int64_t memory_bytes = 0;  // 0: no limit
};

/// The tightest limits on the way from this process's group up to the outermost one that is
/// visible, of cgroup v1 and v2 (a machine may use both). What cannot be read limits nothing.
/// Source: cgroups(7), Documentation/admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst of
/// Linux. \param root stands before every path that is read: tests give a folder with proc and sys
CgroupLimits cgroup_limits(const std::filesystem::path& root = "/");

/// Memory that this process may use, bytes: the machine's, or less if a control group says so.
std::int64_t memory_limit_bytes();

}  // namespace nas
