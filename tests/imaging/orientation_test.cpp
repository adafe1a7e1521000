// SPDX-License-Identifier: Apache-2.0
// Where voxels lie: axis codes, turns, data sets of mixed orientation, and headers kept as they
// are.
#include "nas/imaging/orientation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <vector>

#include "nas/core/files.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/doctor.h"
#include "nas/imaging/fingerprint.h"
#include "nas/imaging/nifti.h"
#include "nas/imaging/phantom.h"
#include "tests/support/orientations.h"
#include "tests/support/support.h"

namespace nas {
namespace {

using test::all_orientations;
using test::error_of;
using test::TempFolder;
using testing::AllOf;
using testing::HasSubstr;
namespace fs = std::filesystem;

/// An oblique, slightly sheared grid without any symmetry; voxel i holds i.
Image ramp_image(std::int64_t channels = 1) {
  Image image;
  image.geometry.shape = {3, 4, 5};
  image.geometry.affine = {0.68, 0.21, 0.1, -31.5, -0.17, 0.86, -0.3, 12.25, -0.1, 0.11, 2.4, 7};
  const auto& a = image.geometry.affine;
  for (std::size_t col = 0; col < 3; ++col) {
    image.geometry.spacing_mm[2 - col] = std::hypot(a[col], a[4 + col], a[8 + col]);
  }
  image.channels = channels;
  for (std::int64_t i = 0; i < 60 * channels; ++i) image.voxels.push_back(static_cast<float>(i));
  return image;
}

std::array<double, 3> place_of(const Geometry& g, std::int64_t index) {
  const auto x = static_cast<double>(index % g.shape[2]);
  const auto y = static_cast<double>(index / g.shape[2] % g.shape[1]);
  const auto z = static_cast<double>(index / g.shape[2] / g.shape[1]);
  std::array<double, 3> place{};
  for (std::size_t row = 0; row < 3; ++row) {
    const double* a = g.affine.data() + 4 * row;
    place[row] = a[0] * x + a[1] * y + a[2] * z + a[3];
  }
  return place;
}

TEST(Orientation, AxisCodesAreNibabels) {
  struct Row {
    std::array<double, 9> axes;  // of the affine, row-major
    const char* codes;           // of nibabel 5.4.2's aff2axcodes
  };
  // Rotations with and without mirroring and shear, anisotropic; then ties and strong shears.
  const std::vector<Row> rows{
      {{0, -0.35, -1.44, 2.13, -0.1, 0.02, -0.14, -1.52, 0.33}, "AIL"},
      {{-0.79, -0.04, -0.84, -0.66, -1.56, 0.43, -0.49, 0.59, 1.23}, "LPS"},
      {{-1.06, 2.11, 0.28, -1.25, -1.86, 0.29, 1.15, -0.08, 0.57}, "PRS"},
      {{-0.54, 2.08, 1.17, -0.47, -2.37, 1.05, 0.36, 0.01, 3.16}, "LPS"},
      {{-0.75, -1.48, -0.93, -0.34, -3.49, 0.6, -2.58, 0.05, -1.23}, "IPL"},
      {{-0.23, 0.31, 2.04, -2.65, -2.72, 0.02, 2.5, -2.85, 0.21}, "PIR"},
      {{-0.4, 1.67, -0.03, -0.18, -0.26, 1.25, 0.6, 1.05, 0.36}, "SRA"},
      {{-1.47, -1.65, 0.32, 0.46, -2.54, -0.41, 0.64, -0.61, 3.34}, "LPS"},
      {{-0.43, -0.03, -1.19, 0.61, -0.86, -0.6, -0.36, -1.41, 0.39}, "AIL"},
      {{-2.37, 0.18, 2.46, 1.14, -2.13, 0.51, 0.86, 2.19, 2.65}, "LPS"},
      {{-0.7, -3.73, 0.31, -0.58, -0.49, -1.99, 3.82, -0.76, -0.25}, "SLP"},
      {{-0.59, -2.41, -0.22, 0.95, -1.56, 0.08, -0.19, -0.39, 1.04}, "ALS"},
      {{-0.19, -0.79, 3.46, 0.8, 0.45, 0.82, -0.08, 3.58, 1.64}, "ASR"},
      {{-2.39, -1.13, -0.33, -0.63, -0.55, -2.57, 1.21, -0.37, 1.36}, "LIP"},
      {{-2.54, -0.51, -2.25, -1.99, -0.4, 2.87, -2.1, 0.99, 0}, "LSA"},
      {{-0.8, 0, 0, 0, 0.9, 0, 0, 0, 2}, "LAS"},
      {{1, -1, 0, 1, 1, 0, 0, 0, 1}, "RAS"},
      {{1, 1, 0, -1, 1, 0, 0, 0, 1}, "RAS"},
      {{-1, 1, 0, 1, 1, 0, 0, 0, 1}, "LAS"},
      {{1, 0, 0, 0, 1, -1, 0, 1, 1}, "RAS"},
      {{1, 0.9, 0, 0, 0.5, 0, 0, 0, 3}, "RAS"},
      {{1, 1.2, 0.8, 0, 0.5, 0.9, 0.1, 0, 0.4}, "RIA"},
  };
  for (const Row& row : rows) {
    Geometry g;
    for (std::size_t i = 0; i < 9; ++i) g.affine[4 * (i / 3) + i % 3] = row.axes[i];
    EXPECT_EQ(axis_codes(g), row.codes);
  }
}

TEST(Orientation, EveryTurnKeepsEveryVoxelAtItsPlace) {
  const Image image = ramp_image(2);
  EXPECT_EQ(axis_codes(image.geometry), "RAS");
  ASSERT_EQ(all_orientations().size(), 48u);
  for (const std::string& codes : all_orientations()) {
    SCOPED_TRACE(codes);
    const Turn turn = turn_to(image.geometry, codes);
    const Image there = turned(image, turn);
    EXPECT_EQ(axis_codes(there.geometry), codes);
    ASSERT_EQ(there.voxels.size(), image.voxels.size());
    for (std::int64_t i = 0; i < 60; ++i) {
      const auto value = static_cast<std::int64_t>(there.voxels[static_cast<std::size_t>(i)]);
      EXPECT_EQ(static_cast<std::int64_t>(there.channel(1)[static_cast<std::size_t>(i)]),
                value + 60);
      const auto now = place_of(there.geometry, i), before = place_of(image.geometry, value);
      for (std::size_t row = 0; row < 3; ++row) EXPECT_NEAR(now[row], before[row], 1e-12);
    }
    const Image back = turned(there, inverse(turn));
    EXPECT_EQ(back.voxels, image.voxels);
    EXPECT_EQ(back.geometry.spacing_mm, image.geometry.spacing_mm);
    EXPECT_TRUE(same_grid(back.geometry, image.geometry, 1e-12));
    EXPECT_EQ(combined(turn, inverse(turn)), Turn{});
    EXPECT_EQ(turn_onto(there.geometry, image.geometry), inverse(turn));
    EXPECT_EQ(turned(there, turn_to(there.geometry, "SPL")).voxels,
              turned(image, combined(turn, turn_to(there.geometry, "SPL"))).voxels);
  }
}

TEST(Orientation, CodesOfTheUserAreChecked) {
  EXPECT_EQ(parse_axis_codes("lps", "--orientation"), "LPS");
  for (const char* bad : {"", "RA", "RASX", "RLS", "RAA", "XYZ", "AAS"}) {
    EXPECT_THAT(error_of([&] { parse_axis_codes(bad, "--orientation"); }),
                AllOf(HasSubstr("--orientation"), HasSubstr(bad)));
  }
}

TEST(Orientation, TheCommonestIsChosenUnlessAnotherIsAsked) {
  const auto commonest = choose_orientation({{"LPS", 2}, {"RAS", 3}}, 0, "");
  EXPECT_EQ(commonest.codes, "RAS");
  EXPECT_THAT(to_text(commonest), AllOf(HasSubstr("RAS, the commonest"), HasSubstr("2 LPS")));
  EXPECT_EQ(choose_orientation({{"LPS", 2}, {"RAS", 2}}, 0, "").codes, "LPS");
  EXPECT_EQ(choose_orientation({{"LPS", 2}, {"RAS", 3}}, 0, "SPL").codes, "SPL");
  EXPECT_EQ(to_text(choose_orientation({{"LPS", 2}}, 0, "")), "LPS");
  EXPECT_THAT(to_text(choose_orientation({{"RAS", 2}}, 1, "")), HasSubstr("1 file says none"));
}

// ---- data sets
// -----------------------------------------------------------------------------------

/// A small data set and the same one with every file stored in another orientation.
struct Twins {
  TempFolder folder;
  DataSet straight, mixed;

