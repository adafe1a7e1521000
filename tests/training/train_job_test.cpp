// SPDX-License-Identifier: Apache-2.0
// Training over folds: every case scored by the fold that held it out, gone on with after a stop.
#include "nas/jobs/train_job.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include <gmock/gmock.h>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "search_spaces/planned_unet/unet.h"
#include "tests/support/small_training.h"
#include "tests/support/support.h"
#include "training/inference/predict.h"
#include "training/model/model_folder.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

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
