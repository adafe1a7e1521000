// SPDX-License-Identifier: Apache-2.0
// MONAI runs the bundle that we write.
#include "training/exchange/monai_bundle.h"

#include <gmock/gmock.h>

#include "nas/core/error.h"
#include "nas/imaging/orientation.h"
#include "tests/interop/interop.h"

namespace nas {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

TEST(Monai, VerifiesAndRunsTheBundleAsWePredict) {
  NAS_PYTHON_OR_SKIP(python);
  NAS_SHARED_OR_SKIP(source, "data/Task04_Hippocampus");
  if (!test::python_has(python, "monai") || !test::python_has(python, "ignite")) {
    GTEST_SKIP() << "needs MONAI in the Python environment of scripts/setup.sh";
  }
  const test::TempFolder temp;
  ::setenv("VOXNAS_DATA_CACHE", (temp / "cache").c_str(), 1);
  test::few_hippocampi(source, temp / "data", 8);
  Model model = test::train_tiny(temp / "data", temp / "run", false, 120);
  EXPECT_EQ(model.preprocessing.orientation.size(), 3u);
  const fs::path bundle = temp / "bundle";
  fs::create_directory(bundle);
  write_monai_bundle(model, bundle);
  for (const char* name : {"LICENSE",
                           "configs/metadata.json",
                           "configs/inference.json",
                           "models/model.ts",
                           "models/model.pt",
                           "docs/README.md"}) {
    EXPECT_TRUE(fs::is_regular_file(bundle / name)) << name;
  }

  // The schema file is there already, so that MONAI does not fetch it.
  fs::copy(fs::path(NAS_INTEROP_DIR) / "metadata_schema.json", temp / "schema.json");
  ASSERT_TRUE(test::run_logged("cd '" + bundle.string() + "' && " + python.string() +
                                   " -m monai.bundle verify_metadata --meta_file "
                                   "configs/metadata.json --filepath '" +
                                   (temp / "schema.json").string() + "'",
                               temp / "verify.log"));
  EXPECT_THAT(test::text_of(temp / "verify.log"), HasSubstr("metadata is verified with no error"));

  // A real case as it is, and the same with other voxel sizes, so that resampling takes part.
  const Json cases = read_json(temp / "data/dataset.json").at("training");
  fs::create_directory(temp / "images");
  Image image = read_nifti_image(source / cases.at(0).at("image").get<std::string>());
  write_nifti(temp / "images/as_planned.nii.gz", image);
  image.geometry.spacing_mm = {1.3, 0.9, 1.1};
  image.geometry.affine = {1.1, 0, 0, 0, 0, 0.9, 0, 0, 0, 0, 1.3, 0};
  write_nifti(temp / "images/other_spacing.nii.gz", image);
  const Image planned = read_nifti_image(temp / "images/as_planned.nii.gz");
  write_nifti(temp / "images/other_axes.nii.gz", turned(planned, turn_to(planned.geometry, "SPL")));
  ASSERT_TRUE(test::run_logged(
      "cd '" + bundle.string() + "' && OMP_NUM_THREADS=2 " + python.string() +
          " -m monai.bundle run --meta_file configs/metadata.json --config_file "
          "configs/inference.json --bundle_root . --dataset_dir '" +
          (temp / "images").string() + "' --output_dir '" + (temp / "out").string() + "'",
      temp / "run.log"));
  for (const auto& [name, most] : {std::pair<const char*, double>{"as_planned", 1e-4},
                                   {"other_axes", 1e-4},
                                   {"other_spacing", 5e-3}}) {
    const fs::path file = temp / ("out/" + std::string(name) + ".nii.gz");
    ASSERT_TRUE(fs::exists(file)) << test::text_of(temp / "run.log");
    const LabelMap theirs = read_nifti_label(file);
    const LabelMap ours =
        predict_image(model,
                      read_nifti_image(temp / ("images/" + std::string(name) + ".nii.gz")),
                      {.device = "cpu", .precision = "fp32"});
    EXPECT_GT(test::foreground(ours), 500) << "the network sees nothing: no evidence";
    const double share = test::disagreement(ours, theirs);
    EXPECT_LE(share, most) << name;
    std::cout << name << ": " << 100 * share << " % of the voxels differ\n";
  }
}

}  // namespace
}  // namespace nas
