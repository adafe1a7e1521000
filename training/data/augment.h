// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "nas/core/extent.h"
#include "nas/core/rng.h"
#include "training/data/patches.h"
#include "training/data/preprocessing.h"
#include "training/settings/augmentations.h"

namespace nas {

/// How samples are augmented: `list` at `strength` (at_strength).
struct AugmentOptions {
  double strength = 1;  // [0, 2]; 0: the plain crop, without mirroring
  bool mirror = true;   // false: the list's mirroring is left out
  std::optional<std::vector<Augmentation>> list = std::nullopt;  // none: nnU-Net's
};

/// Draws the decisions for a sample (draw_plan).
AugmentPlan draw_augmentation(const AugmentOptions& options,
                              const Extent3& patch,
                              std::int64_t channels,
                              Rng rng,
                              bool anisotropic = false);

/// nnU-Net's "dummy 2D" rule: the longest axis of the patch is more than three times the first.
bool is_anisotropic_patch(const Extent3& patch);

/// Crop -> rotate/scale/flip -> intensity, in the order of augmentation_kinds(). Images are interpolated linearly; a label is the one
/// with the largest trilinear weight around the place (the smaller id on a tie), which is nnU-Net's
/// linear interpolation of one-hot labels. Outside the case images are 0 and labels background;
/// label -1 becomes 0 as nnU-Net's RemoveLabel does. The same plan and case give the same bits on
/// any thread. \param image [C, D, H, W] of `patch`, overwritten. \param label [D, H, W],
/// overwritten. \throws Error(Shape) if the plan's channels are not the case's.
void make_sample(const CachedCase& source,
                 const PatchChoice& choice,
                 const Extent3& patch,
                 const AugmentPlan& plan,
                 float* image,
                 std::int16_t* label);

/// A case whose voxels lie in device memory.
struct DeviceCase {
  Extent3 shape{0, 0, 0};
  std::int64_t channels = 1;
  const float* image = nullptr;         // device, [C, D, H, W]
  const std::int16_t* label = nullptr;  // device, [D, H, W]
};

/// Bytes of device memory that make_sample_cuda needs as scratch for this patch.
std::size_t device_scratch_bytes(const Extent3& patch);

/// make_sample on a CUDA device: the same voxel functions, launched on `stream` without waiting.
/// Equal to the CPU up to the last bits of logarithm, cosine and power. \param image, label,
/// scratch device memory; `scratch` (256-byte aligned, one per stream) of
/// device_scratch_bytes(patch). \param stream a cudaStream_t. \throws Error in a build without
/// CUDA.
void make_sample_cuda(const DeviceCase& source,
                      const PatchChoice& choice,
                      const Extent3& patch,
                      const AugmentPlan& plan,
                      float* image,
                      std::int16_t* label,
                      void* scratch,
                      void* stream);

}  // namespace nas
