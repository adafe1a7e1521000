// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <set>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/log.h"
#include "nas/core/rng.h"
#include "nas/core/stop.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/intensity.h"
#include "nas/imaging/nifti.h"
#include "nas/imaging/resample.h"
#include "tests/support/support.h"
#include "training/data/argmax_stream.h"
#include "training/data/patches.h"
#include "training/data/preprocessing.h"
#include "training/data/time_model.h"

namespace nas {
namespace {

using test::error_of;

namespace fs = std::filesystem;

Preprocessing example_preprocessing() {
  Preprocessing p;
  p.configuration = "3d_fullres";
  p.spacing = {1.5, 1, 1};
  p.patch = {16, 16, 16};
  p.normalization = {"ZScoreNormalization"};
  p.use_mask_for_norm = {false};
  p.intensity = {IntensityProperties{.mean = 2.5, .std = 0.1}};
  p.channel_names = {"MRI"};
  p.labels.names = {"background", "organ", "lesion"};
  return p;
}

/// A bright ball (label 1) with a core (label 2) in noise, zero outside a margin.
void make_case(Rng rng, const Extent3& shape, Image& image, LabelMap& label) {
  image = {};
  image.geometry.shape = shape;
  image.geometry.spacing_mm = {1.2, 0.9, 1};
  label = {};
  label.geometry = image.geometry;
  const double radius = rng.uniform(4, 7);
  for (std::int64_t d = 0; d < shape[0]; ++d) {
    for (std::int64_t h = 0; h < shape[1]; ++h) {
      for (std::int64_t w = 0; w < shape[2]; ++w) {
        const bool margin = d < 2 || h < 1 || w + 3 >= shape[2];
        const double r = std::hypot(static_cast<double>(d - shape[0] / 2),
                                    static_cast<double>(h - shape[1] / 2),
                                    static_cast<double>(w - shape[2] / 2));
        image.voxels.push_back(
            margin ? 0.0F : static_cast<float>(5 + rng.normal() + (r < radius ? 10 : 0)));
        label.voxels.push_back(
            static_cast<std::int16_t>(r < radius ? (r < radius / 2 ? 2 : 1) : 0));
      }
    }
  }
}

DataSet make_data(const fs::path& folder,
                  int cases,
                  const Extent3& shape = {20, 24, 22},
                  std::uint64_t seed = 1) {
  DataSet data;
  data.folder = folder;
  data.name = "Task99_Balls";
  data.layout = "msd";
  data.channel_names = {"MRI"};
  data.labels.names = {"background", "organ", "lesion"};
  for (int i = 0; i < cases; ++i) {
    Image image;
    LabelMap label;
    make_case(
        Rng(seed).split("case", i), {shape[0] + i % 3, shape[1], shape[2] + i % 2}, image, label);
    const std::string id = "ball_" + std::to_string(100 + i);
    const CaseFiles files{
        id, {folder / "imagesTr" / (id + ".nii.gz")}, folder / "labelsTr" / (id + ".nii.gz")};
    write_nifti(files.images.front(), image);
    write_nifti(files.label, label);
    data.training.push_back(files);
  }
  return data;
}

void expect_same(const CaseCache& a, const CaseCache& b) {
  ASSERT_EQ(a.cases().size(), b.cases().size());
  for (std::size_t i = 0; i < a.cases().size(); ++i) {
    const CachedCase& x = a.cases()[i];
    const CachedCase& y = b.cases()[i];
    ASSERT_EQ(x.id, y.id);
    ASSERT_EQ(x.shape, y.shape);
    ASSERT_EQ(x.channels, y.channels);
    const auto n = volume(x.shape);
    EXPECT_TRUE(std::equal(x.image, x.image + n * x.channels, y.image)) << x.id;
    EXPECT_TRUE(std::equal(x.label, x.label + n, y.label)) << x.id;
    EXPECT_EQ(x.class_locations, y.class_locations) << x.id;
  }
}

std::vector<fs::path> files_in(const fs::path& folder, const std::string& part) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename().string().find(part) != std::string::npos)
      found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

TEST(Preprocessing, JsonRoundTripIsExact) {
  Preprocessing p = example_preprocessing();
  p.transpose_forward = {1, 2, 0};
  p.transpose_backward = {2, 0, 1};
  p.spacing = {0.1, 1.0 / 3, 2};
  p.use_mask_for_norm = {true};
  EXPECT_EQ(preprocessing_from_json(to_json(p), "p.json"), p);
}

TEST(Preprocessing, RegionsMakeAVersionThatOlderProgramsRefuse) {
  Preprocessing p = example_preprocessing();
  EXPECT_EQ(to_json(p).at("version"), 1);
  EXPECT_FALSE(to_json(p).contains("regions") || to_json(p).contains("ignore_label"));
  p.labels.has_ignore = true;
  EXPECT_EQ(to_json(p).at("version"), 1) << "the outputs mean what they meant";
  EXPECT_EQ(preprocessing_from_json(to_json(p), "p.json"), p);
  p.labels = {.names = {"background", "whole", "core"},
              .regions = {{1, 2}, {2}},
              .region_labels = {1, 2},
              .has_ignore = true};
  EXPECT_EQ(to_json(p).at("version"), 2);
  EXPECT_EQ(preprocessing_from_json(to_json(p), "p.json"), p);
}

TEST(Preprocessing, DamagedJsonNamesTheKey) {
  const Json good = to_json(example_preprocessing());
  const auto expect_error = [&](const char* key, const Json& value) {
    Json bad = good;
    bad[key] = value;
    const std::string message = error_of([&] { preprocessing_from_json(bad, "p.json"); });
    EXPECT_NE(message.find("p.json"), std::string::npos) << key << ": " << message;
    EXPECT_NE(message.find(key), std::string::npos) << message;
  };
  expect_error("format", "something");
  expect_error("version", 3);
  expect_error("transpose_forward", Json{0, 0, 1});
  expect_error("transpose_backward", Json{1, 2, 0});
  expect_error("spacing", Json{1, 1});
  expect_error("spacing", Json{1, 1, -1});
  expect_error("patch", Json{16, 16, 1LL << 40});
  expect_error("use_mask_for_norm", Json::array());
  expect_error("intensity", Json{1});
  expect_error("channel_names", Json{"a", "b"});
  expect_error("label_names", "organ");
  for (const auto& [key, value] : good.items()) {
    Json bad = good;
    bad.erase(key);
    EXPECT_THROW(preprocessing_from_json(bad, "p.json"), Error) << key;
  }
}

TEST(Preprocessing, TransposesCropsNormalisesAndResamplesInThatOrder) {
  Preprocessing p = example_preprocessing();
  p.transpose_forward = {2, 0, 1};
  p.transpose_backward = {1, 2, 0};
  p.spacing = {1, 1.2, 0.9};  // of axes w, d, h: no resampling
  Image image;
  LabelMap label;
  make_case(Rng(5), {20, 24, 22}, image, label);
  const PreprocessedCase plain = preprocess_case(image, &label, p);
  EXPECT_EQ(plain.crop_begin, (Extent3{0, 2, 1}));
  EXPECT_EQ(plain.crop_shape, (Extent3{19, 18, 23}));
  EXPECT_EQ(plain.image.geometry.shape, plain.crop_shape);
  EXPECT_EQ(plain.original, image.geometry);
  double sum = 0;
  double squares = 0;
  for (const float v : plain.image.voxels) {
    sum += v;
    squares += static_cast<double>(v) * v;
  }
  const auto n = static_cast<double>(plain.image.voxels.size());
  EXPECT_NEAR(sum / n, 0, 1e-5);
  EXPECT_NEAR(squares / n, 1, 1e-4);  // z-score over the crop, not over the padded file
  // A voxel of the file is where the transposition and the crop put it.
  const auto at = [](const auto& v, std::int64_t d, std::int64_t h, std::int64_t w) {
    return v
        .voxels[static_cast<std::size_t>((d * v.geometry.shape[1] + h) * v.geometry.shape[2] + w)];
  };
  for (const auto& [d, h, w] :
       {Extent3{10, 12, 11}, Extent3{2, 1, 0}, Extent3{19, 23, 18}, Extent3{8, 15, 6}}) {
    EXPECT_EQ(at(plain.label, w, d - 2, h - 1), at(label, d, h, w));
  }
  const double slope = (at(plain.image, 3, 4, 5) - at(plain.image, 9, 9, 9)) /
                       (at(image, 6, 6, 3) - at(image, 11, 10, 9));
  EXPECT_NEAR(slope,
              (at(plain.image, 1, 1, 1) - at(plain.image, 9, 9, 9)) /
                  (at(image, 3, 2, 1) - at(image, 11, 10, 9)),
              1e-4);

  p.spacing = {2, 1.2, 0.75};
  const PreprocessedCase resampled = preprocess_case(image, &label, p, 2);
  EXPECT_EQ(resampled.image.geometry.shape, (Extent3{10, 18, 28}));  // 9.5 rounds to even
  EXPECT_EQ(resampled.image.geometry.spacing_mm, p.spacing);
  const auto expected = resample_image(plain.image.channel(0), plain.crop_shape, {10, 18, 28}, -1);
  EXPECT_EQ(resampled.image.voxels, expected);
  EXPECT_EQ(resampled.label.voxels,
            resample_labels(plain.label.voxels, plain.crop_shape, {10, 18, 28}, -1));
}

TEST(Preprocessing, MaskedNormalisationUsesOnlyTheInside) {
  Preprocessing p = example_preprocessing();
  p.spacing = {1, 1, 1};
  p.use_mask_for_norm = {true};
  Image image;
  image.geometry.shape = {4, 4, 4};
  image.voxels.assign(64, 0);
  image.voxels[0] = 1;
  image.voxels[1] = 3;
  image.voxels[63] = 5;
  const PreprocessedCase done = preprocess_case(image, nullptr, p);
  ASSERT_EQ(done.image.voxels.size(), 64U);
  EXPECT_TRUE(done.label.voxels.empty());
  const float deviation = std::sqrt(8.0F / 3);
  EXPECT_NEAR(done.image.voxels[0], -2 / deviation, 1e-5);
  EXPECT_NEAR(done.image.voxels[63], 2 / deviation, 1e-5);
  EXPECT_EQ(done.image.voxels[20], 0);
}

TEST(Preprocessing, WrongInputIsAnErrorThatSaysWhy) {
  const Preprocessing p = example_preprocessing();
  Image image;
  LabelMap label;
  make_case(Rng(5), {8, 8, 8}, image, label);
  Image two = image;
  two.channels = 2;
  two.voxels.insert(two.voxels.end(), image.voxels.begin(), image.voxels.end());
  EXPECT_NE(error_of([&] { preprocess_case(two, nullptr, p); }).find("expected 1 channels"),
            std::string::npos);
  LabelMap other = label;
  other.geometry.shape = {8, 8, 4};
  other.voxels.resize(256);
  EXPECT_NE(error_of([&] { preprocess_case(image, &other, p); }).find("8x8x4"), std::string::npos);
  Image far = image;  // a header may claim anything: no memory is taken for it
  far.geometry.spacing_mm = {1e6, 1, 1};
  EXPECT_NE(error_of([&] { preprocess_case(far, nullptr, p); }).find("spacing"), std::string::npos);
  far.geometry.spacing_mm = {1e3, 1e3, 1e4};
  EXPECT_NE(error_of([&] { preprocess_case(far, nullptr, p); }).find("spacing"), std::string::npos);
  far.geometry.spacing_mm = {1e-9, 1, 1};
  EXPECT_NE(error_of([&] { preprocess_case(far, nullptr, p); }).find("vanish"), std::string::npos);
  image.voxels[17] = NAN;
  EXPECT_NE(error_of([&] { preprocess_case(image, nullptr, p); }).find("NaN"), std::string::npos);
}

TEST(CaseCache, LocationsOfRegionsAndOfWhatIsKnown) {
  const test::TempFolder temp;
  DataSet data = make_data(temp / "data", 2);
  data.labels = {
      .names = {"background", "whole", "inner"}, .regions = {{1, 2}, {2}}, .region_labels = {1, 2}};
  Preprocessing p = example_preprocessing();
  const std::string classes_key = open_case_cache(temp / "cache", data, p, 1, false).key();
  p.labels = data.labels;
  const CaseCache regions = open_case_cache(temp / "cache", data, p, 1, false);
  EXPECT_NE(regions.key(), classes_key);
  for (const CachedCase& one : regions.cases()) {
    ASSERT_EQ(one.class_locations.size(), 3U);
    EXPECT_TRUE(one.class_locations[0].empty());
    std::vector<std::int64_t> whole, inner;
    for (std::int64_t i = 0; i < volume(one.shape); ++i) {
      if (one.label[i] > 0) whole.push_back(i);
      if (one.label[i] == 2) inner.push_back(i);
    }
    ASSERT_LT(whole.size(), 10000U) << "all of them fit";
    EXPECT_EQ(one.class_locations[1], whole);
    EXPECT_EQ(one.class_locations[2], inner);
    ASSERT_TRUE(one.scheme);
    EXPECT_EQ(*one.scheme, p.labels);
  }
  // The inner balls left out: nothing is drawn from them, everything else is listed first.
  p.labels = {.names = {"background", "organ"}, .has_ignore = true};
  data.labels = p.labels;
  const CaseCache ignoring = open_case_cache(temp / "cache", data, p, 1, false);
  const CachedCase& one = ignoring.cases().front();
  ASSERT_EQ(one.class_locations.size(), 2U);
  const auto annotated =
      static_cast<std::size_t>(volume(one.shape)) -
      static_cast<std::size_t>(std::count(one.label, one.label + volume(one.shape), 2));
  EXPECT_EQ(one.class_locations[0].size(), std::min<std::size_t>(10000, annotated));
  for (const auto& list : one.class_locations) {
    for (const std::int64_t i : list) ASSERT_NE(one.label[i], 2);
  }
  for (const std::int64_t i : one.class_locations[1]) ASSERT_EQ(one.label[i], 1);
}

TEST(Patches, WithAnIgnoredLabelEveryPatchIsCentredOnWhatIsKnown) {
  CachedCase source;
  source.shape = {30, 30, 30};
  source.class_locations = {{(10 * 30 + 12) * 30 + 14}, {}, {(20 * 30 + 3) * 30 + 5}};
  const std::vector<const CachedCase*> cases{&source};
  const auto centre = [&](std::int64_t sample) {
    const PatchChoice choice = choose_patch(cases, {8, 8, 8}, 2, sample, 0.5, Rng(1));
    EXPECT_TRUE(choice.foreground);
    return Extent3{choice.begin[0] + 4, choice.begin[1] + 4, choice.begin[2] + 4};
  };
  EXPECT_EQ(centre(0), (Extent3{10, 12, 14})) << "any place that is annotated";
  EXPECT_EQ(centre(1), (Extent3{20, 4, 5})) << "the class that is there; not before the case";
  source.class_locations[2].clear();
  EXPECT_EQ(centre(1), (Extent3{10, 12, 14})) << "no foreground: what is annotated";
  source.class_locations[0].clear();
  EXPECT_FALSE(choose_patch(cases, {8, 8, 8}, 2, 0, 0.5, Rng(1)).foreground);
}

TEST(CaseCache, HoldsThePreprocessedCases) {
  const test::TempFolder temp;
  const DataSet data = make_data(temp / "data", 4);
  const Preprocessing p = example_preprocessing();
  const CaseCache cache = open_case_cache(temp / "cache", data, p, 2, false);
  ASSERT_EQ(cache.cases().size(), 4U);
  EXPECT_EQ(cache.channels(), 1);
  EXPECT_EQ(cache.labels(), p.labels);
  for (const CaseFiles& files : data.training) {
    const LabelMap label = read_case_label(data, files);
    const PreprocessedCase expected = preprocess_case(read_case_image(data, files), &label, p);
    const CachedCase& found = cache.find(files.id);
    ASSERT_EQ(found.shape, expected.image.geometry.shape);
    EXPECT_TRUE(
        std::equal(expected.image.voxels.begin(), expected.image.voxels.end(), found.image));
    ASSERT_EQ(found.class_locations.size(), 3U);
    EXPECT_TRUE(found.class_locations[0].empty());
    std::vector<std::vector<std::int64_t>> places(3);
    for (std::size_t i = 0; i < expected.label.voxels.size(); ++i) {
      ASSERT_EQ(found.label[i], std::max<std::int16_t>(expected.label.voxels[i], 0));
      if (expected.label.voxels[i] > 0) {
        places[static_cast<std::size_t>(expected.label.voxels[i])].push_back(
            static_cast<std::int64_t>(i));
      }
    }
    EXPECT_EQ(found.class_locations, places);  // fewer than the limit: all of them
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(found.image) % 64, 0U);
  }
  EXPECT_THROW(cache.find("nobody"), Error);
}

