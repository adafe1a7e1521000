// SPDX-License-Identifier: Apache-2.0
#include "nas/dashboard/case_volumes.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <span>

#include "nas/core/error.h"
#include "nas/core/json.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/nifti.h"
#include "nas/imaging/phantom.h"
#include "nas/results/results_db.h"
#include "tests/support/support.h"
#include "tests/support/toy_search.h"

namespace nas {
namespace {

using test::TempFolder;

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

/// A phantom and a run over it whose prediction of the first case lacks a cube of the reference and
/// has one too many.
struct Cases {
  TempFolder folder;
  DataSet data;
  std::string id;
  LabelMap reference;
  std::unique_ptr<LiveRun> run;

  Cases() {
    PhantomOptions options;
    options.cases = 5;
    options.size = {20, 24, 28};
    options.size_jitter = 0;
    write_phantom(folder / "data", options);
    data = open_data_set(folder / "data");
    id = data.training.front().id;
    reference = read_nifti_label(data.training.front().label);
    std::filesystem::create_directories(folder / "run");
    RunRecord record = test::small_record({.steps = 10});
    record.data_folder = (folder / "data").string();
    const ResultsDb db = ResultsDb::create(folder / "run" / "results.sqlite", record);
    run =
        std::make_unique<LiveRun>(folder / "run" / "results.sqlite", 1, (folder / "run").string());
  }
  std::filesystem::path prediction(const std::string& label) const {
    return folder / "run" / "predictions" / label / (id + ".nii.gz");
  }
};

std::size_t at(const LabelMap& map, std::int64_t x, std::int64_t y, std::int64_t z) {
  const auto [depth, height, width] = map.geometry.shape;
  return static_cast<std::size_t>((z * height + y) * width + x);
}

TEST(CaseVolumes, ErrorsSayWhatIsMissedAndWhatIsExtra) {
  Cases c;
  LabelMap reference = c.reference, prediction = c.reference;
  std::ranges::fill(reference.voxels, std::int16_t{0});
  std::ranges::fill(prediction.voxels, std::int16_t{0});
  const auto cube = [](LabelMap& map, std::int64_t from, std::int64_t edge, std::int16_t label) {
    for (std::int64_t z = 0; z < edge; ++z)
      for (std::int64_t y = 0; y < edge; ++y)
        for (std::int64_t x = 0; x < edge; ++x)
          map.voxels[at(map, from + x, from + y, from + z)] = label;
  };
  cube(reference, 2, 4, 1);    // missed: 64 voxels
  cube(prediction, 12, 3, 1);  // extra: 27 voxels
  write_nifti(c.data.training.front().label, reference);
  write_nifti(c.prediction("best"), prediction);
  const VolumeAnswer answer = case_volume(*c.run, c.id, "error-best");
  EXPECT_EQ(answer.note, "");
  const NiftiHeader header = parse_nifti_header(bytes_of(answer.bytes), "answer");
  EXPECT_EQ(header.type, VoxelType::UInt8);
  const LabelMap errors = parse_nifti_label(bytes_of(answer.bytes), "answer");
  EXPECT_EQ(errors.voxels[at(errors, 3, 3, 3)], kMissed);
  EXPECT_EQ(errors.voxels[at(errors, 13, 13, 13)], kExtra);
  EXPECT_EQ(errors.voxels[at(errors, 9, 9, 9)], kRight);
  const Json found = case_errors(*c.run, c.id, "best");
  ASSERT_EQ(found.at("count"), 2);
  EXPECT_EQ(found["parts"][0]["kind"], "missed");
  EXPECT_EQ(found["parts"][0]["voxels"], 64);
  EXPECT_EQ(found["parts"][1]["kind"], "extra");
  EXPECT_EQ(found["parts"][1]["at"], (Json{13.0, 13.0, 13.0}));
}

TEST(CaseVolumes, LayersLieOnTheImagesGrid) {
  Cases c;
  const LabelMap reference =
      parse_nifti_label(bytes_of(case_volume(*c.run, c.id, "reference").bytes), "answer");
  EXPECT_EQ(reference.voxels, c.reference.voxels);
  const Image image = parse_nifti(bytes_of(case_volume(*c.run, c.id, "image-0").bytes), "answer");
  EXPECT_EQ(image.geometry.shape, reference.geometry.shape);
  EXPECT_EQ(image.geometry.affine, reference.geometry.affine);
  ASSERT_TRUE(image.geometry.stored.has_value());
  EXPECT_GT(image.geometry.stored->qform_code, 0);
  EXPECT_GT(image.geometry.stored->sform_code, 0);
  // A prediction on half the grid, shifted: brought back by place, not by index.
  LabelMap half = c.reference;
  const auto old = half.geometry.shape;
  half.geometry.stored.reset();
  half.geometry.shape = {old[0] / 2, old[1] / 2, old[2] / 2};
  for (std::size_t axis = 0; axis < 3; ++axis) half.geometry.spacing_mm[axis] *= 2;
  for (std::size_t row = 0; row < 3; ++row)
    for (std::size_t col = 0; col < 3; ++col) half.geometry.affine[4 * row + col] *= 2;
  half.voxels.assign(static_cast<std::size_t>(volume(half.geometry.shape)), 0);
  half.voxels[at(half, 4, 5, 6)] = 1;
  write_nifti(c.prediction("best"), half);
  const VolumeAnswer answer = case_volume(*c.run, c.id, "prediction-best");
  EXPECT_NE(answer.note.find("resampled"), std::string::npos);
  const LabelMap back = parse_nifti_label(bytes_of(answer.bytes), "answer");
  EXPECT_EQ(back.geometry.shape, old);
  EXPECT_EQ(back.voxels[at(back, 8, 10, 12)], 1);
  EXPECT_EQ(back.voxels[at(back, 4, 5, 6)], 0);
}

TEST(CaseVolumes, SaysWhatIsNotThere) {
  Cases c;
  const auto error = [&](const std::string& id, const std::string& layer) {
    return test::error_of([&] { case_volume(*c.run, id, layer); });
  };
  EXPECT_NE(error("../secret", "image-0").find("expected the name of a case"), std::string::npos);
  EXPECT_NE(error(c.id, "image-7").find("expected image-0"), std::string::npos);
  EXPECT_NE(error(c.id, "anything").find("expected image-0"), std::string::npos);
  EXPECT_NE(error(c.id, "prediction-../../x").find("best, baseline or control"), std::string::npos);
  EXPECT_NE(error(c.id, "prediction-best").find("no such prediction"), std::string::npos);
}

}  // namespace
}  // namespace nas
