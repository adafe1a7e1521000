// SPDX-License-Identifier: Apache-2.0
// nnU-Net predicts with our models, and we with its.
#include "training/exchange/nnunet.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include <gmock/gmock.h>

#include "nas/core/error.h"
#include "nas/network/safetensors.h"
#include "tests/interop/interop.h"
#include "training/fit/losses.h"

namespace nas {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr double kMostDisagreement = 1e-3;

/// Three tiny networks are trained and exported; nnU-Net runs as few times as it can: importing it
/// takes most of the time.
class Nnunet : public testing::Test {
 protected:
  struct Shared {
    test::TempFolder temp;
    std::optional<Model> plain, residual, regions;
    std::vector<std::string> ids;
    fs::path source;
    bool ran = false;
  };
  static std::unique_ptr<Shared> shared_;
  static std::string why_not_;

  static void SetUpTestSuite() {
    const fs::path python = test::test_python();
    const fs::path source = test::oracle("data/Task04_Hippocampus");
    if (python.empty() || !test::python_has(python, "nnunetv2")) {
      why_not_ = "needs nnU-Net in the Python environment of scripts/setup.sh";
      return;
    }
    if (source.empty()) {
      why_not_ = test::no_oracle("data/Task04_Hippocampus");
      return;
    }
    shared_ = std::make_unique<Shared>();
    Shared& s = *shared_;
    s.source = source;
    ::setenv("VOXNAS_DATA_CACHE", (s.temp / "cache").c_str(), 1);
    test::few_hippocampi(source, s.temp / "data", 8);
    const Json cases = read_json(s.temp / "data/dataset.json").at("training");
    fs::create_directory(s.temp / "images");
    for (const std::size_t i : {0U, 5U}) {
      const fs::path image = source / cases.at(i).at("image").get<std::string>();
      s.ids.push_back(nifti_stem(image));
      // nnU-Net reads spacing and size from the file: one case gets another spacing, so that
      // resampling both ways takes part.
      Image content = read_nifti_image(image);
      if (i == 5) {
        content.geometry.spacing_mm = {1.3, 0.9, 1.1};
        content.geometry.affine = {1.1, 0, 0, 0, 0, 0.9, 0, 0, 0, 0, 1.3, 0};
      }
      write_nifti(s.temp / ("images/" + s.ids.back() + "_0000.nii.gz"), content);
    }
    s.plain = test::train_tiny(s.temp / "data", s.temp / "plain", false, 120);
    s.residual = test::train_tiny(s.temp / "data", s.temp / "residual", true, 200);
    // The whole hippocampus and its posterior part as overlapping regions, and a label to ignore.
    test::few_hippocampi(source, s.temp / "region_data", 8);
    Json dataset = read_json(s.temp / "region_data/dataset.json");
    dataset["labels"] = {{"a_whole", {1, 2}}, {"b_posterior", 2}, {"background", 0}, {"ignore", 3}};
    dataset["regions_class_order"] = {1, 2};
    write_json(s.temp / "region_data/dataset.json", dataset);
    s.regions = test::train_tiny(s.temp / "region_data", s.temp / "regions", false, 120);
    Json jobs = Json::array();
    const auto job = [&](const std::string& folder, const std::string& name, bool mirror) -> Json& {
      jobs.push_back({{"folder", (s.temp / folder).string()},
                      {"images", (s.temp / "images").string()},
                      {"out", (s.temp / (name + "_out")).string()},
                      {"mirror", mirror}});
      return jobs.back();
    };
    for (const auto& [name, model] : {std::pair{"plain_export", &*s.plain},
                                      std::pair{"residual_export", &*s.residual},
                                      std::pair{"region_export", &*s.regions}}) {
      fs::create_directory(s.temp / name);
      write_nnunet_model(*model, s.temp / name);
    }
    job("residual_export", "residual_export", true);
    job("region_export", "region_export", false);
    job("plain_export", "retrained", false)["retrain"] = (s.temp / "retrained").string();
    write_json(s.temp / "jobs.json", jobs);
    s.ran = test::run_logged(python.string() + " " + NAS_INTEROP_DIR + "/nnunet_jobs.py " +
                                 (s.temp / "jobs.json").string(),
                             s.temp / "nnunet.log");
    // The plain one by the command itself, from the place where nnU-Net keeps its results.
    const fs::path place =
        s.temp / "results/Dataset999_VoxNAS/nnUNetTrainer__VoxNASPlans__3d_fullres";
    fs::create_directories(place.parent_path());
    fs::create_directory_symlink(s.temp / "plain_export", place);
    s.ran =
        s.ran && test::run_logged("env nnUNet_results='" + (s.temp / "results").string() +
                                      "' nnUNet_compile=f OMP_NUM_THREADS=2 " + python.string() +
                                      " " + (python.parent_path() / "nnUNetv2_predict").string() +
                                      " -i " + (s.temp / "images").string() + " -o " +
                                      (s.temp / "plain_export_out").string() +
                                      " -d Dataset999_VoxNAS -p VoxNASPlans -c 3d_fullres -f 0 "
                                      "-device cpu --disable_tta -npp 1 -nps 1",
                                  s.temp / "nnunet.log");
  }
  static void TearDownTestSuite() { shared_.reset(); }
  void SetUp() override {
    if (!why_not_.empty()) GTEST_SKIP() << why_not_;
    ASSERT_TRUE(shared_->ran);
  }

