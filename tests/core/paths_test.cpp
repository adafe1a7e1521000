// SPDX-License-Identifier: Apache-2.0
#include "nas/core/paths.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/support.h"

namespace nas {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

void touch(const fs::path& file) { std::ofstream(file) << "x"; }

TEST(SplitPaths, TakesWhatExistsAsItIsBeforeCommasAreSplit) {
  const test::TempFolder folder;
  const fs::path comma = folder / "p,q_0000.nii.gz", other = folder / "p,q_0001.nii.gz",
                 plain = folder / "plain", missing = folder / "no,where";
  for (const fs::path& file : {comma, other, plain}) touch(file);
  fs::create_directory(folder / "model, v2");
  const auto list = [](const fs::path& a, const fs::path& b) {
    return split_paths(a.string() + "," + b.string());
  };
  EXPECT_THAT(split_paths((folder / "model, v2").string()), ElementsAre(folder / "model, v2"));
  EXPECT_THAT(list(comma, other), ElementsAre(comma, other));
  EXPECT_THAT(list(plain, comma), ElementsAre(plain, comma));
  // What is not there is split at its commas, and does not hide what follows.
  EXPECT_THAT(list(missing, comma), ElementsAre(folder / "no", fs::path("where"), comma));
}

TEST(SplitPaths, LeavesOutEmptyPieces) {
  EXPECT_THAT(split_paths(""), IsEmpty());
  EXPECT_THAT(split_paths(",,"), IsEmpty());
  EXPECT_THAT(split_paths("not there,,nor there,"),
              ElementsAre(fs::path("not there"), fs::path("nor there")));
  EXPECT_THAT(split_paths(std::string(100'000, 'x') + ",y"),  // longer than a name may be
              ElementsAre(fs::path(std::string(100'000, 'x')), fs::path("y")));
}

}  // namespace
}  // namespace nas
