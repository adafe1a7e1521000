// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "training/settings/options.h"

namespace nas {

/// Whether TrainOptions::loss names a TorchScript file ("my_loss.ts"), and not one of ours.
bool is_loss_file(const std::string& loss);

/// The loss of a TorchScript module of the user's (training/model/script_file.h), summed over the
/// outputs as segmentation_loss does.
///
/// Its forward(logits, target) gives a scalar. logits [N, K, D, H, W]; target [N, 1, D, H, W], the
/// class of each voxel as float32, or of a data set with regions [N, K, D, H, W], 1 in the region.
/// It knows nothing of ignored voxels. \param options loss: the file, loss_settings.
/// \throws Error(Io|Input) naming the file: it cannot be opened, voxels are ignored, or it gives no
/// scalar.
at::Tensor script_loss(const std::vector<at::Tensor>& outputs,
                       const at::Tensor& target,
                       const TrainOptions& options);

/// Tries the loss of a file on two small patches before anything is trained: that it gives a finite
/// scalar which depends on the logits. A loss of ours needs none of it.
/// \param regions whether the data set has any; empty: unknown, either will do.
/// \throws Error(Io|Input) naming the file, what it was given and what it gave.
void probe_loss_file(const TrainOptions& options,
                     std::int64_t classes,
                     std::optional<bool> regions);

/// What a checkpoint knows of the loss besides the options: the hash of its file; "": it is ours.
std::string loss_file_hash(const TrainOptions& options);

}  // namespace nas
