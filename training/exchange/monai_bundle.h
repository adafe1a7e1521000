// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "training/model/model_folder.h"

namespace nas {

/// Writes the model as a MONAI bundle: LICENSE, configs/metadata.json, configs/inference.json,
/// models/model.ts (TorchScript), models/model.pt (state dict) and docs/README.md. The inference
/// configuration expresses our preprocessing by MONAI's transforms: load, crop to non-zero,
/// normalise, resample (Spacingd, cubic), axes in the network's order; sliding windows with
/// Gaussian weights; logits back to the image's grid, arg-max, one NIfTI file per image.
///
/// It is equal to `predict_image` where images have the planned spacing and fit into one window.
/// MONAI places windows at a fixed distance (ours are evenly spread), resamples logits with the
/// order of the image (ours linearly), knows no separate resampling of a coarse axis, and masks
/// z-scores by each channel's own zeros (ours: all channels', holes filled).
/// \param folder exists and is empty. \throws Error(Input) if the channels are normalised in
/// different ways, which its transforms cannot say.
void write_monai_bundle(const Model& model, const std::filesystem::path& folder);

}  // namespace nas
