// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "nas/core/extent.h"
#include "nas/core/rng.h"
#include "training/data/patches.h"
#include "training/data/preprocessing.h"

namespace nas {

/// How strongly samples are augmented.
///
/// strength s scales nnU-Net's list: every probability is p * s, at most 1. Up to s = 1 the ranges
/// are nnU-Net's; above, they widen: angles and noise times s, the largest blur sigma times s,
/// factors (scale, brightness, contrast, gamma, zoom) to the power s. s = 0 is the plain crop,
/// without mirroring.
struct AugmentOptions {
  double strength = 1;  // [0, 2]
  bool mirror = true;   // flip every axis with probability 0.5 (not scaled by strength > 0)
};

/// What happens to one channel; the neutral value of a member means "left out".
struct ChannelPlan {
  std::array<double, 3> blur_sigma{0, 0, 0};  // voxels, D H W
  double brightness = 1;                      // factor
  double contrast = 1;                        // factor around the mean, range kept
  std::array<double, 3> zoom{1, 1, 1};        // low resolution: share of the voxels kept, D H W
  double gamma_inverted = 1;                  // exponent on the negated image
  double gamma = 1;                           // exponent
  bool operator==(const ChannelPlan&) const = default;
};

/// Every random decision of one sample.
struct AugmentPlan {
  bool affine = false;  // false: a plain crop, no interpolation
  Vec3 angle{0, 0, 0};  // radians, about the D, H and W axis
  Vec3 scale{1, 1, 1};  // source voxels per patch voxel, D H W; > 1 shows more of the case
  std::array<bool, 3> flip{false, false, false};
  double noise_deviation = 0;   // of Gaussian noise, one field for all channels
  std::uint64_t noise_key = 0;  // Philox key; the counter is the voxel index
  std::vector<ChannelPlan> channels;
  bool operator==(const AugmentPlan&) const = default;
};

/// Draws the decisions for a sample: nnU-Net's list, in its order, with its probabilities and
/// ranges.
///
///   rotation 0.2 (each angle +-30 degrees; anisotropic: +-180 in plane only) · scaling 0.2
///   (0.7..1.4; in plane if anisotropic) · noise 0.1 (deviation 0..0.1) · blur 0.2 and 0.5 per
///   channel (sigma 0.5..1 per axis) · brightness 0.15 (0.75..1.25) · contrast 0.15 (0.75..1.25) ·
///   low resolution 0.25 and 0.5 per channel (zoom 0.5..1) · gamma on the inverted image 0.1, gamma
///   0.3 (0.7..1.5) · mirroring 0.5 per axis.
///
/// Factor ranges that contain 1 are drawn below 1 with probability 0.5. Source: nnU-Net 2.8
/// `get_training_transforms` on batchgeneratorsv2, which names the noise range a variance but uses
/// it as the deviation; so do we. Where we differ: angles are in voxels (nnU-Net's are in a patch
/// scaled to a cube), the patch is cut around its own centre from the whole case (nnU-Net cuts a
/// larger crop first).
AugmentPlan draw_augmentation(const AugmentOptions& options,
                              const Extent3& patch,
                              std::int64_t channels,
                              Rng rng,
                              bool anisotropic = false);

/// nnU-Net's "dummy 2D" rule: the longest axis of the patch is more than three times the first.
bool is_anisotropic_patch(const Extent3& patch);

/// Crop -> rotate/scale/flip -> intensity. Images are interpolated linearly; a label is the one
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
