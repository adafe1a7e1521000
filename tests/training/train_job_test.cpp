// SPDX-License-Identifier: Apache-2.0
// Training over folds: every case scored by the fold that held it out, gone on with after a stop.
#include "nas/jobs/folds_job.h"
#include "nas/jobs/leading/run_lock.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include <gmock/gmock.h>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/imaging/nifti.h"
#include "nas/imaging/orientation.h"
#include "search_spaces/planned_unet/unet.h"
#include "tests/support/small_training.h"
#include "tests/support/support.h"
#include "training/inference/predict.h"
#include "training/mirror_check.h"
#include "training/model/model_folder.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

TEST(TrainJob, AMixedDataSetTrainsTheModelOfTheStraightOne) {
  const test::TempFolder temp;
  ::setenv("VOXNAS_DATA_CACHE", (temp / "cache").c_str(), 1);
  test::write_small_phantom(temp.path(), 4, {16, 18, 16});
  fs::copy(temp / "data", temp / "mixed", fs::copy_options::recursive);
  const DataSet mixed = open_data_set(temp / "mixed");
  const std::vector<std::string> codes{"LPS", "RAS", "SAL"};
  for (std::size_t i = 0; i < mixed.training.size(); ++i) {
    const CaseFiles& files = mixed.training[i];
    const Image image = read_nifti_image(files.images.front());
    const LabelMap label = read_nifti_label(files.label);
    write_nifti(files.images.front(), turned(image, turn_to(image.geometry, codes[i % 3])));
    write_nifti(files.label, turned(label, turn_to(label.geometry, codes[(i + 1) % 3])));
  }
  const fs::path network = temp / "network.json";
  write_graph(network.string(), make_unet(test::small_architecture()));
  std::vector<TrainOutcome> outcomes;
  for (const char* name : {"data", "mixed"}) {
    TrainJob job;
    job.data = temp / name;
    job.run_folder = temp / concat_text("run_", name);
    job.steps = 2;
    job.network = network.string();
    job.how.orientation = "als";
    job.options = R"({"batch": 1, "patch": [16, 16, 16], "augmentation": 0})";
    job.base.device = "cpu";
    job.base.precision = "fp32";
    job.base.threads = 1;
    outcomes.push_back(train_network(job));
    EXPECT_EQ(load_model(job.run_folder / "model").preprocessing.orientation, "ALS");
  }
  const auto file = [&](const char* run, const char* name) {
    return read_file(temp / run / "model" / name, 64 << 20);
  };
  EXPECT_EQ(file("run_data", "weights.safetensors"), file("run_mixed", "weights.safetensors"));
  EXPECT_EQ(file("run_data", "preprocessing.json"), file("run_mixed", "preprocessing.json"));
  ASSERT_EQ(outcomes[0].held_out.size(), outcomes[1].held_out.size());
  ASSERT_FALSE(outcomes[0].held_out.empty());
  for (std::size_t i = 0; i < outcomes[0].held_out.size(); ++i) {
    for (std::size_t k = 0; k < 2; ++k) {
      const ClassMetrics &a = outcomes[0].held_out[i].classes[k],
                         &b = outcomes[1].held_out[i].classes[k];
      EXPECT_EQ(a.predicted_voxels, b.predicted_voxels);
      EXPECT_EQ(a.common_voxels, b.common_voxels);
    }
    // Each prediction lies on its image's own grid.
    const std::string id = outcomes[1].held_out[i].id;
    EXPECT_EQ(read_nifti_header(temp / "run_mixed" / "predictions" / (id + ".nii.gz")).geometry,
              read_nifti_header(mixed.find(id).images.front()).geometry);
  }
}