TEST(CaseCache, KeepsAUniformSampleOfManyVoxels) {
  const test::TempFolder temp;
  DataSet data = make_data(temp / "data", 1);
  Image image;
  image.geometry.shape = {40, 40, 40};
  LabelMap label;
  label.geometry = image.geometry;
  for (int i = 0; i < 64000; ++i) {
    image.voxels.push_back(static_cast<float>(1 + i % 7));
    label.voxels.push_back(static_cast<std::int16_t>(i < 40000 ? 1 : 0));
  }
  write_nifti(data.training[0].images[0], image);
  write_nifti(data.training[0].label, label);
  Preprocessing p = example_preprocessing();
  p.spacing = {1, 1, 1};
  const CaseCache cache = open_case_cache(temp / "cache", data, p, 1, false);
  const auto& places = cache.cases()[0].class_locations[1];
  ASSERT_EQ(places.size(), 10000U);
  EXPECT_EQ(std::set<std::int64_t>(places.begin(), places.end()).size(), 10000U);
  // Hypergeometric: 2500 expected in each quarter, deviation 37; five deviations are allowed.
  for (int quarter = 0; quarter < 4; ++quarter) {
    const auto inside = std::count_if(
        places.begin(), places.end(), [&](std::int64_t i) { return i / 10000 == quarter; });
    EXPECT_NEAR(static_cast<double>(inside), 2500, 190);
  }
}

