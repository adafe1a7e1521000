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
  // At the end of a test, not at its skip: gtest holds its own lock while it tells of a result.
  void OnTestEnd(const testing::TestInfo& test) override {
    if (!test.result()->Skipped()) return;
    std::string reason;
    for (int i = 0; i < test.result()->total_part_count(); ++i) {
      const testing::TestPartResult& part = test.result()->GetTestPartResult(i);
      if (part.skipped()) reason += (reason.empty() ? "" : "; ") + std::string(part.message());
    }
    for (char& c : reason) {
      if (c == '\n' || c == '\t') c = ' ';
    }
    out_ << test.test_suite_name() << '.' << test.name() << '\t' << reason << std::endl;
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
