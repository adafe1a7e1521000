// SPDX-License-Identifier: Apache-2.0
#include "nas/core/cgroup.h"

#include <gtest/gtest.h>

#include <string>

#include "nas/core/files.h"
#include "nas/core/threads.h"
#include "tests/support/support.h"

namespace nas {
namespace {

using test::TempFolder;

/// A machine made of files: /proc/self and what a control group says of itself.
struct FakeMachine {
  TempFolder folder;

  void write(const std::string& file, const std::string& text) {
    const std::filesystem::path path = folder / file;
    std::filesystem::create_directories(path.parent_path());
    write_file_atomic(path, text);
  }
  CgroupLimits limits() const { return cgroup_limits(folder.path()); }
};

constexpr const char* kV2Mount =
    "25 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    "31 25 0:27 / /sys/fs/cgroup rw,nosuid shared:9 master:2 - cgroup2 cgroup2 rw,nsdelegate\n";

TEST(CgroupLimits, OfV2AreTheTightestOfTheNestedGroups) {
  FakeMachine machine;
  machine.write("proc/self/mountinfo", kV2Mount);
  machine.write("proc/self/cgroup", "0::/batch/job 7/step\n");
  const std::string groups = "sys/fs/cgroup/batch/";
  machine.write(groups + "cpu.max", "400000 100000\n");
  machine.write(groups + "memory.max", "max\n");
  machine.write(groups + "job 7/cpu.max", "150000 100000\n");
  machine.write(groups + "job 7/memory.max", "8000000000\n");
  machine.write(groups + "job 7/step/cpu.max", "max 100000\n");
  machine.write(groups + "job 7/step/memory.max", "9000000000\n");
  EXPECT_DOUBLE_EQ(machine.limits().processors, 1.5);
  EXPECT_EQ(machine.limits().memory_bytes, 8000000000);
  // A neighbour's group says nothing of this process.
  machine.write("proc/self/cgroup", "0::/batch\n");
  EXPECT_DOUBLE_EQ(machine.limits().processors, 4);
  EXPECT_EQ(machine.limits().memory_bytes, 0);
}

TEST(CgroupLimits, OfAContainerWithItsOwnNamespaceLieAtTheMount) {
  FakeMachine machine;
  machine.write("proc/self/mountinfo", kV2Mount);
  machine.write("proc/self/cgroup", "0::/\n");
  machine.write("sys/fs/cgroup/cpu.max", "50000 100000\n");
  EXPECT_DOUBLE_EQ(machine.limits().processors, 0.5);
}

TEST(CgroupLimits, OfV1ComeFromTheMountsOfTheirControllers) {
  FakeMachine machine;
  machine.write("proc/self/mountinfo",
                "33 31 0:29 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup "
                "rw,cpu,cpuacct\n"
                "34 31 0:30 /docker/abc /sys/fs/cgroup/my\\040memory ro - cgroup cgroup rw,memory\n"
                "35 31 0:31 /docker/abc /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n");
  machine.write("proc/self/cgroup",
                "4:memory:/docker/abc/inner\n3:cpuset:/elsewhere\n2:cpu,cpuacct:/docker/abc\n");
  machine.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "300000\n");
  machine.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
  machine.write("sys/fs/cgroup/my memory/memory.limit_in_bytes", "4000000000\n");
  machine.write("sys/fs/cgroup/my memory/inner/memory.limit_in_bytes", "1000000000\n");
  machine.write("sys/fs/cgroup/cpuset/cpu.cfs_quota_us", "1000\n");
  machine.write("sys/fs/cgroup/cpuset/cpu.cfs_period_us", "100000\n");
  EXPECT_DOUBLE_EQ(machine.limits().processors, 3);
  EXPECT_EQ(machine.limits().memory_bytes, 1000000000);
}

TEST(CgroupLimits, OfV1WithoutLimitAreNone) {
  FakeMachine machine;
  machine.write("proc/self/mountinfo",
                "33 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
                "34 31 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
  machine.write("proc/self/cgroup", "2:cpu:/\n1:memory:/\n");
  machine.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  machine.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  machine.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(machine.limits().processors, 0);
  EXPECT_EQ(machine.limits().memory_bytes, 0);
}

TEST(CgroupLimits, AreNoneWhereNothingCanBeRead) {
  FakeMachine machine;
  EXPECT_EQ(machine.limits().processors, 0);
  machine.write("proc/self/mountinfo",
                "31 25 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\nx - \n");
  machine.write("proc/self/cgroup", "nonsense\n0::/../..\n");
  machine.write("sys/fs/cgroup/cpu.max", "many few\n");
  machine.write("sys/fs/cgroup/memory.max", "-5\n");
  EXPECT_EQ(machine.limits().processors, 0);
  EXPECT_EQ(machine.limits().memory_bytes, 0);
}

TEST(CgroupLimits, BoundWhatThisProcessCountsWith) {
  const CgroupLimits limits = cgroup_limits();
  if (limits.processors > 0) {
    EXPECT_LT(processor_count(), limits.processors + 1);
  }
  EXPECT_GT(memory_limit_bytes(), 0);
  if (limits.memory_bytes > 0) {
    EXPECT_LE(memory_limit_bytes(), limits.memory_bytes);
  }
}

}  // namespace
}  // namespace nas
