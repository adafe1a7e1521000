// SPDX-License-Identifier: Apache-2.0
#include "training/fit/batches.h"

#include <algorithm>
#include <limits>
#include <utility>

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceGuard.h>

#include "nas/core/rng.h"
#include "nas/core/threads.h"
#include "training/data/augment.h"
#include "training/data/patches.h"
#include "training/data/prefetch.h"
#include "training/fit/losses.h"
#include "training/kernels/kernels.h"
#include "training/model/device.h"

namespace nas {
namespace {

/// What sample `sample` of step `step` is: a function of the seed and these two numbers alone. The
/// rules of choose_patch hold for the part of the patch that the network's output describes, so
/// that every voxel of a case can be learnt from.
struct SampleRecipe {
  PatchChoice choice;
  AugmentPlan plan;
};

SampleRecipe draw_sample(const std::vector<const CachedCase*>& cases,
                         const TrainOptions& options,
                         const OutputRegion& region,
                         std::int64_t step,
                         std::int64_t sample) {
  const Rng random(options.seed);
  const AugmentOptions augment{
      .strength = options.augmentation, .mirror = options.mirror, .list = options.augmentations};
  SampleRecipe recipe;
  recipe.choice = choose_patch(cases,
                               volume(region.size) == 0 ? options.patch : region.size,
                               options.batch,
                               sample,
                               options.foreground_fraction,
                               random.split("patch", step, sample));
  for (std::size_t a = 0; a < 3; ++a) recipe.choice.begin[a] -= region.begin[a];
  recipe.plan = draw_augmentation(augment,
                                  options.patch,
                                  cases.front()->channels,
                                  random.split("augment", step, sample),
                                  is_anisotropic_patch(options.patch));
  return recipe;
}

}  // namespace

Batch empty_batch(const TrainOptions& options, std::int64_t channels, const at::Device& device) {
  const auto [d, h, w] = options.patch;
  const at::TensorOptions place(device);
  return {at::empty({options.batch, channels, d, h, w}, place.dtype(at::kFloat)),
          at::empty({options.batch, d, h, w}, place.dtype(at::kShort))};
}

Batch make_batch(const std::vector<const CachedCase*>& cases,
                 const TrainOptions& options,
                 std::int64_t step,
                 const OutputRegion& region) {
  Batch batch = empty_batch(options, cases.front()->channels, at::kCPU);
  for (std::int64_t sample = 0; sample < options.batch; ++sample) {
    const SampleRecipe recipe = draw_sample(cases, options, region, step, sample);
    make_sample(*cases[static_cast<std::size_t>(recipe.choice.case_index)],
                recipe.choice,
                options.patch,
                recipe.plan,
                batch.image[sample].data_ptr<float>(),
                batch.target[sample].data_ptr<std::int16_t>());
  }
  if (const auto& scheme = cases.front()->scheme)
    batch.target = training_target(batch.target, *scheme);
  return batch;
}

namespace {

/// Batches prepared ahead by threads.
class PrefetchingSource : public BatchSource {
 public:
  PrefetchingSource(std::vector<const CachedCase*> cases,
                    const TrainOptions& options,
                    const OutputRegion& region,
                    std::int64_t first_step,
                    int workers)
      : batches_([cases = std::move(cases), options, region](
                     std::int64_t step) { return make_batch(cases, options, step, region); },
                 first_step,
                 std::numeric_limits<std::int64_t>::max(),
                 kAhead,
                 workers) {}

  Batch next() override { return batches_.next(); }

 private:
  static constexpr std::int64_t kAhead = 4;
  Prefetch<Batch> batches_;
};

/// The whole data set in device memory; samples are made there by the CUDA launchers.
class DeviceSource : public BatchSource {
 public:
  DeviceSource(std::vector<const CachedCase*> cases,
               const TrainOptions& options,
               const OutputRegion& region,
               std::int64_t first_step,
               const at::Device& device)
      : cases_(std::move(cases)),
        options_(options),
        region_(region),
        device_(device),
        step_(first_step) {
    for (const CachedCase* source : cases_) {
      const auto [d, h, w] = source->shape;
      const std::vector<std::int64_t> image_shape{source->channels, d, h, w};
      images_.push_back(
          torch::from_blob(const_cast<float*>(source->image), image_shape, at::kFloat).to(device));
      labels_.push_back(
          torch::from_blob(const_cast<std::int16_t*>(source->label), {d, h, w}, at::kShort)
              .to(device));
    }
    scratch_ = at::empty({static_cast<std::int64_t>(device_scratch_bytes(options.patch))},
                         at::TensorOptions(device).dtype(at::kByte));
  }

  /// Bytes that the cases would take on the device.
  static double bytes(const std::vector<const CachedCase*>& cases) {
    double sum = 0;
    for (const CachedCase* source : cases) {
      sum += static_cast<double>(volume(source->shape)) *
             static_cast<double>(4 * source->channels + 2);
    }
    return sum;
  }

  Batch next() override {
    const c10::DeviceGuard guard(device_);
    Batch batch = empty_batch(options_, cases_.front()->channels, device_);
    for (std::int64_t sample = 0; sample < options_.batch; ++sample) {
      const SampleRecipe recipe = draw_sample(cases_, options_, region_, step_, sample);
      const auto i = static_cast<std::size_t>(recipe.choice.case_index);
      const DeviceCase source{cases_[i]->shape,
                              cases_[i]->channels,
                              images_[i].const_data_ptr<float>(),
                              labels_[i].const_data_ptr<std::int16_t>()};
      make_sample_cuda(source,
                       recipe.choice,
                       options_.patch,
                       recipe.plan,
                       batch.image[sample].data_ptr<float>(),
                       batch.target[sample].data_ptr<std::int16_t>(),
                       scratch_.data_ptr(),
                       current_stream(scratch_.device()));
    }
    ++step_;
    if (const auto& scheme = cases_.front()->scheme)
      batch.target = training_target(batch.target, *scheme);
    return batch;
  }

 private:
  const std::vector<const CachedCase*> cases_;
  const TrainOptions options_;
  const OutputRegion region_;
  const at::Device device_;
  std::int64_t step_;
  std::vector<at::Tensor> images_, labels_;
  at::Tensor scratch_;
};

}  // namespace

std::unique_ptr<BatchSource> make_source(const std::vector<const CachedCase*>& cases,
                                         const TrainOptions& options,
                                         std::int64_t first_step,
                                         const at::Device& device,
                                         const OutputRegion& region) {
  if (device.is_cuda() && kernels::cuda::compiled()) {
    const auto [free, total] = c10::getDeviceAllocator(at::kCUDA)->getMemoryInfo(device.index());
    (void)total;
    if (DeviceSource::bytes(cases) < 0.4 * static_cast<double>(free)) {
      return std::make_unique<DeviceSource>(cases, options, region, first_step, device);
    }
  }
  // On the CPU the processors belong to the arithmetic: one thread keeps ahead. A GPU needs all of
  // them.
  const int workers = device.is_cpu() ? 1 : std::max(1, processor_count() - 1);
  return std::make_unique<PrefetchingSource>(cases, options, region, first_step, workers);
}

}  // namespace nas
