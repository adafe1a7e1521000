// SPDX-License-Identifier: Apache-2.0
#include "training/inference/window_scores.h"

#include <algorithm>
#include <cmath>

#include "nas/core/error.h"
#include "nas/core/stop.h"
#include "nas/network/operations.h"
#include "nas/network/output_region.h"
#include "training/data/sliding_window.h"
#include "training/model/device.h"

namespace nas {
namespace {

/// Puts the network in evaluation mode for the life of the object.
class EvaluationMode {
 public:
  explicit EvaluationMode(GraphModule& network)
      : network_(network), was_training_(network->is_training()) {
    network_->eval();
  }
  ~EvaluationMode() { network_->train(was_training_); }
  EvaluationMode(const EvaluationMode&) = delete;
  EvaluationMode& operator=(const EvaluationMode&) = delete;

 private:
  GraphModule& network_;
  bool was_training_;
};

/// Logits of a batch of windows; with `mirror` the mean over the eight mirrored inputs, mirrored
/// back.
at::Tensor window_logits(GraphModule& network, const at::Tensor& input, bool mirror) {
  at::Tensor sum;
  for (int flips = 0; flips < (mirror ? 8 : 1); ++flips) {
    std::vector<std::int64_t> axes;
    for (int axis = 0; axis < 3; ++axis) {
      if ((flips >> axis & 1) != 0) axes.push_back(2 + axis);
    }
    at::Tensor turned = axes.empty() ? input : input.flip(axes);
    if (input.is_cuda()) turned = turned.contiguous(at::MemoryFormat::ChannelsLast3d);
    at::Tensor logits = network->forward(turned).front().to(at::kFloat);
    if (!axes.empty()) logits = logits.flip(axes);
    sum = sum.defined() ? sum.add_(logits) : (mirror ? logits.clone() : logits);
  }
  return mirror ? sum.div_(8) : sum;
}

}  // namespace

void check_options(const PredictOptions& options) {
  NAS_CHECK_KIND(Usage,
                 options.step > 0 && options.step <= 1,
                 "step: expected a share of the patch in (0, 1], got ",
                 options.step);
  NAS_CHECK_KIND(Usage,
                 options.batch >= 1,
                 "batch: expected at least one window at once, got ",
                 options.batch);
}

WindowScores::WindowScores(const GraphModule& network,
                           const Image& image,
                           const Extent3& patch,
                           const PredictOptions& options)
    : network_(network),
      image_(image),
      patch_(patch),
      options_(options),
      device_(choose_device(options.device)),
      type_(choose_precision(options.precision, device_)) {
  check_options(options);
  const Graph& graph = network_->graph();
  const NetworkEnds ends = network_ends(graph);
  classes_ = ends.classes;
  NAS_CHECK_KIND(Shape,
                 image.channels == ends.channels,
                 "network ",
                 graph.name,
                 ": expected ",
                 ends.channels,
                 " channels, the image has ",
                 image.channels);
  if (options.threads > 0) at::set_num_threads(options.threads);
  const at::NoGradGuard no_grad;
  network_->to(device_);
  const OutputRegion region = output_region(graph, patch);
  begin_ = region.begin;
  tile_ = region.size;

  // Smaller images are padded on both sides, the larger half behind (nnU-Net's pad_nd_image).
  for (std::size_t i = 0; i < 3; ++i) {
    padded_[i] = std::max(image.geometry.shape[i], tile_[i]);
    before_[i] = (padded_[i] - image.geometry.shape[i]) / 2;
  }
  starts_ = window_starts(padded_, tile_, options.step);
  for (const std::int64_t y : starts_[1]) {
    for (const std::int64_t x : starts_[2]) plane_starts_.push_back({y, x});
  }
  const at::TensorOptions floats = at::TensorOptions().dtype(at::kFloat);
  std::vector<float> importance = gaussian_importance(tile_);
  // Scores stay on the device where they fit easily; a CPU keeps them anyway.
  const std::int64_t score_bytes = (classes_ + 1) * tile_[0] * padded_[1] * padded_[2] * 4;
  place_ = score_bytes < (std::int64_t{4} << 30) ? device_ : at::Device(at::kCPU);
  weight_ = at::from_blob(importance.data(), {tile_[0], tile_[1], tile_[2]}, floats)
                .to(place_, at::kFloat, /*non_blocking=*/false, /*copy=*/true);
  scores_ = at::zeros({classes_, tile_[0], padded_[1], padded_[2]}, floats.device(place_));
  weights_ = at::zeros({tile_[0], padded_[1], padded_[2]}, floats.device(place_));
}

at::Tensor WindowScores::next(Progress* progress) {
  while (row_ < starts_[0].size()) {
    at::Tensor slab = next_row(progress);
    if (slab.defined()) return slab;
  }
  return {};
}

at::Tensor WindowScores::next_row(Progress* progress) {
  const at::NoGradGuard no_grad;
  const EvaluationMode evaluation(network_);
  const Autocast autocast(device_, type_);
  const std::int64_t z = starts_[0][row_];
  for (std::size_t first = 0; first < plane_starts_.size();
       first += static_cast<std::size_t>(options_.batch)) {
    NAS_CHECK_KIND(Stopped, !stop_requested(), "stopped while predicting");
    const std::size_t count =
        std::min(plane_starts_.size() - first, static_cast<std::size_t>(options_.batch));
    at::Tensor input = at::empty(
        {static_cast<std::int64_t>(count), image_.channels, patch_[0], patch_[1], patch_[2]},
        at::kFloat);
    for (std::size_t b = 0; b < count; ++b) {
      const auto [y, x] = plane_starts_[first + b];
      copy_window(
          image_,
          {z - before_[0] - begin_[0], y - before_[1] - begin_[1], x - before_[2] - begin_[2]},
          patch_,
          input[static_cast<std::int64_t>(b)].data_ptr<float>());
    }
    const at::Tensor logits =
        window_logits(network_, input.to(device_), options_.mirror).to(place_);
    for (std::size_t b = 0; b < count; ++b) {
      const auto [y, x] = plane_starts_[first + b];
      scores_.narrow(2, y, tile_[1])
          .narrow(3, x, tile_[2])
          .addcmul_(logits[static_cast<std::int64_t>(b)], weight_);
      weights_.narrow(1, y, tile_[1]).narrow(2, x, tile_[2]).add_(weight_);
    }
    if (progress != nullptr) progress->advance(static_cast<std::int64_t>(count));
  }
  // Slices before the next row of windows are final.
  ++row_;
  const std::int64_t done = (row_ < starts_[0].size() ? starts_[0][row_] : padded_[0]) - z;
  const std::int64_t low = std::max<std::int64_t>(before_[0] - z, 0);
  const std::int64_t high = std::min(before_[0] + image_.geometry.shape[0] - z, done);
  at::Tensor slab;
  if (low < high) {
    const auto crop = [&](const at::Tensor& tensor, std::int64_t axis) {
      return tensor.narrow(axis, low, high - low)
          .narrow(axis + 1, before_[1], image_.geometry.shape[1])
          .narrow(axis + 2, before_[2], image_.geometry.shape[2]);
    };
    slab = (crop(scores_, 1) / crop(weights_, 0)).to(at::kCPU).contiguous();
    NAS_CHECK_KIND(NotFinite,
                   std::isfinite(slab.sum(at::kDouble).item<double>()),
                   "network ",
                   network_->graph().name,
                   ": its output holds NaN or infinity");
  }
  const std::int64_t keep = tile_[0] - done;
  for (at::Tensor* buffer : {&scores_, &weights_}) {
    const std::int64_t axis = buffer == &scores_ ? 1 : 0;
    if (keep > 0) buffer->narrow(axis, 0, keep).copy_(buffer->narrow(axis, done, keep).clone());
    buffer->narrow(axis, keep, done).zero_();
  }
  return slab;
}

at::Tensor predict_logits(GraphModule& network,
                          const Image& image,
                          const Extent3& patch,
                          const PredictOptions& options) {
  const Extent3& shape = image.geometry.shape;
  at::Tensor result =
      at::empty({network_ends(network->graph()).classes, shape[0], shape[1], shape[2]}, at::kFloat);
  WindowScores windows(network, image, patch, options);
  for (std::int64_t next = 0; next < shape[0];) {
    const at::Tensor scores = windows.next(nullptr);
    result.narrow(1, next, scores.size(1)).copy_(scores);
    next += scores.size(1);
  }
  return result;
}

}  // namespace nas
