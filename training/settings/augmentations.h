// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "nas/core/extent.h"
#include "nas/core/json.h"
#include "nas/core/rng.h"

namespace nas {

/// What happens to one channel; the neutral value of a member means "left out".
struct ChannelPlan {
  std::array<double, 3> blur_sigma{0, 0, 0};  // voxels, D H W
  double brightness = 1;                      // factor
  double contrast = 1;                        // factor around the mean, range kept
  std::array<double, 3> zoom{1, 1, 1};        // low resolution: share of the voxels kept, D H W
  double gamma_inverted = 1;                  // exponent on the negated image
  double gamma = 1;                           // exponent
  double scale = 1;                           // factor
  double shift = 0;                           // added
  bool drop = false;                          // all voxels become one value:
  bool drop_to_mean = false;                  // the channel's mean in the patch, else 0
  bool operator==(const ChannelPlan&) const = default;
};

/// Every random decision of one sample.
struct AugmentPlan {
  bool affine = false;         // false: a plain crop, no interpolation
  Vec3 angle{0, 0, 0};         // radians, about the D, H and W axis
  Vec3 scale{1, 1, 1};         // source voxels per patch voxel, D H W; > 1 shows more of the case
  Extent3 translate{0, 0, 0};  // voxels that the patch's place moves by
  std::array<bool, 3> flip{false, false, false};
  double noise_deviation = 0;   // of Gaussian noise, one field for all channels
  std::uint64_t noise_key = 0;  // Philox key; the counter is the voxel index
  std::vector<ChannelPlan> channels;
  bool operator==(const AugmentPlan&) const = default;
};

/// One row of a list of augmentations.
struct Augmentation {
  std::string name;          // of a row of augmentation_kinds()
  double prob = 0;           // of a sample, [0, 1]; of each axis for "mirror"
  std::vector<double> args;  // as AugmentationKind::args, all of them
  bool operator==(const Augmentation&) const = default;
};

/// Where the sample is drawn for.
struct AugmentPlace {
  Extent3 patch{0, 0, 0};    // voxels
  bool anisotropic = false;  // slices are kept: rotation and scaling in plane only
};

/// What is known of an augmentation. One table: reading, checks, strength and drawing take
/// everything from its row; training/data/augment.cpp carries out the drawn plan.
struct AugmentationKind {
  struct Arg {
    /// What a strength above 1 does to it: Power: to the power of the strength; Times: times it.
    enum class Widen { No, Times, Power };
    const char* name;
    double planned;    // nnU-Net's value, or ours where nnU-Net has no such augmentation
    double low, high;  // what is allowed, and where widening ends
    Widen widen;
    const char* what;
  };
  const char* name;
  const char* stream;  // label of its random numbers
  bool standard;       // in nnU-Net's list
  bool by_sample;      // happens to a sample with `prob`, which a strength multiplies; else `draw`
                       // uses it as it is
  double prob;         // planned
  std::vector<Arg> args;
  void (*draw)(const Augmentation& wanted, const AugmentPlace& place, Rng& rng, AugmentPlan& plan);
};

/// The table; in its order samples are augmented.
///
///   rotate 0.2: each angle within +-degrees (30); of an anisotropic patch +-plane_degrees (180), in
///     plane · scale 0.2: zoom low..high (0.7..1.4), in plane if anisotropic · crop_translate: the
///     place of the patch moves by up to `share` (0.1) of its size on each axis, whole voxels ·
///     mirror 0.5 of each axis, times d, h, w (1) · noise 0.1: Gaussian, deviation low..high
///     (0..0.1) · blur 0.2: sigma low..high voxels (0.5..1) per axis, each channel with channel_prob
///     (0.5) · brightness 0.15: factor low..high (0.75..1.25) per channel · contrast 0.15: the same
///     around the mean, range kept · low_resolution 0.25: low..high (0.5..1) of the voxels per axis,
///     each channel with channel_prob (0.5) · gamma_inverted 0.1, gamma 0.3: exponent low..high
///     (0.7..1.5), mean and deviation kept · scale_intensity: times 1 + u, u within +-factor (0.3),
///     the same for all channels · shift_intensity: plus u, u within +-offset (0.1), the same for
///     all · channel_dropout: each channel with channel_prob (0.5) becomes 0, or its mean where
///     to_mean is 1; one is always kept.
///
/// Ranges of factors that contain 1 are drawn below and above 1 with equal probability. Source:
/// nnU-Net 2.8 `get_training_transforms` on batchgeneratorsv2, which names the noise range a
/// variance but uses it as the deviation; so do we. scale_intensity and shift_intensity: MONAI's
/// RandScaleIntensity and RandShiftIntensity. Where we differ: angles are in voxels (nnU-Net's are
/// in a patch scaled to a cube), the patch is cut around its own centre from the whole case (nnU-Net
/// cuts a larger crop first).
const std::vector<AugmentationKind>& augmentation_kinds();
/// \throws Error(Usage) with the nearest known name.
const AugmentationKind& augmentation_kind(std::string_view name, const std::string& where);

/// A row with the table's values. \throws as augmentation_kind.
Augmentation planned_augmentation(std::string_view name);
/// nnU-Net's list, with its probabilities and ranges.
std::vector<Augmentation> standard_augmentations();

/// The list that does at strength 1 what `list` does at `strength` [0, 2], bit for bit: every
/// probability (but mirror's) is prob * strength, at most 1. Up to strength 1 the ranges stay;
/// above, they widen: angles, noise, the largest blur, factor and offset times the strength, other
/// factors to its power. At 0 nothing is left.
std::vector<Augmentation> at_strength(const std::vector<Augmentation>& list, double strength);

/// Draws the decisions of a sample. Each row has its own random numbers, so that the others stay
/// as they are when one is added or left out. \param list as at_strength gives it.
AugmentPlan draw_plan(const std::vector<Augmentation>& list,
                      const AugmentPlace& place,
                      std::int64_t channels,
                      const Rng& rng);

/// Whether the list mirrors at all.
bool mirrors(const std::vector<Augmentation>& list);

Json to_json(const std::vector<Augmentation>& list);
/// A list of {"name", "prob", "args": {...}}, given back in the table's order. What is left out has
/// the table's value. \throws Error(Usage|Input) naming the row and the key: an unknown name, key
/// or argument (with the nearest known one), a name twice, a value out of range.
std::vector<Augmentation> augmentations_from_json(const JsonReader& reader);

}  // namespace nas
