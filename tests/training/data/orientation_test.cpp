// SPDX-License-Identifier: Apache-2.0
// One patient, however it is stored, gives one network input and one segmentation.
#include <algorithm>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nas/core/rng.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/nifti.h"
#include "nas/imaging/orientation.h"
#include "nas/imaging/phantom.h"
#include "tests/support/orientations.h"
#include "tests/support/support.h"
#include "training/data/preprocessing.h"
#include "training/data/sliding_window.h"

namespace nas {
namespace {

using test::all_orientations;
using test::TempFolder;

Preprocessing oriented_preprocessing() {
  Preprocessing p;
  p.configuration = "3d_fullres";
  p.orientation = "PSR";
  p.transpose_forward = {2, 0, 1};
  p.transpose_backward = {1, 2, 0};
  p.spacing = {1.5, 1, 1.25};
  p.patch = {8, 10, 12};
  p.normalization = {"ZScoreNormalization"};
  p.use_mask_for_norm = {false};
  p.intensity = {IntensityProperties{.mean = 2.5, .std = 0.1}};
  p.channel_names = {"MRI"};
  p.labels.names = {"background", "organ", "lesion"};
  return p;
}

/// Noise in an oblique, anisotropic grid, zero in margins of different depth on all six sides.
Image patient() {
  Image image;
  image.geometry.shape = {11, 17, 14};
  image.geometry.affine = {0.9, -0.3, 0.1, 20, 0.28, 0.95, 0.2, -35, -0.1, -0.12, 1.98, 60};
  image.geometry.spacing_mm = {2, 1, 0.95};
  Rng rng("patient");
  for (std::int64_t d = 0; d < 11; ++d) {
    for (std::int64_t h = 0; h < 17; ++h) {
      for (std::int64_t w = 0; w < 14; ++w) {
        const bool margin = d < 1 || d > 8 || h < 3 || w > 10;
        const double value = 5 + rng.normal() + (h > 8 && w < 6 ? 3 : 0);
        image.voxels.push_back(margin ? 0.0F : static_cast<float>(value));
      }
    }
  }
  return image;
}

/// Three classes by differences to two neighbours: it tells every axis and direction apart.
WindowLogits toy_network(const std::vector<float>& window, const Extent3& patch) {
  WindowLogits result{{}, patch};
  const auto n = static_cast<std::size_t>(volume(patch));
  result.values.resize(3 * n);
  const auto row = static_cast<std::size_t>(patch[2]),
             plane = row * static_cast<std::size_t>(patch[1]);
  for (std::size_t i = 0; i < n; ++i) {
    const float here = window[i];
    result.values[n + i] =
        here - (i + 1 < n ? window[i + 1] : 0) + 0.02F * static_cast<float>(i % row);
    result.values[2 * n + i] = here - 0.5F * (i >= row ? window[i - row] : 0) -
                               0.25F * (i >= plane ? window[i - plane] : 0);
  }
  return result;
}

LabelMap segment(const Image& image, const Preprocessing& p) {
  return segment_windows(preprocess_case(image, nullptr, p), p, [&](std::vector<float>& window) {
    return toy_network(window, p.patch);
  });
}

TEST(Orientation, OnePatientStoredInAll48WaysIsSegmentedAlike) {
  const Preprocessing p = oriented_preprocessing();
  const Image image = patient();
  const LabelMap expected = segment(image, p);
  EXPECT_EQ(expected.geometry, image.geometry);
  for (const int label : {0, 1, 2}) {
    EXPECT_GT(std::ranges::count(expected.voxels, label), 50) << label;
  }
  const PreprocessedCase input = preprocess_case(image, nullptr, p);
  Preprocessing blind = p;
  blind.orientation = "";
  int differ = 0;
  for (const std::string& codes : all_orientations()) {
    SCOPED_TRACE(codes);
    const Turn turn = turn_to(image.geometry, codes);
    const Image stored = turned(image, turn);
    const PreprocessedCase own = preprocess_case(stored, nullptr, p);
    EXPECT_EQ(own.image.voxels, input.image.voxels);
    EXPECT_EQ(preprocessed_shape(stored.geometry, p), preprocessed_shape(image.geometry, p));
    const LabelMap found = segment(stored, p);
    EXPECT_EQ(found.geometry, stored.geometry);  // to the last bit
    EXPECT_EQ(turned(found, inverse(turn)).voxels, expected.voxels);
    differ += turned(segment(stored, blind), inverse(turn)).voxels != expected.voxels;
  }
  EXPECT_GT(differ, 40);  // a model that knows no orientation takes voxels as they are stored
}

TEST(Orientation, LabelsAreTurnedWithTheirImage) {
  const Preprocessing p = oriented_preprocessing();
  const Image image = patient();
  LabelMap label;
  label.geometry = image.geometry;
  for (std::size_t i = 0; i < image.voxels.size(); ++i) {
    label.voxels.push_back(static_cast<std::int16_t>(i % 14 < 5 ? 1 : i % 11 == 3 ? 2 : 0));
  }
  const PreprocessedCase expected = preprocess_case(image, &label, p);
  const Turn turn = turn_to(image.geometry, "ILP");
  const LabelMap stored_label = turned(label, turn);
  const PreprocessedCase found = preprocess_case(turned(image, turn), &stored_label, p);
  EXPECT_EQ(found.label.voxels, expected.label.voxels);
  EXPECT_EQ(found.image.voxels, expected.image.voxels);
}

TEST(Orientation, TheCacheOfAMixedDataSetIsThatOfTheStraightOne) {
  const TempFolder folder;
  write_phantom(folder / "straight", {.cases = 3, .test_cases = 0, .size = {12, 14, 16}});
  std::filesystem::copy(
      folder / "straight", folder / "mixed", std::filesystem::copy_options::recursive);
  DataSet straight = open_data_set(folder / "straight"), mixed = open_data_set(folder / "mixed");
  const std::vector<std::string> codes{"LPS", "SAR", "RIP"};
  for (std::size_t i = 0; i < 3; ++i) {
    const CaseFiles& files = mixed.training[i];
    const Image image = read_nifti_image(files.images.front());
    const LabelMap label = read_nifti_label(files.label);
    write_nifti(files.images.front(), turned(image, turn_to(image.geometry, codes[i])));
    write_nifti(files.label, turned(label, turn_to(label.geometry, codes[(i + 1) % 3])));
  }
  const Preprocessing p = oriented_preprocessing();
  const CaseCache a = open_case_cache(folder / "cache", straight, p, 1, false);
  mixed.orientation = p.orientation;
  const CaseCache b = open_case_cache(folder / "cache", mixed, p, 1, false);
  EXPECT_NE(a.key(), b.key());
  for (std::size_t i = 0; i < 3; ++i) {
    const CachedCase &x = a.cases()[i], &y = b.cases()[i];
    ASSERT_EQ(x.shape, y.shape);
    EXPECT_TRUE(std::equal(x.image, x.image + volume(x.shape), y.image)) << x.id;
    EXPECT_TRUE(std::equal(x.label, x.label + volume(x.shape), y.label)) << x.id;
  }
  Preprocessing other = p;
  other.orientation = "LAS";
  EXPECT_NE(open_case_cache(folder / "cache", straight, other, 1, false).key(), a.key());
}

TEST(Orientation, PreprocessingRemembersItOrSaysNothing) {
  Preprocessing p = oriented_preprocessing();
  EXPECT_EQ(preprocessing_from_json(to_json(p), "p"), p);
  p.orientation = "";
  EXPECT_FALSE(to_json(p).contains("orientation"));  // as models from before
  EXPECT_EQ(preprocessing_from_json(to_json(p), "p"), p);
  Json bad = to_json(p);
  bad["orientation"] = "RRS";
  EXPECT_NE(test::error_of([&] { preprocessing_from_json(bad, "p.json"); }).find("p.json"),
            std::string::npos);
}

}  // namespace
}  // namespace nas