TEST(CaseCache, IsReusedForEqualContentAndRebuiltForOther) {
  const test::TempFolder temp;
  const DataSet data = make_data(temp / "data", 2);
  Preprocessing p = example_preprocessing();
  const CaseCache first = open_case_cache(temp / "cache", data, p, 0, false);
  const auto written = fs::last_write_time(first.folder() / "ball_100.case");
  struct stat before {};
  ASSERT_EQ(::stat((first.folder() / "ball_100.case").c_str(), &before), 0);
  p.patch = {32, 32, 32};
  p.labels.names[1] = "liver";  // neither changes a number in the cache
  const CaseCache second = open_case_cache(temp / "cache", data, p, 0, false);
  EXPECT_EQ(first.key(), second.key());
  struct stat after {};
  ASSERT_EQ(::stat((second.folder() / "ball_100.case").c_str(), &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino);
  EXPECT_EQ(fs::last_write_time(second.folder() / "ball_100.case"), written);

  const DataSet copy = make_data(temp / "copy", 2);  // same voxels elsewhere
  EXPECT_EQ(open_case_cache(temp / "cache", copy, p, 0, false).key(), first.key());

  Preprocessing finer = p;
  finer.spacing = {1, 1, 1};
  EXPECT_NE(open_case_cache(temp / "cache", data, finer, 0, false).key(), first.key());
  make_data(temp / "data", 2, {20, 24, 22}, 2);  // same files, other voxels
  const CaseCache changed = open_case_cache(temp / "cache", data, p, 0, false);
  EXPECT_NE(changed.key(), first.key());
}

TEST(CaseCache, SaysOfEveryFileWhatItHolds) {
  const test::TempFolder temp;
  const DataSet data = make_data(temp / "data", 3);
  const auto first = content_hashes(temp / "cache", data);
  ASSERT_EQ(first.size(), 3U);
  for (const auto& [id, hashes] : first) EXPECT_EQ(hashes.size(), 2U) << "an image and a label";
  EXPECT_EQ(open_case_cache(temp / "cache", data, example_preprocessing(), 0, false).contents(),
            first);
  EXPECT_EQ(content_hashes(temp / "cache", make_data(temp / "copy", 3)), first)
      << "nothing of it says where the files lie";
  const CaseFiles& last = data.training.back();
  fs::copy_file(data.training.front().label, last.label, fs::copy_options::overwrite_existing);
  const auto second = content_hashes(temp / "cache", data);
  EXPECT_EQ(second.at(last.id)[0], first.at(last.id)[0]);
  EXPECT_NE(second.at(last.id)[1], first.at(last.id)[1]);
}

TEST(CaseCache, AStopIsNoFaultOfTheDisk) {
  const test::TempFolder temp;
  const DataSet data = make_data(temp / "data", 2);
  request_stop();
  ErrorKind kind = ErrorKind::Internal;
  const std::string message = error_of(
      [&] { open_case_cache(temp / "cache", data, example_preprocessing(), 1, false); }, &kind);
  request_stop(false);
  EXPECT_NE(message.find("stopped"), std::string::npos);
  EXPECT_EQ(kind, ErrorKind::Stopped);
}

TEST(TimeModel, CountsWindowsAndNeverPromisesALargerBatchForLess) {
  const test::TempFolder temp;
  const DataSet data = make_data(temp / "data", 2, {20, 24, 22});
  Preprocessing p = example_preprocessing();
  p.spacing = {1.2, 0.9, 1};  // as the files
  const CaseCache cache = open_case_cache(temp / "cache", data, p, 1, false);
  const std::vector<std::string> ids{data.training[0].id, data.training[1].id};
  const ScoringWork work = scoring_work(cache, ids, {16, 16, 16});
  double windows = 0, voxels = 0;
  for (const std::string& id : ids) {
    const Extent3& shape = cache.find(id).shape;
    double count = 1;
    Extent3 padded{};
    for (std::size_t a = 0; a < 3; ++a) {
      padded[a] = std::max<std::int64_t>(shape[a], 16);
      count *= std::ceil(static_cast<double>(padded[a] - 16) / 8) + 1;  // half a patch apart
    }
    windows += count;
    voxels += static_cast<double>(volume(padded));
  }
  EXPECT_EQ(work.windows, windows);
  EXPECT_EQ(work.voxels, voxels);
  EXPECT_EQ(work.cases, 2);
  EXPECT_DOUBLE_EQ(inner_scoring_seconds(work, 0.1), 1.15 * (0.5 + 0.1 * windows));
  EXPECT_DOUBLE_EQ(final_scoring_seconds(work, work, 0.1, 3), 1.1 * (0.5 + 0.2 * windows + 2 * 3));
  EXPECT_GT(unmeasured_scoring_seconds(work, 0.1), 0.1 * windows);

  const std::map<std::int64_t, double> measured{{2, 1.0}, {8, 3.0}};
  EXPECT_DOUBLE_EQ(step_seconds_at_batch(measured, 1), 0.5);
  EXPECT_DOUBLE_EQ(step_seconds_at_batch(measured, 2), 1);
  EXPECT_DOUBLE_EQ(step_seconds_at_batch(measured, 4), 2) << "not faster than was measured";
  EXPECT_DOUBLE_EQ(step_seconds_at_batch(measured, 16), 6);
  const Json record = measured;
  EXPECT_EQ(seconds_by_batch(JsonReader(record, "record")), measured);
  EXPECT_THROW(seconds_by_batch(JsonReader(Json::parse("[[0, 1.0]]"), "record")), Error);
}

TEST(CaseCache, DamagedFilesAreFoundAndMadeAgain) {
  const test::TempFolder temp;
  const DataSet data = make_data(temp / "data", 2);
  const Preprocessing p = example_preprocessing();
  const CaseCache reference = open_case_cache(temp / "reference", data, p, 0, false);
  const fs::path file =
      open_case_cache(temp / "cache", data, p, 0, false).folder() / "ball_101.case";
  const std::string good = read_file(file, 1 << 30);
  std::vector<std::string> warnings;
  set_log_sink([&](LogLevel, const std::string& text) { warnings.push_back(text); });
  Rng rng(3);
  for (int trial = 0; trial < 24; ++trial) {
    std::string bad = good;
    if (trial % 3 == 0) {
      bad.resize(static_cast<std::size_t>(rng.integer(0, static_cast<std::int64_t>(good.size()))));
    } else {
      // Half of the flips hit the header, where they could make offsets lie.
      const auto end = trial % 3 == 1 ? 152 : static_cast<std::int64_t>(good.size());
      bad[static_cast<std::size_t>(rng.integer(0, end))] ^=
          static_cast<char>(1 << rng.integer(0, 8));
    }
    std::ofstream(file, std::ios::binary) << bad;
    expect_same(reference, open_case_cache(temp / "cache", data, p, 0, false));
  }
  std::ofstream(temp / "cache" / "content_index.json") << "{\"files\": [tr";
  expect_same(reference, open_case_cache(temp / "cache", data, p, 0, false));
  set_log_sink(nullptr);
  // Each damage is told with its file; a flip may hit the padding between the parts, which means
  // nothing.
  ASSERT_GE(warnings.size(), 20U);
  for (std::size_t i = 0; i + 1 < warnings.size(); ++i) {
    EXPECT_NE(warnings[i].find(file.string()), std::string::npos);
  }
}

TEST(CaseCache, SurvivesKillsAtAnyPoint) {
  const test::TempFolder temp;
  const DataSet data = make_data(temp / "data", 10, {30, 32, 30});
  const Preprocessing p = example_preprocessing();
  const CaseCache reference = open_case_cache(temp / "reference", data, p, 2, false);
  Rng rng(11);
  int killed = 0;
  for (int trial = 0; trial < 12; ++trial) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      try {
        open_case_cache(temp / "cache", data, p, 2, false);
        ::_exit(0);
      } catch (...) {
        ::_exit(1);
      }
    }
    ::usleep(static_cast<useconds_t>(rng.integer(1000, 40000)));
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status)) {
      ++killed;
    } else {
      ASSERT_EQ(WEXITSTATUS(status), 0);
      fs::remove_all(temp / "cache");  // it finished: start anew
    }
  }
  EXPECT_GT(killed, 0);
  const CaseCache cache = open_case_cache(temp / "cache", data, p, 2, false);
  expect_same(reference, cache);
  EXPECT_TRUE(files_in(cache.folder(), ".tmp-").empty());
  EXPECT_EQ(files_in(cache.folder(), ".case").size(), 10U);
}

