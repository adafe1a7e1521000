// SPDX-License-Identifier: Apache-2.0
#include "nas/report/pictures.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include <nlohmann/json.hpp>

#include "nas/core/files.h"
#include "nas/core/run_folder.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/nifti.h"
#include "nas/imaging/orientation.h"
#include "nas/imaging/phantom.h"
#include "tests/support/support.h"

namespace nas {
namespace {

namespace fs = std::filesystem;
using test::TempFolder;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kCase = "phantom_001";

/// A data set whose case is stored as `codes`, and a run that predicted what the reference says.
struct PicturedRun {
  fs::path folder, image, label;
  Json data;

  PicturedRun(const fs::path& folder, const std::string& codes) : folder(folder) {
    write_phantom(
        folder / "data",
        {.cases = 2, .test_cases = 0, .size = {12, 14, 16}, .spacing_mm = {2.5, 1, 0.75}});
    const DataSet set = open_data_set(folder / "data");
    image = set.find(kCase).images.front();
    label = set.find(kCase).label;
    const Image voxels = read_nifti_image(image);
    const LabelMap labels = read_nifti_label(label);
    write_nifti(image, turned(voxels, turn_to(voxels.geometry, codes)));
    write_nifti(label, turned(labels, turn_to(labels.geometry, codes)));
    const fs::path predictions = RunFolder(folder / "run").predictions("best");
    fs::create_directories(predictions);
    fs::copy_file(label, predictions / (std::string(kCase) + ".nii.gz"));
    const Json classes = Json::array({{{"label", "organ_1"}, {"dice", 1.0}}});
    data["final"]["best"]["cases"] = Json::array({{{"id", kCase}, {"classes", classes}}});
    data["data"]["labels"] = set.labels.names;
    data["data_folder"] = (folder / "data").string();
  }

  std::string pictures() const {
    Html page;
    add_pictures(page, folder / "run", data, "best");
    return page.str();
  }
};

TEST(Pictures, ShowThePlanesOfThePatientHoweverFilesAreStored) {
  const TempFolder temp;
  const std::string straight = PicturedRun(temp / "RAS", "RAS").pictures();
  EXPECT_THAT(straight, HasSubstr(std::string("alt=\"") + kCase + ", axial\""));
  EXPECT_THAT(straight, HasSubstr("image/png"));
  for (const char* codes : {"LPS", "SAR", "PIL", "ASL"}) {
    EXPECT_EQ(PicturedRun(temp / codes, codes).pictures(), straight) << codes;
  }
}

TEST(Pictures, TakeFilesThatDisagreeIfTheRunDid) {
  const TempFolder temp;
  PicturedRun run(temp.path(), "RAS");
  LabelMap label = read_nifti_label(run.label);
  label.geometry.spacing_mm[0] *= 1.5;
  for (const std::size_t row : {2u, 6u, 10u}) label.geometry.affine[row] *= 1.5;
  write_nifti(run.label, label);
  EXPECT_THAT(run.pictures(), HasSubstr("No pictures: "));
  run.data["accept_misaligned"] = true;
  EXPECT_THAT(run.pictures(), HasSubstr("image/png"));
  EXPECT_THAT(run.pictures(), Not(HasSubstr("No pictures")));
}

}  // namespace
}  // namespace nas