  explicit Twins(const std::vector<std::string>& codes, std::int64_t channels = 1) {
    const PhantomOptions options{.cases = 4,
                                 .test_cases = 0,
                                 .size = {12, 14, 16},
                                 .spacing_mm = {2.5, 1, 0.75},
                                 .channels = channels,
                                 .layout = channels > 1 ? "nnunet" : "msd"};
    write_phantom(folder / "straight", options);
    fs::copy(folder / "straight", folder / "mixed", fs::copy_options::recursive);
    std::size_t next = 0;
    mixed = open_data_set(folder / "mixed");
    straight = open_data_set(folder / "straight");
    for (const CaseFiles& files : mixed.training) {
      for (const fs::path& file : files.images) store(file, codes[next++ % codes.size()]);
      LabelMap label = read_nifti_label(files.label);
      const Turn turn = turn_to(label.geometry, codes[next++ % codes.size()]);
      write_nifti(files.label, turned(label, turn));
    }
  }
  static void store(const fs::path& file, const std::string& codes) {
    const Image image = read_nifti_image(file);
    write_nifti(file, turned(image, turn_to(image.geometry, codes)));
  }
};

TEST(Orientation, ChannelsAndLabelsAreTurnedOntoTheFirstImage) {
  const Twins twins({"RAS", "LPS", "SAL", "IRP", "PIR"}, 2);
  DataSet data = twins.mixed;
  for (const CaseFiles& files : data.training) {
    SCOPED_TRACE(files.id);
    const Geometry stored = read_nifti_header(files.images[0]).geometry;
    data.orientation = "";
    const Image own = read_case_image(data, files);
    EXPECT_EQ(own.geometry, stored);
    EXPECT_TRUE(same_grid(read_case_label(data, files).geometry, stored));
    data.orientation = "RAS";
    const CaseFiles& straight = twins.straight.find(files.id);
    const Image image = read_case_image(data, files);
    const LabelMap label = read_case_label(data, files);
    EXPECT_EQ(image.voxels, read_case_image(twins.straight, straight).voxels);
    EXPECT_EQ(label.voxels, read_case_label(twins.straight, straight).voxels);
    EXPECT_TRUE(same_grid(image.geometry, label.geometry));
    EXPECT_EQ(image.geometry.spacing_mm, (Vec3{2.5, 1, 0.75}));
  }
}

TEST(Orientation, AMixedDataSetHasTheFingerprintOfTheStraightOne) {
  Twins twins({"RAS", "RAS", "LPI", "RAS", "SAR"});
  const OrientationChoice choice = choose_orientation(twins.mixed, "");
  EXPECT_EQ(choice.codes, "RAS");
  twins.mixed.orientation = twins.straight.orientation = choice.codes;
  const Fingerprint fingerprint = compute_fingerprint(twins.mixed, 1, false);
  EXPECT_EQ(fingerprint, compute_fingerprint(twins.straight, 1, false));
  EXPECT_EQ(fingerprint.orientation, "RAS");
  EXPECT_EQ(fingerprint_from_json(to_json(fingerprint), "f"), fingerprint);
  // Another choice permutes the spacings.
  twins.mixed.orientation = choose_orientation(twins.mixed, "als").codes;
  EXPECT_EQ(compute_fingerprint(twins.mixed, 1, false).spacings.front(), (Vec3{2.5, 0.75, 1}));
  Json bad = to_json(fingerprint);
  bad["orientation"] = "RAR";
  EXPECT_THAT(error_of([&] { fingerprint_from_json(bad, "f"); }), HasSubstr("orientation"));
}

TEST(Orientation, ALabelThatLiesElsewhereWhenTurnedIsRefusedByName) {
  const Twins twins({"RAS"});
  const CaseFiles& files = twins.mixed.training.front();
  LabelMap label = read_nifti_label(files.label);
  label = turned(label, turn_to(label.geometry, "LPS"));
  label.geometry.affine[3] += 3;
  write_nifti(files.label, label);
  DataSet data = twins.mixed;
  const std::string message = error_of([&] { read_case_label(data, files); });
  EXPECT_THAT(message, AllOf(HasSubstr(files.label.string()), HasSubstr("LPS"), HasSubstr("RAS")));
  EXPECT_THAT(message, HasSubstr("up to 3 mm apart"));
  const auto findings = examine(twins.folder / "mixed", {.threads = 1});
  ASSERT_FALSE(findings.empty());
  EXPECT_EQ(findings.front().check, "axis-order");
  EXPECT_EQ(findings.front().severity, Severity::Fatal);
  EXPECT_EQ(findings.front().file, files.label);
  data.accept_misaligned = true;
  EXPECT_EQ(read_case_label(data, files).voxels, label.voxels);  // voxel by voxel
}

TEST(Orientation, DoctorTellsWhatIsTurned) {
  const Twins twins({"RAS", "LPS"});
  std::size_t turned_labels = 0;
  for (const Finding& finding : examine(twins.folder / "mixed", {.threads = 1})) {
    EXPECT_EQ(finding.severity == Severity::Fatal, false) << to_text(finding);
    if (finding.check == "axis-order") ++turned_labels;
  }
  EXPECT_EQ(turned_labels, 4u);
}

// ---- headers
// -------------------------------------------------------------------------------------

/// The header bytes that say where voxels lie (NIfTI-1): pixdim[0..3], unit, qform to srow_z.
std::string place_bytes(const fs::path& file) {
  const std::string bytes = read_file(file, 1 << 20);
  return bytes.substr(76, 16) + bytes.substr(123, 1) + bytes.substr(252, 328 - 252);
}

/// Writes a header by hand over a written file: `unit`, both codes, voxel edge, numbers of no
/// special form.
void overwrite_place(const fs::path& file, char unit, std::int16_t qform, std::int16_t sform) {
  std::string bytes = read_file(file, 1 << 20);
  bytes[123] = unit;
  std::memcpy(bytes.data() + 252, &qform, 2);
  std::memcpy(bytes.data() + 254, &sform, 2);
  const float pixdim[4] = {-1, 0.703125F, 0.7F, 2.4999F};
  const float q[6] = {0.1F, -0.2F, 0.3F, 11.11F, -7.77F, 100.3F};
  const float rows[12] = {
      -0.7F, 0.01F, 0.2F, 33.3F, 0.02F, 0.69F, -0.1F, -5.5F, 0.1F, 0.2F, 2.4F, 1};
  std::memcpy(bytes.data() + 76, pixdim, sizeof pixdim);
  std::memcpy(bytes.data() + 256, qform > 0 ? q : std::vector<float>(6).data(), sizeof q);
  std::memcpy(bytes.data() + 280, sform > 0 ? rows : std::vector<float>(12).data(), sizeof rows);
  write_file_atomic(file, bytes);
}

TEST(Orientation, AResultSaysItsPlaceInTheImagesOwnNumbersAndUnit) {
  const TempFolder folder;
  for (const char unit : {char{0}, char{1}, char{2}, char{3}}) {
    for (const auto& [qform, sform] : {std::pair{0, 0}, {1, 0}, {0, 2}, {1, 4}}) {
      SCOPED_TRACE(testing::Message() << int{unit} << " " << qform << " " << sform);
      write_nifti(folder / "image.nii", ramp_image());
      overwrite_place(folder / "image.nii",
                      unit,
                      static_cast<std::int16_t>(qform),
                      static_cast<std::int16_t>(sform));
      const Image image = read_nifti_image(folder / "image.nii");
      const double mm = unit == 1 ? 1e3 : unit == 3 ? 1e-3 : 1;
      EXPECT_NEAR(image.geometry.spacing_mm[2], 0.703125 * mm, 1e-9 * mm);
      EXPECT_EQ(image.geometry.oriented(), qform + sform > 0);
      LabelMap result;
      result.geometry = image.geometry;
      result.voxels.assign(60, 1);
      write_nifti(folder / "result.nii", result);
      EXPECT_EQ(place_bytes(folder / "result.nii"), place_bytes(folder / "image.nii"));
      // Turned, it is another grid, told in mm.
      const Image there = turned(image, turn_to(image.geometry, "SPL"));
      write_nifti(folder / "turned.nii", there);
      const Geometry read = read_nifti_header(folder / "turned.nii").geometry;
      EXPECT_TRUE(same_grid(read, there.geometry, 1e-4));
      EXPECT_TRUE(read.oriented());
    }
  }
}

TEST(Orientation, AFileWithoutOrientationIsNotTurnedAgainstAnother) {
  Geometry said = ramp_image().geometry, unsaid = said;
  said = turned(said, turn_to(said, "LPI"));
  EXPECT_FALSE(turn_within_case(said, unsaid)->is_identity());
  unsaid.stored = HeaderPlace{};
  EXPECT_FALSE(unsaid.oriented());
  EXPECT_TRUE(turn_within_case(said, unsaid)->is_identity());
  EXPECT_TRUE(turn_within_case(unsaid, said)->is_identity());
}

}  // namespace
}  // namespace nas
