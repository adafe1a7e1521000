// SPDX-License-Identifier: Apache-2.0
// The one check of a data set's files, folders without dataset.json, folders of images to predict.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/json.h"
#include "nas/core/log.h"
#include "nas/imaging/case_folder.h"
#include "nas/imaging/data_set_check.h"
#include "nas/imaging/describe_folder.h"
#include "nas/imaging/doctor.h"
#include "nas/imaging/fingerprint.h"
#include "nas/imaging/nifti.h"
#include "tests/support/support.h"

namespace nas {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::TempFolder;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

Image a_image(float first = 100, std::int64_t channels = 1, Extent3 shape = {6, 7, 8}) {
  Image image;
  image.geometry.shape = shape;
  image.channels = channels;
  for (std::int64_t i = 0; i < volume(shape) * channels; ++i) {
    image.voxels.push_back(first + static_cast<float>(i % 13));
  }
  return image;
}

LabelMap a_label(Extent3 shape = {6, 7, 8}) {
  LabelMap label;
  label.geometry.shape = shape;
  label.voxels.assign(static_cast<std::size_t>(volume(shape)), 0);
  for (std::size_t i = 0; i < label.voxels.size(); i += 3) label.voxels[i] = 1;
  return label;
}

/// nnU-Net raw with `cases` cases c0, c1, ... of `channels` channels, all different.
fs::path make_set(const fs::path& folder, int cases = 4, int channels = 1) {
  Json json{{"labels", {{"background", 0}, {"organ", 1}}}, {"file_ending", ".nii"}};
  for (int c = 0; c < channels; ++c) {
    json["channel_names"][std::to_string(c)] = "M" + std::to_string(c);
  }
  for (int i = 0; i < cases; ++i) {
    const std::string id = "c" + std::to_string(i);
    for (int c = 0; c < channels; ++c) {
      write_nifti(folder / "imagesTr" / (id + "_000" + std::to_string(c) + ".nii"),
                  a_image(static_cast<float>(100 * c + i)));
    }
    write_nifti(folder / "labelsTr" / (id + ".nii"), a_label());
  }
  write_json(folder / "dataset.json", json);
  return folder;
}

template <class Change>
void change(const fs::path& file, const Change& how) {
  Image image = read_nifti_image(file);
  how(image);
  write_nifti(file, image);
}

/// What doctor calls fatal, without "fatal CHECK " before it.
std::vector<std::string> fatal_sentences(const fs::path& folder) {
  std::vector<std::string> out;
  for (const Finding& f : examine(folder)) {
    if (f.severity == Severity::Fatal) out.push_back(sentence(f));
  }
  return out;
}

/// What a verb would say that checks headers and then reads every case, as plan and train do.
std::string stopped_by(const fs::path& folder) {
  return error_of([&] {
    const DataSet data = open_data_set(folder);
    check_before_training(data);
    compute_fingerprint(data, 1, false);
  });
}

struct Damage {
  const char* name;
  void (*act)(const fs::path& folder);
  const char* word;
};

class EveryDamage : public testing::TestWithParam<Damage> {};

// What doctor calls fatal stops a training in the same words, naming case and file.
TEST_P(EveryDamage, IsFatalForDoctorAndStopsInTheSameWords) {
  const TempFolder folder;
  make_set(folder.path(), 4, 2);
  ASSERT_EQ(stopped_by(folder.path()), "");
  ASSERT_THAT(fatal_sentences(folder.path()), IsEmpty());
  GetParam().act(folder.path());
  const std::vector<std::string> fatal = fatal_sentences(folder.path());
  ASSERT_THAT(fatal, SizeIs(1));
  EXPECT_EQ(stopped_by(folder.path()), fatal[0]);
  EXPECT_THAT(fatal[0],
              AllOf(HasSubstr("case c2, "),
                    HasSubstr(GetParam().word),
                    HasSubstr("expected "),
                    HasSubstr("found ")));
}

const fs::path kFirst = "imagesTr/c2_0000.nii", kSecond = "imagesTr/c2_0001.nii",
               kLabel = "labelsTr/c2.nii";

INSTANTIATE_TEST_SUITE_P(
    Checks,
    EveryDamage,
    testing::Values(
        Damage{"NoImage", [](const fs::path& d) { fs::remove(d / kSecond); }, "c2_0001.nii"},
        Damage{"NoLabel", [](const fs::path& d) { fs::remove(d / kLabel); }, "labelsTr/c2.nii"},
        Damage{"DanglingLink",
               [](const fs::path& d) {
                 fs::remove(d / kSecond);
                 fs::create_symlink("gone.nii", d / kSecond);
               },
               "a link that points to nothing (gone.nii)"},
        Damage{"NoNifti",
               [](const fs::path& d) { write_file_atomic(d / kFirst, std::string(400, 'x')); },
               "not a NIfTI file"},
        Damage{"CutShort",
               [](const fs::path& d) { fs::resize_file(d / kSecond, 600); },
               "c2_0001.nii"},
        Damage{"ChannelShape",
               [](const fs::path& d) {
                 write_nifti(d / kSecond, a_image(0, 1, {6, 7, 9}));
               },
               "6x7x9"},
        Damage{"ChannelSpacing",
               [](const fs::path& d) {
                 change(d / kSecond,
                        [](Image& i) { i.geometry.spacing_mm[0] = 2, i.geometry.affine[10] = 2; });
               },
               "2 x 1 x 1"},
        Damage{"ChannelOrigin",
               [](const fs::path& d) {
                 change(d / kSecond, [](Image& i) { i.geometry.affine[3] = 0.25; });
               },
               "0.25 voxels"},
        Damage{"ChannelDirection",
               [](const fs::path& d) {
                 change(d / kSecond, [](Image& i) {  // 10 degrees about z
                   const double c = std::cos(0.1745), s = std::sin(0.1745);
                   i.geometry.affine = {c, -s, 0, 0, s, c, 0, 0, 0, 0, 1, 0};
                 });
               },
               "(0.985 0.174 0)"},
        Damage{"FurtherChannel",
               [](const fs::path& d) { write_nifti(d / kSecond, a_image(0, 2)); },
               "expected 2 channels, found 3"},
        Damage{"LabelShape",
               [](const fs::path& d) {
                 write_nifti(d / kLabel, a_label({6, 7, 7}));
               },
               "6x7x7"},
        Damage{"LabelSpacing",
               [](const fs::path& d) {
                 change(d / kLabel, [](Image& i) {
                   i.geometry.spacing_mm = {3, 3, 3};
                   i.geometry.affine = {3, 0, 0, 0, 0, 3, 0, 0, 0, 0, 3, 0};
                 });
               },
               "labelsTr/c2.nii"},
        Damage{"Nan",
               [](const fs::path& d) {
                 change(d / kSecond, [](Image& i) { i.voxels[5] = std::nanf(""); });
               },
               "1 NaN or infinite voxels in channel 1"},
        Damage{"Flat",
               [](const fs::path& d) {
                 for (const fs::path& file : {kFirst, kSecond}) {
                   change(d / file, [](Image& i) { i.voxels.assign(i.voxels.size(), 7.0f); });
                 }
               },
               "one value everywhere"},
        Damage{"UnknownLabel",
               [](const fs::path& d) { change(d / kLabel, [](Image& i) { i.voxels[3] = 25; }); },
               "25 (1 voxels)"},
        Damage{"InterpolatedLabel",
               [](const fs::path& d) { change(d / kLabel, [](Image& i) { i.voxels[9] = 0.5f; }); },
               "round it"},
        Damage{"Metres",
               [](const fs::path& d) {
                 for (const fs::path& file : {kFirst, kSecond, kLabel}) {
                   change(d / file, [](Image& i) {
                     i.geometry.spacing_mm = {1e3, 1e3, 1e3};
                     i.geometry.affine = {1e3, 0, 0, 0, 0, 1e3, 0, 0, 0, 0, 1e3, 0};
                   });
                 }
               },
               "voxels would become"}),
    [](const auto& info) { return info.param.name; });

TEST(Checks, ASetOfSingleSlicesHasNo3dPlan) {
  const TempFolder folder;
  make_set(folder.path());
  const auto flatten = [&](int cases) {
    for (int i = 0; i < cases; ++i) {
      const std::string id = "c" + std::to_string(i);
      write_nifti(folder / "imagesTr" / (id + "_0000.nii"),
                  a_image(static_cast<float>(i), 1, {6, 1, 8}));
      write_nifti(folder / "labelsTr" / (id + ".nii"), a_label({6, 1, 8}));
    }
  };
  flatten(1);  // one among volumes is used
  EXPECT_EQ(stopped_by(folder.path()), "");
  EXPECT_FALSE(any_fatal(examine(folder.path())));
  flatten(4);
  EXPECT_THAT(fatal_sentences(folder.path()), ElementsAre(stopped_by(folder.path())));
  EXPECT_THAT(stopped_by(folder.path()),
              AllOf(HasSubstr("2D data set"), HasSubstr("one voxel along H")));
}

TEST(Checks, HeadersThatDisagreeCanBeAccepted) {
  const TempFolder folder;
  make_set(folder.path(), 5, 2);
  change(folder / kSecond, [](Image& i) { i.geometry.affine[7] = 3; });
  change(folder / kLabel,
         [](Image& i) { i.geometry.spacing_mm[2] = 1.5, i.geometry.affine[0] = 1.5; });
  EXPECT_THAT(stopped_by(folder.path()),
              AllOf(HasSubstr("2 findings stop this"),
                    HasSubstr("c2_0001.nii"),
                    HasSubstr("labelsTr/c2.nii"),
                    HasSubstr("--accept-misaligned")));
  DataSet data = open_data_set(folder.path());
  data.accept_misaligned = true;
  std::vector<std::string> told;
  set_log_sink([&](LogLevel level, const std::string& text) {
    if (level == LogLevel::Warning) told.push_back(text);
  });
  check_before_training(data);
  set_log_sink(nullptr);
  EXPECT_THAT(told, SizeIs(2));
  EXPECT_EQ(read_case_image(data, data.find("c2")).channels, 2);
  EXPECT_EQ(read_case_label(data, data.find("c2")).voxels, a_label().voxels);
  const auto findings = examine(folder.path(), {.accept_misaligned = true});
  EXPECT_FALSE(any_fatal(findings));
  EXPECT_THAT(findings, SizeIs(2));
  // Shapes that differ cannot.
  write_nifti(folder / kLabel, a_label({6, 7, 7}));
  EXPECT_THAT(error_of([&] { check_before_training(data); }), HasSubstr("6x7x7"));
}

TEST(Checks, RoundingOfHeadersIsNoMismatch) {
  const TempFolder folder;
  make_set(folder.path(), 3, 2);
  change(folder / kSecond, [](Image& i) { i.geometry.affine[7] = 0.01; });
  EXPECT_THAT(examine(folder.path()), SizeIs(1));  // fewer than five cases
  EXPECT_EQ(stopped_by(folder.path()), "");
}

TEST(Checks, FilesThatDatasetJsonLeavesOutAreNamed) {
  const TempFolder folder;
  make_set(folder.path(), 5, 2);
  write_nifti(folder / "imagesTr/c3_0002.nii", a_image());
  auto findings = examine(folder.path());
  ASSERT_THAT(findings, SizeIs(1));
  EXPECT_EQ(findings[0].check, "unnamed-channel");
  EXPECT_EQ(findings[0].severity, Severity::Warning);
  EXPECT_EQ(findings[0].case_id, "c3");
  EXPECT_EQ(findings[0].file.filename(), "c3_0002.nii");
  EXPECT_THAT(findings[0].found, HasSubstr("channel 2"));
  fs::remove(folder / "imagesTr/c3_0002.nii");

  fs::rename(folder / "imagesTr/c3_0001.nii", folder / "imagesTr/c3_0001.NII");
  findings = examine(folder.path());
  ASSERT_THAT(findings, SizeIs(1)) << "read, and said";
  EXPECT_EQ(findings[0].check, "file-ending");
  EXPECT_EQ(findings[0].severity, Severity::Note);
  EXPECT_EQ(findings[0].file.filename(), "c3_0001.NII");

  // In the other form a file "p_0001" may be a case, and a channel of p where p is a case.
  const TempFolder other;
  Json json{{"labels", {"background", "organ"}}, {"modality", {{"0", "MRI"}}}};
  for (const char* id : {"p_0000", "p_0001", "q", "r", "s"}) {
    const std::string name = std::string(id) + ".nii";
    write_nifti(other / "imagesTr" / name,
                a_image(static_cast<float>(id[0] + id[std::strlen(id) - 1])));
    write_nifti(other / "labelsTr" / name, a_label());
    json["training"].push_back({{"image", "imagesTr/" + name}, {"label", "labelsTr/" + name}});
  }
  write_json(other / "dataset.json", json);
  EXPECT_THAT(examine(other.path()), IsEmpty());
  write_nifti(other / "imagesTr/p_0002.nii", a_image());
  write_nifti(other / "imagesTr/q_0001.nii", a_image());
  findings = examine(other.path());
  ASSERT_THAT(findings, SizeIs(2));
  EXPECT_EQ(findings[0].check, "unnamed-channel");
  EXPECT_EQ(findings[0].case_id, "q");
  EXPECT_EQ(findings[1].check, "unlisted-file");
  EXPECT_EQ(findings[1].file.filename(), "p_0002.nii");
}

TEST(Checks, LabelsWhereTheImageIsCroppedAwayAreCounted) {
  const TempFolder folder;
  make_set(folder.path(), 5);
  Image image = a_image();
  for (std::size_t i = 0; i < image.voxels.size(); ++i) {
    if (i / 56 >= 4) image.voxels[i] = 0;  // the last two slices
  }
  image.voxels[60] = 0;  // a hole inside the box keeps its label
  LabelMap label = a_label();
  std::int64_t lost = 0, all = 0;
  for (std::size_t i = 0; i < label.voxels.size(); ++i) {
    all += label.voxels[i] > 0;
    lost += label.voxels[i] > 0 && i / 56 >= 4;
  }
  ASSERT_EQ(label.voxels[60], 1);
  write_nifti(folder / "imagesTr/c2_0000.nii", image);
  write_nifti(folder / kLabel, label);
  const auto findings = examine(folder.path());
  ASSERT_THAT(findings, SizeIs(1));
  EXPECT_EQ(findings[0].check, "label-outside");
  EXPECT_EQ(findings[0].case_id, "c2");
  EXPECT_THAT(findings[0].found,
              HasSubstr(std::to_string(lost) + " of " + std::to_string(all) + " labelled voxels"));
  EXPECT_EQ(stopped_by(folder.path()), "");
}

TEST(CaseNames, APredictionMayHaveTheNameOfTheImageOrOfTheLabel) {
  EXPECT_THAT(prediction_names({"label0001", {"/d/img0001.nii"}, "/d/label0001.nii"}),
              ElementsAre("label0001", "img0001"));
  EXPECT_THAT(prediction_names({"p1", {"/d/p1/t1.nii", "/d/p1/t2.nii"}, "/d/p1/seg.nii"}),
              ElementsAre("p1", "seg", "t1"));
  EXPECT_THAT(prediction_names({"c", {"/d/c_0000.nii.gz", "/d/c_0001.nii.gz"}, ""}),
              ElementsAre("c", "c_0000"));
}

// ---- folders without dataset.json --------------------------------------------------------------

TEST(DescribeFolder, UsualLayoutsBecomeDataSets) {
  struct Layout {
    std::vector<std::string> images, labels;  // of three cases, channel after channel
    std::vector<std::string> ids;
    std::int64_t channels;
  };
  const std::vector<Layout> layouts{
      {{"images/p0.nii", "images/p1.nii", "images/p2.nii"},
       {"labels/p0.nii", "labels/p1.nii", "labels/p2.nii"},
       {"p0", "p1", "p2"},
       1},
      {{"imagesTr/p0_0000.nii", "imagesTr/p1_0000.nii", "imagesTr/p2_0000.nii"},
       {"labelsTr/p0.nii", "labelsTr/p1.nii", "labelsTr/p2.nii"},
       {"p0", "p1", "p2"},
       1},
      {{"img/img0001.nii", "img/img0002.nii", "img/img0003.nii"},
       {"label/label0001.nii", "label/label0002.nii", "label/label0003.nii"},
       {"label0001", "label0002", "label0003"},
       1},
      {{"volumes/volume-0.NII", "volumes/volume-1.NII", "volumes/volume-10.NII"},
       {"segmentations/segmentation-0.nii",
        "segmentations/segmentation-1.nii",
        "segmentations/segmentation-10.nii"},
       {"segmentation-0", "segmentation-1", "segmentation-10"},
       1},
      {{"Images/a_t1.nii",
        "Images/b_t1.nii",
        "Images/c_t1.nii",
        "Images/a_t2.nii",
        "Images/b_t2.nii",
        "Images/c_t2.nii"},
       {"Masks/a_seg.nii", "Masks/b_seg.nii", "Masks/c_seg.nii"},
       {"a_seg", "b_seg", "c_seg"},
       2},
      {{"p0/t1.nii", "p1/t1.nii", "p2/t1.nii", "p0/t2.nii", "p1/t2.nii", "p2/t2.nii"},
       {"p0/seg.nii", "p1/seg.nii", "p2/seg.nii"},
       {"p0", "p1", "p2"},
       2},
      {{"B_1/B_1_flair.nii", "B_2/B_2_flair.nii", "B_3/B_3_flair.nii"},
       {"B_1/B_1_seg.nii", "B_2/B_2_seg.nii", "B_3/B_3_seg.nii"},
       {"B_1_seg", "B_2_seg", "B_3_seg"},
       1}};
  for (const Layout& layout : layouts) {
    SCOPED_TRACE(layout.images[0]);
    const TempFolder folder;
    for (std::size_t i = 0; i < layout.images.size(); ++i) {
      write_nifti(folder / layout.images[i], a_image(static_cast<float>(i)));
    }
    for (const std::string& name : layout.labels) write_nifti(folder / name, a_label());
    EXPECT_THAT(error_of([&] { open_data_set(folder.path()); }), HasSubstr("doctor"));
    const FolderDescription found = write_dataset_json(folder.path());
    EXPECT_THAT(found.words, Contains(HasSubstr("3 cases")));
    const DataSet data = open_data_set(folder.path());
    std::vector<std::string> ids;
    for (const CaseFiles& one : data.training) ids.push_back(one.id);
    EXPECT_EQ(ids, layout.ids);
    EXPECT_EQ(static_cast<std::int64_t>(data.channel_names.size()), layout.channels);
    EXPECT_EQ(data.training[2].label, folder / layout.labels[2]);
    for (std::int64_t c = 0; c < layout.channels; ++c) {
      EXPECT_EQ(data.training[1].images[static_cast<std::size_t>(c)],
                folder / layout.images[static_cast<std::size_t>(1 + 3 * c)]);
    }
    EXPECT_THAT(data.labels.names, ElementsAre("background", "label_1"));
    EXPECT_EQ(stopped_by(folder.path()), "");
    // Never over an existing one.
    const std::string before = read_file(folder / "dataset.json", 1 << 20);
    EXPECT_THAT(error_of([&] { write_dataset_json(folder.path()); }), HasSubstr("there already"));
    EXPECT_EQ(read_file(folder / "dataset.json", 1 << 20), before);
  }
}

TEST(DescribeFolder, ReadsChannelsAndLabelsFromTheFiles) {
  const TempFolder folder;
  Image image = a_image(0, 2);
  image.voxels[3] = -1000;  // air
  LabelMap label = a_label();
  label.voxels[7] = 4;
  for (const char* id : {"a", "b"}) {
    write_nifti(folder / "images" / (std::string(id) + ".nii.gz"), image);
    write_nifti(folder / "labels" / (std::string(id) + ".nii.gz"), label);
  }
  write_nifti(folder / "imagesTs/t.nii.gz", image);
  const FolderDescription found = describe_folder(folder.path());
  EXPECT_FALSE(fs::exists(folder / "dataset.json"));
  EXPECT_EQ(found.dataset["modality"], (Json{{"0", "CT"}, {"1", "image_1"}}));
  EXPECT_EQ(found.dataset["labels"].size(), 5u);
  EXPECT_EQ(found.dataset["test"], (Json{"imagesTs/t.nii.gz"}));
  EXPECT_THAT(found.words, Contains(HasSubstr("no voxel has 2, 3")));
}

TEST(DescribeFolder, ADataListKeepsItsSplit) {
  const TempFolder folder;
  for (const char* id : {"a", "b", "c"}) {
    write_nifti(folder / id / "image.nii", a_image());
    write_nifti(folder / id / "label.nii", a_label());
  }
  write_json(folder / "list.json", Json::parse(R"({"training": [
      {"image": "a/image.nii", "label": "a/label.nii", "fold": 0},
      {"image": "b/image.nii", "label": "b/label.nii", "fold": 0},
      {"image": "c/image.nii", "label": "c/label.nii", "fold": 1}]})"));
  write_dataset_json(folder.path());
  const DataSet data = open_data_set(folder.path());
  EXPECT_EQ(data.splits_source, "dataset.json \"fold\"");
  EXPECT_THAT(data.splits[1].val, ElementsAre("c"));
}