  static LabelMap theirs(const std::string& name, const std::string& id) {
    return read_nifti_label(shared_->temp / (name + "_out/" + id + ".nii.gz"));
  }
  static LabelMap ours(Model model, const std::string& id, bool mirror) {
    return predict_image(model,
                         read_nifti_image(shared_->temp / ("images/" + id + "_0000.nii.gz")),
                         {.mirror = mirror, .device = "cpu", .precision = "fp32"});
  }
  static void expect_agreement(Model model, const std::string& name, bool mirror) {
    for (const std::string& id : shared_->ids) {
      const LabelMap mine = ours(model, id, mirror), other = theirs(name, id);
      EXPECT_GT(test::foreground(mine), 500) << "the network sees nothing: no evidence";
      const double share = test::disagreement(mine, other);
      EXPECT_LE(share, kMostDisagreement) << name << " " << id;
      std::cout << name << " " << id << ": " << 100 * share << " % of the voxels differ\n";
    }
  }
};
std::unique_ptr<Nnunet::Shared> Nnunet::shared_;
std::string Nnunet::why_not_;

TEST_F(Nnunet, ItsCommandPredictsAsWeDoWithAPlainUnet) {
  expect_agreement(*shared_->plain, "plain_export", false);
}

TEST_F(Nnunet, PredictsAsWeDoWithAResidualUnetAndMirroring) {
  expect_agreement(*shared_->residual, "residual_export", true);
}

TEST_F(Nnunet, PredictsAsWeDoWithRegions) {
  const LabelScheme& labels = shared_->regions->preprocessing.labels;
  EXPECT_THAT(labels.names, testing::ElementsAre("background", "a_whole", "b_posterior"));
  EXPECT_TRUE(labels.has_ignore);
  expect_agreement(*shared_->regions, "region_export", false);
  // Both labels are predicted: the second region was written over the first.
  const LabelMap found = theirs("region_export", shared_->ids[0]);
  for (const std::int16_t label : {1, 2}) {
    EXPECT_GT(std::ranges::count(found.voxels, label), 50) << label;
  }
  const NnunetImport back = read_nnunet_folder(shared_->temp / "region_export");
  EXPECT_EQ(back.models.at(0).preprocessing, shared_->regions->preprocessing);
}

TEST_F(Nnunet, ItsCheckpointIsTakenOver) {
  const NnunetImport found = read_nnunet_folder(shared_->temp / "retrained");
  ASSERT_EQ(found.models.size(), 1U);
  EXPECT_EQ(found.configuration, "3d_fullres");
  EXPECT_EQ(found.trainer, "nnUNetTrainer");
  EXPECT_EQ(found.models.front().mirrored, true);
  EXPECT_EQ(found.models[0].preprocessing.spacing, shared_->plain->preprocessing.spacing);
  // The step of nnU-Net's optimiser has moved the weights.
  const auto before = shared_->plain->network->named_parameters();
  double moved = 0;
  for (const auto& item : found.models[0].network->named_parameters()) {
    moved = std::max(moved, (item.value() - before[item.key()]).abs().max().item<double>());
  }
  EXPECT_GT(moved, 1e-4);
  expect_agreement(found.models[0], "retrained", false);
}

TEST_F(Nnunet, OurExportComesBackAsItWas) {
  const NnunetImport found = read_nnunet_folder(shared_->temp / "residual_export");
  ASSERT_EQ(found.models.size(), 1U);
  EXPECT_EQ(found.models[0].preprocessing, shared_->residual->preprocessing);
  EXPECT_EQ(found.models[0].network->graph(), shared_->residual->network->graph());
  const auto before = shared_->residual->network->named_parameters();
  for (const auto& item : found.models[0].network->named_parameters()) {
    EXPECT_TRUE(torch::equal(item.value(), before[item.key()])) << item.key();
  }
}

TEST_F(Nnunet, WhatCannotBeTakenOverSaysWhy) {
  const fs::path good = shared_->temp / "plain_export", bad = shared_->temp / "bad";
  const auto message = [&](const std::function<void(Json & plans, Json & dataset)>& change) {
    fs::remove_all(bad);
    fs::copy(good, bad, fs::copy_options::recursive);
    Json plans = read_json(bad / "plans.json"), dataset = read_json(bad / "dataset.json");
    change(plans, dataset);
    write_json(bad / "plans.json", plans);
    write_json(bad / "dataset.json", dataset);
    try {
      read_nnunet_folder(bad);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const auto full = [](Json& plans) -> Json& { return plans["configurations"]["3d_fullres"]; };
  EXPECT_EQ(message([](Json&, Json&) {}), "");
  EXPECT_THAT(message([&](Json& p, Json&) { full(p).erase("architecture"); }),
              HasSubstr("architecture"));
  EXPECT_THAT(message([&](Json& p, Json&) { full(p)["previous_stage"] = "3d_lowres"; }),
              HasSubstr("cascade"));
  EXPECT_THAT(message([&](Json& p, Json&) { full(p)["resampling_fn_data"] = "resample_torch"; }),
              HasSubstr("resampling_fn_data"));
  EXPECT_THAT(message([&](Json& p, Json&) {
                full(p)["architecture"]["arch_kwargs"]["norm_op"] = "torch.nn.BatchNorm3d";
              }),
              HasSubstr("InstanceNorm3d"));
  EXPECT_THAT(message([&](Json& p, Json&) {
                full(p)["architecture"]["arch_kwargs"]["features_per_stage"] = {6, 12, 17};
              }),
              HasSubstr("expected shape"));
  EXPECT_THAT(message([&](Json&, Json& d) {
                d["labels"]["whole"] = {1, 2};
              }),
              HasSubstr("regions_class_order"));
  EXPECT_THAT(message([&](Json&, Json& d) { d["labels"].erase("Anterior"); }),
              HasSubstr("without a gap"));
  EXPECT_THAT(message([&](Json& p, Json&) { p["configurations"].erase("3d_fullres"); }),
              HasSubstr("no configuration '3d_fullres'"));
}

TEST(NnunetLosses, EqualOursWithTheirGradients) {
  const fs::path python = test::test_python();
  if (python.empty() || !test::python_has(python, "nnunetv2")) {
    GTEST_SKIP() << "needs nnU-Net in the Python environment of scripts/setup.sh";
  }
  const test::TempFolder temp;
  const fs::path file = temp / "losses.safetensors";
  ASSERT_TRUE(test::run_logged(
      python.string() + " " + NAS_INTEROP_DIR + "/nnunet_losses.py " + file.string(),
      temp / "log"));
  const SafetensorsFile theirs(file);
  const auto tensor = [&](const std::string& name) {
    const TensorView& view = theirs.at(name);
    if (name == "labels") {
      std::vector<std::int16_t> values(view.bytes.size() / 2);
      std::memcpy(values.data(), view.bytes.data(), view.bytes.size());
      return at::tensor(values, at::kShort).view(view.shape);
    }
    std::vector<float> values(view.bytes.size() / 4);
    std::memcpy(values.data(), view.bytes.data(), view.bytes.size());
    return at::tensor(values, at::kFloat).view(view.shape);
  };
  for (const bool regions : {false, true}) {
    for (const bool ignore : {false, true}) {
      for (const bool batch : {false, true}) {
        LabelScheme scheme{.names = {"background", "one", "two"}, .has_ignore = ignore};
        if (regions) {
          scheme.regions = {{1, 2}, {2}};
          scheme.region_labels = {1, 2};
        }
        const std::string name = std::string(regions ? "regions" : "classes") +
                                 (ignore ? ".ignore" : "") + (batch ? ".batch" : "");
        const at::Tensor labels = tensor("labels");
        const at::Tensor target = training_target(ignore ? labels : labels.clamp_max(2), scheme);
        at::Tensor logits = tensor(regions ? "logits.2" : "logits.3").requires_grad_(true);
        const at::Tensor loss = segmentation_loss({logits}, target, false, {.batch_dice = batch});
        EXPECT_NEAR(loss.item<double>(), tensor("loss." + name).item<double>(), 2e-6) << name;
        loss.backward();
        const at::Tensor difference = logits.grad() - tensor("gradient." + name);
        EXPECT_LT(difference.abs().max().item<double>(), 2e-8) << name;
      }
    }
  }
}

TEST(NnunetExport, OtherNetworksAreRefused) {
  const test::TempFolder temp;
  Graph graph;
  graph.name = "own";
  const int image = graph.add("input", "image", {}, {{"channels", std::int64_t{1}}});
  const int conv = graph.add(
      "conv", "head", {image}, {{"out_channels", std::int64_t{2}}, {"kernel", std::int64_t{1}}});
  graph.add("output", "seg0", {conv});
  Model model;
  model.network = GraphModule(graph);
  try {
    write_nnunet_model(model, temp.path());
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("network own: not a planned U-Net"));
  }
}

}  // namespace
}  // namespace nas
