// SPDX-License-Identifier: Apache-2.0
#include "training/inner_score.h"
#include "nas/core/error.h"
#include "training/data/argmax_stream.h"

#include <torch/torch.h>

namespace nas {
namespace {

CaseMetrics score_cached_case(GraphModule& network,
                              const CachedCase& item,
                              const LabelScheme& labels,
                              const Extent3& patch,
                              const PredictOptions& options,
                              const MetricOptions& metric_options,
                              const Vec3& spacing_mm) {
  Image image;
  image.geometry.shape = item.shape;
  image.channels = item.channels;
  const std::int64_t voxels = volume(item.shape);
  image.voxels.assign(item.image, item.image + item.channels * voxels);
  const at::Tensor logits = predict_logits(network, image, patch, options);
  LabelMap prediction, reference;
  prediction.geometry.shape = reference.geometry.shape = item.shape;
  prediction.geometry.spacing_mm = reference.geometry.spacing_mm = spacing_mm;
  const ScoreSource scores{item.shape, -1, [&] {
                             return ScoreSlab{logits.const_data_ptr<float>(), item.shape[0]};
                           }};
  prediction.voxels = label_stream(labels, {scores}, item.shape, options.threads);
  reference.voxels.assign(item.label, item.label + voxels);
  CaseMetrics metrics = compute_metrics(prediction, reference, labels, metric_options);
  metrics.id = item.id;
  return metrics;
}

}  // namespace

std::vector<CaseMetrics> score_cached_cases(GraphModule& network,
                                            const CaseCache& cache,
                                            const std::vector<std::string>& ids,
                                            const Extent3& patch,
                                            const PredictOptions& options,
                                            const MetricOptions& metrics,
                                            const Vec3& spacing_mm) {
  std::vector<CaseMetrics> scores;
  for (const std::string& id : ids) {
    scores.push_back(score_cached_case(
        network, cache.find(id), cache.labels(), patch, options, metrics, spacing_mm));
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
