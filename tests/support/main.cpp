// SPDX-License-Identifier: Apache-2.0
// main() of every test executable: gtest's own, and where VOXNAS_SKIPPED names a folder each skipped
// test is written there with its reason, a line "<test>\t<reason>", for scripts/skipped.py.
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/support.h"

namespace {

class SkipList : public testing::EmptyTestEventListener {
 public:
  explicit SkipList(const std::string& folder)
      : out_(folder + "/" + std::to_string(::getpid()) + ".txt") {}

 private:
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.skipped()) return;
    std::string reason = result.message();
    for (char& c : reason) {
      if (c == '\n' || c == '\t') c = ' ';
    }
    const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
    out_ << (test ? std::string(test->test_suite_name()) + "." + test->name() : "a whole suite")
         << '\t' << reason << std::endl;
  }

  std::ofstream out_;
};

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  const char* folder = std::getenv("VOXNAS_SKIPPED");
  if (folder && !nas::test::child_folder()) {
    testing::UnitTest::GetInstance()->listeners().Append(new SkipList(folder));
  }
  return RUN_ALL_TESTS();
}