TEST(CaseCache, ACompleteOneMayLieOnAReadOnlyDisk) {
  const test::TempFolder temp;
  const DataSet data = make_data(temp / "data", 2);
  const Preprocessing p = example_preprocessing();
  const fs::path root = temp / "cache";
  const std::string key = open_case_cache(root, data, p, 1, false).key();
  Preprocessing finer = p;
  finer.spacing = {1, 1, 1};
  for (const fs::path& folder : {root, root / key}) {
    fs::permissions(folder, fs::perms(0555));
  }
  fs::permissions(temp.path(), fs::perms(0755));
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {  // root may write anywhere
    if (::geteuid() == 0 && ::setuid(65534) != 0) ::_exit(3);
    try {
      if (open_case_cache(root, data, p, 1, false).cases().size() != 2) ::_exit(4);
      const std::string said =
          test::error_of([&] { open_case_cache(root, data, finer, 1, false); });
      if (said.find("2 of 2 cases are not in it") == std::string::npos ||
          said.find("VOXNAS_DATA_CACHE") == std::string::npos) {
        ::_exit(5);
      }
      const std::string none =
          test::error_of([&] { open_case_cache(root / "new", data, p, 1, false); });
      ::_exit(none.find("VOXNAS_DATA_CACHE") == std::string::npos ? 6 : 0);
    } catch (...) {
      ::_exit(1);
    }
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 0);
  for (const fs::path& folder : {root / key, root}) fs::permissions(folder, fs::perms(0755));
}