TEST(TrainJob, FoldsScoreEveryCaseOnceAndGoOnWhereTheyStopped) {
  const test::TempFolder temp;
  ::setenv("VOXNAS_DATA_CACHE", (temp / "cache").c_str(), 1);
  test::write_small_phantom(temp.path(), 6, {18, 20, 16});
  const fs::path network = temp / "network.json";
  write_graph(network.string(),
              make_unet({.in_channels = 1,
                         .classes = 3,
                         .features = {4, 8},
                         .strides = {{1, 1, 1}, {2, 2, 2}},
                         .kernels = {{3, 3, 3}, {3, 3, 3}},
                         .blocks = {1, 1},
                         .decoder_convs = {1}}));
  TrainJob job;
  job.data = temp / "data";
  job.run_folder = temp / "run";
  job.steps = 3;
  job.network = network.string();
  job.options = R"({"batch": 1, "patch": [16, 16, 16], "augmentation": 0})";
  job.base.device = "cpu";
  job.base.precision = "fp32";
  job.base.threads = 2;
  const TrainOutcome all = train_all_folds(job);
  EXPECT_FALSE(all.stopped);

  std::vector<std::string> ids;
  for (const CaseMetrics& one : all.held_out) ids.push_back(one.id);
  std::sort(ids.begin(), ids.end());
  EXPECT_EQ(ids.size(), 6U);
  EXPECT_EQ(std::unique(ids.begin(), ids.end()), ids.end());
  const Json metrics = read_json(temp / "run/metrics.json");
  EXPECT_EQ(metrics.at("cases").size(), 6U);
  ASSERT_EQ(metrics.at("folds").size(), 5U);
  EXPECT_EQ(metrics, parse_json(all.report, "report"));
  const std::vector<Model> models = load_models((temp / "run").string());
  ASSERT_EQ(models.size(), 5U);
  EXPECT_EQ(models[0].preprocessing.patch, (Extent3{16, 16, 16}));
  // The ensemble predicts; another start is refused.
  const DataSet data = open_data_set(temp / "data");
  const LabelMap labels = predict_image(
      models, read_case_image(data, data.training[0]), {.device = "cpu", .precision = "fp32"});
  EXPECT_EQ(labels.geometry, read_case_image(data, data.training[0]).geometry);
  EXPECT_EQ(models[0].preprocessing.orientation, "RAS");  // of the phantom
  EXPECT_THROW(train_all_folds(job), Error);

  // As if it had been stopped in fold 3: that fold goes on from its record, the last one starts.
  fs::remove(temp / "run/metrics.json");
  fs::remove(temp / "run/fold_3/metrics.json");
  fs::remove_all(temp / "run/fold_4");
  fs::remove(network);  // the run has its own copy
  TrainJob again;
  again.run_folder = job.run_folder;
  again.resume = true;
  ASSERT_TRUE(is_folds_run(again.run_folder));
  train_all_folds(again);
  const Json resumed = read_json(temp / "run/metrics.json");
  EXPECT_EQ(resumed.at("cases"), metrics.at("cases"));
  again.steps = 5;
  EXPECT_THROW(train_all_folds(again), Error);
}

/// A training of the phantom that takes a second.
TrainJob tiny_job(const test::TempFolder& temp, std::int64_t cases = 6) {
  ::setenv("VOXNAS_DATA_CACHE", (temp / "cache").c_str(), 1);
  test::write_small_phantom(temp.path(), cases, {18, 20, 16});
  const fs::path network = temp / "network.json";
  write_graph(network.string(), make_unet(test::small_architecture()));
  TrainJob job;
  job.data = temp / "data";
  job.run_folder = temp / "run";
  job.steps = 3;
  job.network = network.string();
  job.options = R"({"batch": 1, "patch": [16, 16, 16], "augmentation": 0})";
  job.base.device = "cpu";
  job.base.precision = "fp32";
  job.base.threads = 2;
  return job;
}

TrainJob resumed(const TrainJob& job, const fs::path& data = {}) {
  TrainJob again;
  again.run_folder = job.run_folder;
  again.resume = true;
  again.data = data;
  return again;
}

TEST(TrainJob, OneLabelledCaseCannotBeSplitButTrained) {
  const test::TempFolder temp;
  TrainJob job = tiny_job(temp, 1);
  for (const auto& train : {train_network, train_all_folds}) {
    EXPECT_THAT(test::error_of([&] { train(job); }),
                testing::AllOf(testing::HasSubstr("one labelled case cannot be split"),
                               testing::HasSubstr("--all")));
  }
  job.fold = -1;
  job.steps = 1;
  EXPECT_TRUE(train_network(job).held_out.empty());
}

