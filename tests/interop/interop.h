// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nas/core/files.h"
#include "nas/imaging/nifti.h"
#include "nas/jobs/train_job.h"
#include "nas/network/graph.h"
#include "search_spaces/planned_unet/unet.h"
#include "tests/support/support.h"
#include "training/inference/predict.h"
#include "training/model/model_folder.h"

namespace nas::test {

inline std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file);
  std::ostringstream out;
  out << in.rdbuf();
  return out.str();
}

/// Runs a shell command with its output in `log`. False and the log as a failure if it fails.
inline bool run_logged(const std::string& command, const std::filesystem::path& log) {
  const int code = std::system((command + " >'" + log.string() + "' 2>&1").c_str());
  if (code != 0) ADD_FAILURE() << command << "\n" << text_of(log);
  return code == 0;
}

inline bool python_has(const std::filesystem::path& python, const std::string& module) {
  return std::system((python.string() +
                      " -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec(\"" +
                      module + "\") is None)'")
                         .c_str()) == 0;
}

/// A data set folder with the first cases of the real hippocampus one.
inline void few_hippocampi(const std::filesystem::path& source,
                           const std::filesystem::path& folder,
                           std::size_t count) {
  std::filesystem::create_directories(folder);
  Json json = read_json(source / "dataset.json");
  Json cases = Json::array();
  for (std::size_t i = 0; i < count; ++i) cases.push_back(json.at("training").at(i));
  json["training"] = cases;
  json["numTraining"] = count;
  json["test"] = Json::array();
  json["numTest"] = 0;
  for (const char* name : {"imagesTr", "labelsTr"}) {
    std::filesystem::create_directory_symlink(source / name, folder / name);
  }
  write_json(folder / "dataset.json", json);
}

/// A tiny U-Net trained until it sees hippocampi (about 20 s): `run`/model. The residual one learns
/// mirrored images too, so that mirroring at test time does not blind it.
inline Model train_tiny(const std::filesystem::path& data,
                        const std::filesystem::path& run,
                        bool residual,
                        std::int64_t steps) {
  const std::filesystem::path network = run.string() + ".network.json";
  write_graph(network.string(),
              make_unet({.residual = residual,
                         .in_channels = 1,
                         .classes = 3,
                         .features = {6, 12, 16},
                         .strides = {{1, 1, 1}, {2, 2, 2}, {2, 2, 2}},
                         .kernels = {{3, 3, 3}, {3, 3, 3}, {3, 3, 3}},
                         .blocks = {1, 1, 2},
                         .decoder_convs = {1, 1}}));
  TrainJob job;
  job.data = data;
  job.run_folder = run;
  job.fold = -1;
  job.steps = steps;
  job.network = network.string();
  job.options = Json{
      {"batch", 2},
      {"learning_rate", 0.004},
      {"optimizer", "adamw"},
      {"augmentation", residual ? 0.2 : 0.0},
      {"mirror",
       residual}}.dump();
  job.base.device = "cpu";
  job.base.precision = "fp32";
  train_network(job);
  return load_model(run / "model");
}

/// Share of the voxels in which two label maps differ; the grids must be equal.
inline double disagreement(const LabelMap& a, const LabelMap& b) {
  EXPECT_EQ(a.geometry.shape, b.geometry.shape);
  if (a.voxels.size() != b.voxels.size() || a.voxels.empty()) return 1;
  std::size_t different = 0;
  for (std::size_t i = 0; i < a.voxels.size(); ++i) different += a.voxels[i] != b.voxels[i];
  return static_cast<double>(different) / static_cast<double>(a.voxels.size());
}

inline std::int64_t foreground(const LabelMap& labels) {
  std::int64_t count = 0;
  for (const std::int16_t label : labels.voxels) count += label > 0;
  return count;
}

}  // namespace nas::test
