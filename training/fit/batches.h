// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include <torch/torch.h>

#include "nas/network/output_region.h"
#include "training/data/preprocessing.h"
#include "training/settings/options.h"

namespace nas {

/// One batch on the training device.
struct Batch {
  at::Tensor image;   // [N, C, D, H, W] float32
  at::Tensor target;  // training_target: [N, D, H, W] int16, -1 ignored; with regions multi-hot
};

/// A batch of the options' size whose voxels are not set.
Batch empty_batch(const TrainOptions& options, std::int64_t channels, const at::Device& device);

/// The batch of step `step`, on the CPU: a function of the cases, `options` and the step alone.
/// \param region of the patch that the network describes (output_region); empty: all of it.
Batch make_batch(const std::vector<const CachedCase*>& cases,
                 const TrainOptions& options,
                 std::int64_t step,
                 const OutputRegion& region = {});

/// The batches of the steps in order, prepared ahead of their use, without end.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  virtual Batch next() = 0;
};
/// A source from step `first_step` on.
using MakeSource = std::function<std::unique_ptr<BatchSource>(std::int64_t first_step)>;
/// From step `first_step` on. On a GPU that has room for the data set samples are
/// made there. The cases must outlive the source.
std::unique_ptr<BatchSource> make_source(const std::vector<const CachedCase*>& cases,
                                         const TrainOptions& options,
                                         std::int64_t first_step,
                                         const at::Device& device,
                                         const OutputRegion& region = {});

}  // namespace nas