TEST(TrainJob, ARunGoesOnWhereItsDataMovedAndSaysWhatChanged) {
  const test::TempFolder temp;
  const TrainJob job = tiny_job(temp);
  train_network(job);
  const std::string weights = read_file(temp / "run/model/weights.safetensors", 1 << 28);

  fs::rename(temp / "data", temp / "elsewhere");
  ErrorKind kind = ErrorKind::Internal;
  EXPECT_THAT(test::error_of([&] { train_network(resumed(job)); }, &kind),
              testing::AllOf(testing::HasSubstr((temp / "data").string()),
                             testing::HasSubstr("no longer there"),
                             testing::HasSubstr("voxnas train DATA --resume")));
  EXPECT_EQ(kind, ErrorKind::Input);
  train_network(resumed(job, temp / "elsewhere"));
  train_network(resumed(job));  // the record knows the new place
  EXPECT_EQ(read_file(temp / "run/model/weights.safetensors", 1 << 28), weights);

  const DataSet data = open_data_set(temp / "elsewhere");
  const auto message = [&] { return test::error_of([&] { train_network(resumed(job)); }); };
  const fs::path label = data.training[2].label, kept = temp / "kept.nii.gz";
  fs::copy_file(label, kept);
  fs::copy_file(data.training[3].label, label, fs::copy_options::overwrite_existing);
  EXPECT_THAT(message(), testing::HasSubstr("the content of " + label.string() + " differs"));
  fs::copy_file(kept, label, fs::copy_options::overwrite_existing);
  EXPECT_EQ(message(), "");

  Split split = data.splits[0];
  std::swap(split.train.front(), split.val.front());
  write_json(temp / "elsewhere/splits_final.json",
             Json::array({{{"train", split.train}, {"val", split.val}}}));
  EXPECT_THAT(message(),
              testing::AllOf(testing::HasSubstr("other split"),
                             testing::HasSubstr("splits_final.json"),
                             testing::HasSubstr(data.splits[0].val.front())));
}

TEST(TrainJob, OneProcessWorksOnARun) {
  const test::TempFolder temp;
  const TrainJob job = tiny_job(temp);
  train_network(job);
  const RunLock other{RunFolder(job.run_folder)};
  ErrorKind kind = ErrorKind::Internal;
  EXPECT_THAT(test::error_of([&] { train_network(resumed(job)); }, &kind),
              testing::HasSubstr("another process is working on this run"));
  EXPECT_EQ(kind, ErrorKind::Usage);
}

TEST(TrainJob, MirroringIsTriedWhereATenthOfTheTrainingPaysForItElseItStaysOff) {
  const test::TempFolder temp;
  TrainJob job = tiny_job(temp);
  fs::remove_all(temp / "data");
  test::write_left_right(temp.path(), 6);
  job.options = R"({"patch": [12, 12, 16]})";
  const auto record = [&] { return read_json(job.run_folder / "training.json"); };

  write_graph(job.network, make_unet(test::far_sighted_architecture()));
  job.steps = 130;  // 65 passes over four cases: the rule would mirror
  job.run_folder = temp / "short";
  train_network(job);
  EXPECT_FALSE(record().at("options").at("mirror").get<bool>());
  EXPECT_EQ(record().at("mirroring").at("steps").get<int>(), 0);
  EXPECT_THAT(record().at("mirroring").at("reason").get<std::string>(),
              testing::HasSubstr("more than a tenth"));

  job.run_folder = temp / "asked";  // whoever asks for it gets it
  job.options = R"({"patch": [12, 12, 16], "mirror": true})";
  train_network(job);
  EXPECT_TRUE(record().at("options").at("mirror").get<bool>());
  EXPECT_TRUE(record().at("mirroring").is_null());

  job.run_folder = temp / "long";
  job.options = R"({"patch": [12, 12, 16]})";
  job.steps = 820;
  const TrainOutcome outcome = train_network(job);
  const Json mirroring = record().at("mirroring");
  EXPECT_GE(mirroring.at("steps").get<int>(), kFewestCheckSteps);
  EXPECT_LE(2 * mirroring.at("steps").get<int>(), 82);
  EXPECT_FALSE(mirroring.at("mirror").get<bool>()) << mirroring.dump();
  EXPECT_FALSE(record().at("options").at("mirror").get<bool>());
  EXPECT_GT(mean_metrics(outcome.held_out).foreground.dice.value_or(0), 0.75)
      << "left and right are told apart";
}

TEST(MirrorCheck, CostsATenthAndFindsWhatMirroringDoes) {
  EXPECT_EQ(mirror_check_steps(1200, 2, 2), 60);
  EXPECT_EQ(mirror_check_steps(1200, 4, 2), 120);
  EXPECT_EQ(mirror_check_steps(1'000'000, 2, 2), kMostCheckSteps);
  EXPECT_FALSE(mirror_check_steps(700, 2, 2));

  constexpr std::int64_t kSteps = 120;

  for (const bool alike : {false, true}) {
    // Organs that differ in their place alone, or, as one class, not at all.
    const test::TempFolder temp;
    test::write_left_right(temp.path(), 6);
    if (alike) {
      for (const CaseFiles& files : open_data_set(temp / "data").training) {
        LabelMap label = read_nifti_label(files.label);
        for (std::int16_t& value : label.voxels) value = value > 0 ? 1 : 0;
        write_nifti(files.label, label);
      }
    }
    test::SmallPhantom data(temp.path());
    TrainOptions options = test::small_options(0);
    options.patch = {12, 12, 16};
    options.augmentation = 0.3;
    const Graph graph = make_unet(test::far_sighted_architecture());
    const InnerSplit cases{{data.ids.begin(), data.ids.begin() + 4},
                           {data.ids.begin() + 4, data.ids.end()}};
    const MirrorCheck check = check_mirroring(graph, data.cache, cases, options, kSteps, false);
    EXPECT_EQ(check.mirror, alike) << check.reason;
    EXPECT_EQ(check.cases, 2);
    EXPECT_EQ(check.steps, kSteps);
    if (!alike) {
      EXPECT_GT(check.without, check.with + 0.1) << check.reason;
    }
    EXPECT_GT(check.without, 0.4) << check.reason;
    const MirrorCheck again = check_mirroring(graph, data.cache, cases, options, kSteps, false);
    EXPECT_EQ(to_json(again), to_json(check)) << "a function of its input";
  }
}

