// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/case_folder.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nas/imaging/case_names.h"
#include "nas/imaging/nifti.h"
#include "tests/support/support.h"

namespace nas {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

void write_image(const fs::path& file, std::int64_t channels = 1) {
  Image image;
  image.geometry.shape = {2, 3, 4};
  image.channels = channels;
  image.voxels.assign(static_cast<std::size_t>(24 * channels), 1.0f);
  image.voxels[0] = 2;
  write_nifti(file, image);
}

TEST(CaseFolder, NothingThatLooksLikeAnImageIsLeftOut) {
  const test::TempFolder folder;
  write_image(folder / "good.nii.gz");
  fs::rename(folder / "good.nii.gz", folder / "GOOD.NII.GZ");
  write_image(folder / "target.nii.gz");
  fs::create_symlink(folder / "target.nii.gz", folder / "link.nii.gz");
  fs::create_symlink("nowhere.nii.gz", folder / "gone.nii.gz");
  for (const char* name : {"scan.mha", "SCAN2.NRRD", "notes.txt", ".hidden.nii.gz"}) {
    std::ofstream(folder / name) << "x";
  }
  const FolderCases found = cases_in_folder(folder.path(), 1);
  std::vector<std::string> ids;
  for (const FolderCase& one : found.cases) ids.push_back(one.id);
  ASSERT_THAT(ids, ElementsAre("GOOD", "SCAN2.NRRD", "gone", "link", "scan.mha", "target"));
  EXPECT_EQ(found.cases[0].problem, "");
  EXPECT_THAT(found.cases[1].problem, HasSubstr("SCAN2.NRRD: expected a NIfTI file"));
  EXPECT_THAT(found.cases[2].problem, HasSubstr("points to nothing"));
  EXPECT_EQ(found.cases[3].problem, "");
  EXPECT_THAT(found.cases[4].problem, HasSubstr("scan.mha"));
  EXPECT_THAT(found.notes, ElementsAre(HasSubstr("notes.txt")));
}

TEST(CaseFolder, ImagesOfOtherFormatsAloneAreCasesThatFail) {
  const test::TempFolder folder;
  std::ofstream(folder / "scan.mha") << "x";
  const FolderCases found = cases_in_folder(folder.path(), 1);
  ASSERT_EQ(found.cases.size(), 1u);
  EXPECT_THAT(found.cases[0].problem, HasSubstr("scan.mha"));
}

TEST(ForeignImageNames, AreThoseOfOtherFormats) {
  for (const char* name : {"x.mha", "x.NRRD", "a/b.nii.bz2", "x.dcm"}) {
    EXPECT_TRUE(is_foreign_image_name(name)) << name;
  }
  for (const char* name : {"x.nii", "x.nii.gz", "run.v1", "mha", "x.txt"}) {
    EXPECT_FALSE(is_foreign_image_name(name)) << name;
  }
}

}  // namespace
}  // namespace nas