TEST(CaseCache, SeveralProcessesMayOpenItAtOnce) {
  const test::TempFolder temp;
  const DataSet data = make_data(temp / "data", 6);
  const Preprocessing p = example_preprocessing();
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      try {
        ::_exit(open_case_cache(temp / "cache", data, p, 2, false).cases().size() == 6 ? 0 : 2);
      } catch (...) {
        ::_exit(1);
      }
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  }
  expect_same(open_case_cache(temp / "reference", data, p, 2, false),
              open_case_cache(temp / "cache", data, p, 2, false));
}

TEST(CaseCache, ADamagedImageIsNamed) {
  const test::TempFolder temp;
  const DataSet data = make_data(temp / "data", 3);
  std::ofstream(data.training[1].images[0], std::ios::binary) << "not an image";
  const std::string message =
      error_of([&] { open_case_cache(temp / "cache", data, example_preprocessing(), 2, false); });
  EXPECT_NE(message.find("ball_101.nii.gz"), std::string::npos) << message;
}

struct StreamCase {
  std::int64_t classes;
  Extent3 from, to;
  int separate;
  std::int64_t pieces;  // slices a slab
};
class ArgMax : public testing::TestWithParam<StreamCase> {};

/// Random scores [K, from] that are handed out in slabs, and their value anywhere on the target
/// grid, trilinear as the definition says.
struct RandomScores {
  std::int64_t classes;
  Extent3 from, to;
  int separate;
  std::vector<float> values;

