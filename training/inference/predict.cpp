// SPDX-License-Identifier: Apache-2.0
#include "training/inference/predict.h"

#include <optional>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/progress.h"
#include "nas/imaging/resample.h"
#include "nas/network/operations.h"
#include "training/data/argmax_stream.h"
#include "training/data/sliding_window.h"

namespace nas {
namespace {

/// Whether an image becomes the same input under both.
bool same_input(Preprocessing a, const Preprocessing& b) {
  a.configuration = b.configuration;
  a.patch = b.patch;
  return a == b;
}

}  // namespace

std::vector<std::size_t> first_with_input(const std::vector<Model>& models) {
  std::vector<std::size_t> result;
  for (std::size_t i = 0; i < models.size(); ++i) {
    std::size_t j = 0;
    while (j < i && !same_input(models[j].preprocessing, models[i].preprocessing)) ++j;
    result.push_back(j);
  }
  return result;
}

std::vector<std::shared_ptr<const PreprocessedCase>> preprocess_for(
    const std::vector<Model>& models, const Image& image, int threads) {
  const std::vector<std::size_t> shared = first_with_input(models);
  std::vector<std::shared_ptr<const PreprocessedCase>> inputs;
  for (std::size_t i = 0; i < models.size(); ++i) {
    inputs.push_back(shared[i] < i ? inputs[shared[i]]
                                   : std::make_shared<const PreprocessedCase>(preprocess_case(
                                         image, nullptr, models[i].preprocessing, threads)));
  }
  return inputs;
}

LabelMap predict_preprocessed(const std::vector<Model>& models,
                              const std::vector<std::shared_ptr<const PreprocessedCase>>& inputs,
                              const PredictOptions& options) {
  NAS_CHECK_KIND(Internal,
                 !models.empty() && models.size() == inputs.size(),
                 "prediction: expected an input for each of ",
                 models.size(),
                 " models, got ",
                 inputs.size());
  const PreprocessedCase& first = *inputs.front();
  const Vec3 spacing = first.original_spacing();
  std::vector<std::unique_ptr<WindowScores>> windows;
  std::int64_t total = 0;
  for (std::size_t i = 0; i < models.size(); ++i) {
    NAS_CHECK_KIND(Internal,
                   inputs[i]->crop_shape == first.crop_shape && inputs[i]->turn == first.turn,
                   "prediction: the models' inputs lie on different grids");
    windows.push_back(std::make_unique<WindowScores>(
        models[i].network, inputs[i]->image, models[i].preprocessing.patch, options));
    total += windows.back()->windows();
  }
  std::optional<Progress> progress;
  if (options.show_progress) progress.emplace("predicting", total, "windows");
  Progress* const bar = progress ? &*progress : nullptr;

  std::vector<at::Tensor> slabs(models.size());
  std::vector<ScoreSource> sources;
  for (std::size_t i = 0; i < models.size(); ++i) {
    sources.push_back({inputs[i]->image.geometry.shape,
                       separate_axis(models[i].preprocessing.spacing, spacing),
                       [&, i] {
                         slabs[i] = windows[i]->next(bar);
                         return ScoreSlab{slabs[i].data_ptr<float>(), slabs[i].size(1)};
                       }});
  }
  const LabelScheme& labels = models.front().preprocessing.labels;
  return restore_grid(label_stream(labels, sources, first.crop_shape, options.threads), first);
}

LabelMap predict_image(const std::vector<Model>& models,
                       const Image& image,
                       const PredictOptions& options) {
  check_options(options);
  return predict_preprocessed(models, preprocess_for(models, image, options.threads), options);
}

LabelMap predict_image(Model& model, const Image& image, const PredictOptions& options) {
  return predict_image(std::vector<Model>{model}, image, options);
}

}  // namespace nas