TEST(DescribeFolder, SaysWhatIsInTheWay) {
  const TempFolder folder;
  EXPECT_THAT(error_of([&] { describe_folder(folder.path()); }),
              AllOf(HasSubstr("imagesTr and labelsTr"), HasSubstr("one folder per patient")));
  write_nifti(folder / "images/a.nii", a_image());
  write_nifti(folder / "images/lonely.nii", a_image());
  write_nifti(folder / "labels/a.nii", a_label());
  EXPECT_THAT(error_of([&] { describe_folder(folder.path()); }), HasSubstr("lonely.nii"));
  fs::remove(folder / "images/lonely.nii");
  write_nifti(folder / "labels/b.nii", a_label());
  EXPECT_THAT(error_of([&] { describe_folder(folder.path()); }), HasSubstr("b.nii"));
  write_nifti(folder / "images/b_t1.nii", a_image());
  EXPECT_THAT(error_of([&] { describe_folder(folder.path()); }),
              AllOf(HasSubstr("channels of case a"), HasSubstr("\"t1\"")));
}

// ---- folders of images -------------------------------------------------------------------------

std::vector<std::string> ids_of(const FolderCases& found) {
  std::vector<std::string> ids;
  for (const FolderCase& one : found.cases) ids.push_back(one.id);
  return ids;
}