  RandomScores(const StreamCase& c, std::uint64_t seed)
      : classes(c.classes), from(c.from), to(c.to), separate(c.separate) {
    Rng rng(seed);
    values.resize(static_cast<std::size_t>(classes * volume(from)));
    for (float& score : values) score = static_cast<float>(rng.normal());
  }
  ScoreSource source(std::int64_t pieces) const {
    return {
        from, separate, [this, pieces, z = std::int64_t{0}, slab = std::vector<float>()]() mutable {
          const std::int64_t n = std::min(pieces, from[0] - z);
          slab.clear();
          for (std::int64_t k = 0; k < classes; ++k) {
            const auto begin = values.begin() + (k * from[0] + z) * from[1] * from[2];
            slab.insert(slab.end(), begin, begin + n * from[1] * from[2]);
          }
          z += n;
          return ScoreSlab{slab.data(), n};
        }};
  }
  double at(std::int64_t k, const Extent3& voxel) const {
    double sum = 0;
    for (int corner = 0; corner < 8; ++corner) {
      double share = 1;
      std::int64_t index = k;
      for (std::size_t axis = 0; axis < 3; ++axis) {
        const double x =
            std::clamp((static_cast<double>(voxel[axis]) + 0.5) * static_cast<double>(from[axis]) /
                               static_cast<double>(to[axis]) -
                           0.5,
                       0.0,
                       static_cast<double>(from[axis] - 1));
        const double place = static_cast<int>(axis) == separate ? std::floor(x + 0.5) : x;
        const double low = std::floor(place);
        const bool high = (corner >> axis & 1) != 0;
        share *= high ? place - low : 1 - (place - low);
        index = index * from[axis] +
                std::min(static_cast<std::int64_t>(low) + (high ? 1 : 0), from[axis] - 1);
      }
      sum += share * static_cast<double>(values[static_cast<std::size_t>(index)]);
    }
    return sum;
  }
};