TEST(TrainJob, RegionsAndAnIgnoredLabelGoThroughTrainingPredictionAndScoring) {
  const test::TempFolder temp;
  ::setenv("VOXNAS_DATA_CACHE", (temp / "cache").c_str(), 1);
  test::write_small_phantom(temp.path(), 4, {18, 20, 16});
  // Label 2 lies in label 1; the first slices are not annotated.
  Json dataset = read_json(temp / "data/dataset.json");
  dataset["labels"] = {{"a_whole", {1, 2}}, {"b_core", 2}, {"background", 0}, {"ignore", 3}};
  dataset["regions_class_order"] = {1, 2};
  write_json(temp / "data/dataset.json", dataset);
  for (const CaseFiles& files : open_data_set(temp / "data").training) {
    LabelMap label = read_nifti_label(files.label);
    std::fill_n(label.voxels.begin(), 2 * 20 * 16, std::int16_t{3});
    write_nifti(files.label, label);
  }
  TrainJob job;
  job.data = temp / "data";
  job.run_folder = temp / "run";
  job.fold = 0;
  job.steps = 40;
  job.options =
      R"({"batch": 2, "patch": [16, 16, 16], "optimizer": "adamw", "learning_rate": 0.005,
          "augmentation": 0, "foreground_fraction": 0.5})";
  job.base.device = "cpu";
  job.base.precision = "fp32";
  job.base.threads = 2;
  write_graph((temp / "network.json").string(), make_unet(test::small_architecture()));
  job.network = (temp / "network.json").string();  // three outputs: adapted to two regions
  const TrainOutcome outcome = train_network(job);
  const Json metrics = read_json(temp / "run/metrics.json");
  const Json& mean = metrics.at("mean");
  ASSERT_EQ(mean.size(), 2U);
  EXPECT_EQ(mean.at(0).at("label"), "a_whole");
  EXPECT_EQ(mean.at(1).at("label"), "b_core");
  EXPECT_GT(mean.at(0).at("dice").get<double>(), 0.3) << "it has learned something";

  const Model model = load_model(temp / "run/model");
  EXPECT_TRUE(model.preprocessing.labels.has_regions());
  const DataSet data = open_data_set(temp / "data");
  for (const CaseMetrics& one : outcome.held_out) {
    const LabelMap reference = read_case_label(data, data.find(one.id));
    const LabelMap predicted = read_nifti_label(temp / ("run/predictions/" + one.id + ".nii.gz"));
    std::int64_t whole = 0;
    for (const std::int16_t v : reference.voxels) whole += v == 1 || v == 2;
    EXPECT_EQ(one.classes.at(0).reference_voxels, whole);
    for (const std::int16_t v : predicted.voxels) ASSERT_TRUE(v >= 0 && v <= 2) << v;
    const CaseMetrics again = compute_metrics(predicted, reference, data.labels);
    EXPECT_EQ(again.classes.at(0).dice, one.classes.at(0).dice);
  }
}

TEST(TrainJob, AnOutputThatCannotBeWrittenIsRefusedBeforeTheDataIsRead) {
  const test::TempFolder temp;
  write_file_atomic(temp / "file", "");
  TrainJob job;
  job.data = temp / "no data";
  job.run_folder = temp / "file/run";
  job.steps = 1;
  for (const auto& train : {train_network, train_all_folds}) {
    ErrorKind kind = ErrorKind::Internal;
    EXPECT_THAT(
        test::error_of([&] { train(job); }, &kind),
        testing::AllOf(testing::HasSubstr("file/run"), testing::HasSubstr("Not a directory")));
    EXPECT_EQ(kind, ErrorKind::Io);
  }
}

}  // namespace
}  // namespace nas
