// SPDX-License-Identifier: Apache-2.0
#include "training/inference/predict_memory.h"

#include <algorithm>

#include "nas/network/operations.h"
#include "nas/network/output_region.h"
#include "training/data/argmax_stream.h"
#include "training/model/device.h"

namespace nas {
namespace {

std::int64_t live_activation_bytes(const Graph& graph,
                                   const Extent3& patch,
                                   std::int64_t bytes_per_element) {
  const std::vector<TensorShape> shapes = infer_shapes(graph, patch);
  std::vector<std::size_t> last_use(graph.nodes.size());
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    last_use[i] = i;
    for (const int input : graph.nodes[i].inputs) last_use[static_cast<std::size_t>(input)] = i;
  }
  std::int64_t live = 0;
  std::int64_t peak = 0;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    live += shapes[i].elements();
    peak = std::max(peak, live);
    for (std::size_t j = 0; j <= i; ++j) {
      if (last_use[j] == i) live -= shapes[j].elements();
    }
  }
  return peak * bytes_per_element;
}

bool is_identity(const std::array<int, 3>& order) { return order == std::array<int, 3>{0, 1, 2}; }

}  // namespace

std::int64_t predict_memory_bytes(const std::vector<Model>& models,
                                  const Geometry& geometry,
                                  const PredictOptions& options) {
  // LibTorch loaded, its pools, the program.
  constexpr std::int64_t kRuntime = std::int64_t{450} << 20;
  const at::Device device = choose_device(options.device);
  const bool half = choose_precision(options.precision, device) != at::kFloat;
  const std::int64_t original = volume(geometry.shape);
  const Preprocessing& first = models.front().preprocessing;
  const auto channels = static_cast<std::int64_t>(first.normalization.size());
  const std::int64_t classes = network_ends(models.front().network->graph()).classes;
  Extent3 target{};
  for (std::size_t i = 0; i < 3; ++i) {
    target[i] = geometry.shape[static_cast<std::size_t>(first.transpose_forward[i])];
  }

  const std::vector<std::size_t> shared = first_with_input(models);
  std::int64_t weights = 0, inputs = 0, largest_input = 0, scores = 0, network = 0;
  for (std::size_t i = 0; i < models.size(); ++i) {
    const Graph& graph = models[i].network->graph();
    const Extent3& patch = models[i].preprocessing.patch;
    for (const at::Tensor& parameter : models[i].network->parameters()) {
      weights += parameter.numel() * 4;
    }
    Extent3 shape = preprocessed_shape(geometry, models[i].preprocessing);
    if (shared[i] == i) {
      inputs += channels * volume(shape) * 4;
      largest_input = std::max(largest_input, volume(shape));
    }
    const Extent3 tile = output_region(graph, patch).size;
    for (std::size_t axis = 0; axis < 3; ++axis) shape[axis] = std::max(shape[axis], tile[axis]);
    // Scores of one tile depth, three times while a slab leaves.
    scores += 3 * (classes + 1) * tile[0] * shape[1] * shape[2] * 4;
    // The network's live results with the convolution's own copies; networks take turns.
    if (device.is_cpu()) {
      network =
          std::max(network, live_activation_bytes(graph, patch, half ? 2 : 4) * options.batch * 2);
    }
  }
  // Preprocessing: the image, its turned copy, the crop, the results, and one channel of spline
  // coefficients.
  const std::int64_t turned = is_identity(first.transpose_forward) ? 0 : channels * original * 4;
  const std::int64_t preparing =
      channels * original * 4 * 2 + turned + inputs + (original + largest_input) * 8;
  // Prediction: image and network inputs, scores, one network at work, and the labels.
  const std::int64_t predicting =
      channels * original * 4 + inputs + scores + network +
      argmax_stream_bytes(classes, static_cast<std::int64_t>(models.size()), target) + original * 2;
  return kRuntime + weights * 2 + std::max(preparing, predicting);
}

}  // namespace nas