/// Compares with the naive way: every class at full resolution, then the best.
template <class Value>
void expect_best(const std::vector<std::int16_t>& labels,
                 std::int64_t classes,
                 const Extent3& to,
                 const Value& value_of) {
  ASSERT_EQ(static_cast<std::int64_t>(labels.size()), volume(to));
  std::int64_t different = 0;
  std::size_t voxel = 0;
  for (std::int64_t d = 0; d < to[0]; ++d) {
    for (std::int64_t h = 0; h < to[1]; ++h) {
      for (std::int64_t w = 0; w < to[2]; ++w, ++voxel) {
        const std::vector<double> value = value_of(Extent3{d, h, w});
        ASSERT_EQ(static_cast<std::int64_t>(value.size()), classes);
        const auto best = std::max_element(value.begin(), value.end()) - value.begin();
        if (labels[voxel] == best) continue;
        ++different;  // float against double: only near ties may differ
        EXPECT_LT(
            value[static_cast<std::size_t>(best)] - value[static_cast<std::size_t>(labels[voxel])],
            1e-5);
      }
    }
  }
  EXPECT_LE(different, volume(to) / 1000);
}

TEST_P(ArgMax, StreamEqualsFullResolution) {
  const StreamCase& c = GetParam();
  const RandomScores scores(c, 7);
  expect_best(argmax_stream(c.classes, {scores.source(c.pieces)}, c.to, 2),
              c.classes,
              c.to,
              [&](const Extent3& voxel) {
                std::vector<double> values;
                for (std::int64_t k = 0; k < c.classes; ++k) values.push_back(scores.at(k, voxel));
                return values;
              });
}