TEST(CaseFolder, NothingIsLeftOutInSilence) {
  const TempFolder folder;
  write_nifti(folder / "good.nii.gz", a_image());
  write_nifti(folder / "BIG.NII.GZ", a_image());
  fs::create_symlink("gone.nii.gz", folder / "link.nii.gz");
  fs::create_symlink("good.nii.gz", folder / "other.nii.gz");
  write_file_atomic(folder / "notes.txt", "x");
  write_file_atomic(folder / ".hidden.nii", "x");
  const FolderCases found = cases_in_folder(folder.path(), 1);
  EXPECT_THAT(ids_of(found), ElementsAre("BIG", "good", "link", "other"));
  EXPECT_THAT(found.cases[2].problem,
              AllOf(HasSubstr("link.nii.gz"), HasSubstr("points to nothing")));
  for (const std::size_t i : {0, 1, 3}) EXPECT_EQ(found.cases[i].problem, "");
  EXPECT_THAT(found.notes, ElementsAre(HasSubstr("notes.txt")));
  write_nifti(folder / "good.nii", a_image());
  EXPECT_THAT(cases_in_folder(folder.path(), 1).cases[1].problem, HasSubstr("two files"));
}

TEST(CaseFolder, TheModelSaysWhatANumberMeans) {
  const TempFolder folder;
  const auto write = [&](const std::string& name, std::int64_t channels = 1) {
    write_nifti(folder / (name + ".nii"), a_image(0, channels));
  };
  write("p_0000"), write("q_0000");
  EXPECT_THAT(ids_of(cases_in_folder(folder.path(), 1)), ElementsAre("p", "q"));
  // Numbers above 0 cannot be channels of a one-channel model.
  write("p_0001"), write("p_0002");
  FolderCases found = cases_in_folder(folder.path(), 1);
  EXPECT_THAT(ids_of(found), ElementsAre("p_0000", "p_0001", "p_0002", "q_0000"));
  for (const FolderCase& one : found.cases) EXPECT_EQ(one.problem, "");
  EXPECT_THAT(found.notes, ElementsAre(HasSubstr("taken as 3 cases")));
  // Three channels: one case; q lacks two, unless its file holds them.
  found = cases_in_folder(folder.path(), 3);
  EXPECT_THAT(ids_of(found), ElementsAre("p", "q"));
  EXPECT_THAT(found.cases[0].images, SizeIs(3));
  EXPECT_THAT(found.notes, IsEmpty());
  found = cases_in_folder(folder.path(), 2);
  EXPECT_THAT(found.cases[0].problem, HasSubstr("p_0002.nii is one too many"));
  found = cases_in_folder(folder.path(), 4);
  EXPECT_THAT(found.cases[0].problem, HasSubstr("found no p_0003"));
  // Files that hold all channels each are cases.
  for (const char* name : {"p_0000", "p_0001", "p_0002", "q_0000"}) write(name, 2);
  found = cases_in_folder(folder.path(), 2);
  EXPECT_THAT(ids_of(found), ElementsAre("p_0000", "p_0001", "p_0002", "q"));
  EXPECT_THAT(found.notes, ElementsAre(HasSubstr("which each file holds")));
}

}  // namespace
}  // namespace nas
