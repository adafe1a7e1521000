// SPDX-License-Identifier: Apache-2.0
#include "nas/cli/torch_program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "nas/cli/verbs.h"
#include "nas/core/error.h"
#include "nas/core/threads.h"
#include "tests/support/support.h"

namespace nas {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "(unset)";
}

TEST(TorchProgram, LiesBesideTheFirstOneOrInLibexec) {
  const auto places = torch_program_places("/opt/voxnas/bin/voxnas");
  ASSERT_EQ(places.size(), 2u);
  EXPECT_EQ(places[0], "/opt/voxnas/bin/voxnas-torch");
  EXPECT_EQ(places[1], "/opt/voxnas/libexec/voxnas/voxnas-torch");
}

TEST(TorchProgram, GetsThreadsThatSleepSoonAsManyAsThereAreProcessors) {
  for (const char* name : {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS"}) unsetenv(name);
  set_openmp_environment();
  EXPECT_EQ(variable("OMP_WAIT_POLICY"), "(unset)");
  EXPECT_EQ(variable("GOMP_SPINCOUNT"), "1000");
  EXPECT_EQ(variable("OMP_NUM_THREADS"), std::to_string(processor_count()));
}

TEST(TorchProgram, GetsWhatTheUserHasSet) {
  unsetenv("OMP_WAIT_POLICY");
  setenv("GOMP_SPINCOUNT", "77", 1);
  setenv("OMP_NUM_THREADS", "3", 1);
  set_openmp_environment();
  EXPECT_EQ(variable("OMP_WAIT_POLICY"), "(unset)");
  EXPECT_EQ(variable("GOMP_SPINCOUNT"), "77");
  EXPECT_EQ(variable("OMP_NUM_THREADS"), "3");
  unsetenv("GOMP_SPINCOUNT");
  setenv("OMP_WAIT_POLICY", "active", 1);
  set_openmp_environment();
  EXPECT_EQ(variable("GOMP_SPINCOUNT"), "(unset)");
  EXPECT_EQ(variable("OMP_WAIT_POLICY"), "active");
}

/// A folder that looks like LibTorch of a version to those who do not load it.
std::filesystem::path libtorch(const std::filesystem::path& folder, const std::string& version) {
  std::filesystem::create_directories(folder / "lib");
  std::ofstream(folder / "lib" / "libtorch_cpu.so") << "not a library";
  std::ofstream(folder / "version.py") << "__all__ = []\n__version__ = '" << version << "'\n";
  return folder;
}

TEST(TorchProgram, OfADistributionFindsItsLibTorchByVersion) {
  namespace fs = std::filesystem;
  const test::TempFolder temp;
  const fs::path program = temp.path() / "voxnas/libexec/voxnas/voxnas-torch";
  fs::create_directories(program.parent_path());
  unsetenv("VOXNAS_LIBTORCH");
  EXPECT_EQ(distributed_libtorch(program), fs::path());  // not a distribution

  std::ofstream(program.parent_path() / "libtorch-version") << "2.11.0+cu130\n";
  const fs::path old = libtorch(temp.path() / "old", "2.1.0"),
                 other = libtorch(temp.path() / "other", "2.11.1+cpu");
  setenv("VOXNAS_LIBTORCH", other.c_str(), 1);
  EXPECT_EQ(distributed_libtorch(program), other);
  for (const fs::path& wrong : {old, temp.path() / "none"}) {
    setenv("VOXNAS_LIBTORCH", wrong.c_str(), 1);
    try {
      distributed_libtorch(program);
      FAIL() << wrong;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::Usage);
      EXPECT_THAT(e.what(), testing::HasSubstr("expected version 2.11"));
      EXPECT_THAT(e.what(), testing::HasSubstr(wrong.string()));
    }
  }
  unsetenv("VOXNAS_LIBTORCH");
  const fs::path beside = libtorch(temp.path() / "voxnas/libtorch", "2.11.0");
  EXPECT_EQ(distributed_libtorch(program), beside);
}

TEST(Verbs, HaveAnExampleThatBeginsWithTheirName) {
  for (const Verb& verb : verbs()) {
    EXPECT_TRUE(std::string(verb.example).starts_with(std::string("voxnas ") + verb.name))
        << verb.name;
  }
}

}  // namespace
}  // namespace nas