TEST_P(ArgMax, RegionsAreWrittenInTheirOrder) {
  const StreamCase& c = GetParam();
  LabelScheme labels{.names = {"background"}};
  for (std::int64_t k = 0; k < c.classes; ++k) {
    labels.names.push_back("region" + std::to_string(k));
    std::vector<std::int16_t> own;
    for (std::int64_t v = k; v < c.classes; ++v) own.push_back(static_cast<std::int16_t>(v + 1));
    labels.regions.push_back(own);
    labels.region_labels.push_back(static_cast<std::int16_t>(c.classes - k));  // not the order
  }
  StreamCase finer = c;
  for (std::int64_t& edge : finer.from) edge += 2;
  const RandomScores one(c, 7), two(finer, 8);
  for (const bool several : {false, true}) {
    std::vector<ScoreSource> sources{one.source(c.pieces)};
    if (several) sources.push_back(two.source(c.pieces + 1));
    const auto found = label_stream(labels, sources, c.to, 2);
    std::size_t voxel = 0;
    std::int64_t different = 0;
    for (std::int64_t d = 0; d < c.to[0]; ++d) {
      for (std::int64_t h = 0; h < c.to[1]; ++h) {
        for (std::int64_t w = 0; w < c.to[2]; ++w, ++voxel) {
          std::int16_t expected = 0;
          for (std::int64_t k = 0; k < c.classes; ++k) {
            double p = 1 / (1 + std::exp(-one.at(k, {d, h, w})));
            if (several) p = (p + 1 / (1 + std::exp(-two.at(k, {d, h, w})))) / 2;
            if (p > 0.5) expected = labels.region_labels[static_cast<std::size_t>(k)];
          }
          different += found[voxel] != expected;
        }
      }
    }
    EXPECT_LE(different, volume(c.to) / 1000) << "float against double: only near ties";
  }
}

TEST_P(ArgMax, SeveralNetworksVoteByMeanProbability) {
  const StreamCase& c = GetParam();
  // Networks with grids and slabs of their own.
  StreamCase finer = c;
  for (std::int64_t& edge : finer.from) edge += 2;
  const RandomScores one(c, 7), two(finer, 8), three(c, 9);
  const auto labels = argmax_stream(
      c.classes, {one.source(c.pieces), two.source(c.pieces + 1), three.source(1)}, c.to, 2);
  expect_best(labels, c.classes, c.to, [&](const Extent3& voxel) {
    std::vector<double> mean(static_cast<std::size_t>(c.classes), 0.0);
    for (const RandomScores* scores : {&one, &two, &three}) {
      double total = 0;
      for (std::int64_t k = 0; k < c.classes; ++k) total += std::exp(scores->at(k, voxel));
      for (std::int64_t k = 0; k < c.classes; ++k) {
        mean[static_cast<std::size_t>(k)] += std::exp(scores->at(k, voxel)) / total / 3;
      }
    }
    return mean;
  });
}

INSTANTIATE_TEST_SUITE_P(Grids,
                         ArgMax,
                         testing::Values(StreamCase{3, {6, 7, 8}, {6, 7, 8}, -1, 1},
                                         StreamCase{4, {5, 6, 7}, {13, 9, 15}, -1, 2},
                                         StreamCase{2, {17, 12, 9}, {4, 5, 9}, -1, 5},
                                         StreamCase{3, {5, 8, 8}, {14, 12, 6}, 0, 3},
                                         StreamCase{3, {6, 8, 4}, {6, 11, 9}, 2, 6},
                                         StreamCase{1, {1, 1, 1}, {3, 2, 2}, -1, 1},
                                         StreamCase{5, {9, 70, 70}, {11, 90, 80}, -1, 4}));

TEST(ArgMaxStream, RefusesWhatIsNotAsManySlicesAsSaid) {
  const std::vector<float> scores(2 * 16, 0.0F);
  const auto source = [&](const Extent3& from, std::int64_t slices) {
    return ScoreSource{from, -1, [&scores, slices] { return ScoreSlab{scores.data(), slices}; }};
  };
  EXPECT_THROW(argmax_stream(2, {source({3, 2, 2}, 2)}, {3, 2, 2}), Error);  // 2 + 2 slices
  EXPECT_THROW(argmax_stream(2, {source({3, 2, 2}, 0)}, {3, 2, 2}), Error);  // none
  EXPECT_THROW(argmax_stream(2, {source({0, 2, 2}, 1)}, {3, 2, 2}), Error);
  EXPECT_THROW(argmax_stream(2, {}, {3, 2, 2}), Error);
  EXPECT_EQ(argmax_stream(2, {source({3, 2, 2}, 1)}, {3, 2, 2}), std::vector<std::int16_t>(12, 0));
}

}  // namespace
}  // namespace nas
