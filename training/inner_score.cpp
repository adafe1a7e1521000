// SPDX-License-Identifier: Apache-2.0
#include "training/inner_score.h"
#include "nas/core/error.h"

#include <torch/torch.h>

namespace nas {
namespace {

CaseMetrics score_cached_case(GraphModule& network,
                              const CachedCase& item,
                              std::int64_t classes,
                              const Extent3& patch,
                              const PredictOptions& options) {
  Image image;
  image.geometry.shape = item.shape;
  image.channels = item.channels;
  const std::int64_t voxels = volume(item.shape);
  image.voxels.assign(item.image, item.image + item.channels * voxels);
  const at::Tensor logits = predict_logits(network, image, patch, options);
  const at::Tensor winner = logits.argmax(0).to(at::kShort).contiguous();
  LabelMap prediction, reference;
  prediction.geometry.shape = reference.geometry.shape = item.shape;
  const auto* labels = winner.const_data_ptr<std::int16_t>();
  prediction.voxels.assign(labels, labels + voxels);
  reference.voxels.assign(item.label, item.label + voxels);
  CaseMetrics metrics = compute_metrics(prediction, reference, classes - 1, {.distances = false});
  metrics.id = item.id;
  return metrics;
}

}  // namespace

std::vector<CaseMetrics> score_cached_cases(GraphModule& network,
                                            const CaseCache& cache,
                                            const std::vector<std::string>& ids,
                                            const Extent3& patch,
                                            const PredictOptions& options) {
  std::vector<CaseMetrics> scores;
  for (const std::string& id : ids) {
    scores.push_back(score_cached_case(network, cache.find(id), cache.classes(), patch, options));
  }
  return scores;
}

PredictOptions predict_options(const TrainOptions& options) {
  PredictOptions result;
  result.device = options.device;
  result.precision = options.precision;
  result.threads = options.threads;
  return result;
}

}  // namespace nas
