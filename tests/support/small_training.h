// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "nas/core/json.h"
#include "nas/core/rng.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/nifti.h"
#include "nas/imaging/phantom.h"
#include "search_spaces/planned_unet/plan.h"
#include "training/data/preprocessing.h"
#include "training/fit/fit.h"
#include "training/settings/options.h"

/// What tests above the torch line train: a phantom, a U-Net and options so small that a training
/// takes a second.
namespace nas::test {

/// A phantom data set in folder/data: `cases` training cases, one channel, three classes.
inline void write_small_phantom(const std::filesystem::path& folder,
                                std::int64_t cases = 6,
                                const Extent3& size = {16, 20, 16}) {
  PhantomOptions options;
  options.cases = cases;
  options.test_cases = 0;
  options.size = size;
  options.seed = 3;
  write_phantom(folder / "data", options);
}

/// A data set in folder/data whose two organs are alike but for their place: two bright balls, the
/// left one class 1, the right one class 2.
inline void write_left_right(const std::filesystem::path& folder, std::int64_t cases) {
  const Extent3 shape{12, 12, 16};
  Json training = Json::array();
  for (std::int64_t i = 0; i < cases; ++i) {
    Rng random = Rng("left and right").split("case", i);
    Image image;
    image.geometry.shape = shape;
    LabelMap label;
    label.geometry = image.geometry;
    const double move = random.uniform(-0.5, 0.5), radius = random.uniform(2.6, 3.2);
    for (std::int64_t d = 0; d < shape[0]; ++d) {
      for (std::int64_t h = 0; h < shape[1]; ++h) {
        for (std::int64_t w = 0; w < shape[2]; ++w) {
          const bool right = w >= shape[2] / 2;
          const double middle = (right ? 11.5 : 3.5) + move;
          const double r = std::hypot(static_cast<double>(d) - 5.5,
                                      static_cast<double>(h) - 5.5,
                                      static_cast<double>(w) - middle);
          const bool inside = r < radius;
          label.voxels.push_back(inside ? (right ? 2 : 1) : 0);
          image.voxels.push_back(static_cast<float>((inside ? 100 : 0) + 5 * random.normal()));
        }
      }
    }
    const std::string name = "c" + std::to_string(i) + ".nii.gz";
    write_nifti(folder / "data/imagesTr" / name, image);
    write_nifti(folder / "data/labelsTr" / name, label);
    training.push_back({{"image", "./imagesTr/" + name}, {"label", "./labelsTr/" + name}});
  }
  write_json(folder / "data/dataset.json",
             {{"name", "left and right"},
              {"modality", {{"0", "MRI"}}},
              {"labels", {{"0", "background"}, {"1", "left"}, {"2", "right"}}},
              {"training", training}});
}

/// A small phantom with its cache, in a folder that may hold them already.
struct SmallPhantom {
  explicit SmallPhantom(const std::filesystem::path& folder, std::int64_t count = 6) {
    if (!std::filesystem::exists(folder / "data")) write_small_phantom(folder, count);
    data = open_data_set(folder / "data");
    preprocessing.configuration = "3d_fullres";
    preprocessing.patch = {16, 16, 16};
    preprocessing.normalization = {"ZScoreNormalization"};
    preprocessing.use_mask_for_norm = {false};
    preprocessing.intensity = {IntensityProperties{}};
    preprocessing.channel_names = data.channel_names;
    preprocessing.label_names = data.label_names;
    cache = open_case_cache(folder / "cache", data, preprocessing, 1, false);
    for (const CaseFiles& one : data.training) ids.push_back(one.id);
    for (const std::string& id : ids) cases.push_back(&cache.find(id));
  }
  DataSet data;
  Preprocessing preprocessing;
  CaseCache cache;
  std::vector<std::string> ids;
  std::vector<const CachedCase*> cases;
};

/// Two stages for the small phantom.
inline UnetArchitecture small_architecture() {
  UnetArchitecture a;
  a.in_channels = 1;
  a.classes = 3;
  a.features = {8, 16};
  a.strides = {{1, 1, 1}, {2, 2, 2}};
  a.kernels = {{3, 3, 3}, {3, 3, 3}};
  a.blocks = {1, 1};
  a.decoder_convs = {1};
  return a;
}

/// Three stages: sees from an organ of write_left_right to the border of the image.
inline UnetArchitecture far_sighted_architecture() {
  UnetArchitecture a = small_architecture();
  a.features = {8, 16, 16};
  a.strides = {{1, 1, 1}, {2, 2, 2}, {2, 2, 2}};
  a.kernels = {{3, 3, 3}, {3, 3, 3}, {3, 3, 3}};
  a.blocks = {1, 1, 1};
  a.decoder_convs = {1, 1};
  return a;
}

inline TrainOptions small_options(std::int64_t steps) {
  TrainOptions options;
  options.steps = steps;
  options.batch = 2;
  options.patch = {16, 16, 16};
  options.optimizer = "adamw";
  options.learning_rate = 5e-3;
  options.schedule = "cosine";
  options.clip_norm = 1;
  options.device = "cpu";
  options.threads = 2;
  return options;
}

/// Checkpoints in `folder`, nothing else.
inline FitFiles quiet_files(const std::filesystem::path& folder, double checkpoint_seconds = 300) {
  FitFiles files;
  files.folder = folder;
  files.checkpoint_seconds = checkpoint_seconds;
  files.tensorboard = false;
  files.show_progress = false;
  return files;
}

}  // namespace nas::test
