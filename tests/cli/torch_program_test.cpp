// SPDX-License-Identifier: Apache-2.0
#include "nas/cli/torch_program.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "nas/cli/verbs.h"
#include "nas/core/threads.h"

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

TEST(Verbs, HaveAnExampleThatBeginsWithTheirName) {
  for (const Verb& verb : verbs()) {
    EXPECT_TRUE(std::string(verb.example).starts_with(std::string("voxnas ") + verb.name))
        << verb.name;
  }
}

}  // namespace
}  // namespace nas
