// SPDX-License-Identifier: Apache-2.0
#include "training/data/augment.h"

#include <algorithm>
#include <cmath>

#include "nas/core/error.h"
#include "training/kernels/kernels.h"

namespace nas {
namespace {

using kernels::Affine3;
using kernels::BlurTaps;
using kernels::CropPlace;
using kernels::Size3;
using kernels::Stats;
using Matrix3 = std::array<std::array<double, 3>, 3>;

Matrix3 multiply(const Matrix3& a, const Matrix3& b) {
  Matrix3 out{};
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t j = 0; j < 3; ++j) {
      for (std::size_t k = 0; k < 3; ++k) out[i][j] += a[i][k] * b[k][j];
    }
  }
  return out;
}

/// Rotation by `angle` about `axis`, in (D, H, W) coordinates.
Matrix3 rotation(std::size_t axis, double angle) {
  Matrix3 m{{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};
  const std::size_t i = axis == 0 ? 1 : 0, j = axis == 2 ? 1 : 2;
  m[i][i] = m[j][j] = std::cos(angle);
  m[i][j] = -std::sin(angle);
  m[j][i] = std::sin(angle);
  return m;
}

/// Patch voxel -> source voxel: flip, then scale and rotate about the patch centre, then move to
/// the patch's place.
Affine3 patch_to_source(const AugmentPlan& plan, const PatchChoice& choice, const Extent3& patch) {
  Matrix3 m = multiply(rotation(0, plan.angle[0]),
                       multiply(rotation(1, plan.angle[1]), rotation(2, plan.angle[2])));
  Affine3 map;
  for (std::size_t i = 0; i < 3; ++i) {
    double move = static_cast<double>(choice.begin[i] + plan.translate[i]) +
                  0.5 * static_cast<double>(patch[i] - 1);
    for (std::size_t j = 0; j < 3; ++j) {
      m[i][j] *= plan.scale[j] * (plan.flip[j] ? -1.0 : 1.0);
      move -= m[i][j] * 0.5 * static_cast<double>(patch[j] - 1);
      map.m[3 * i + j] = static_cast<float>(m[i][j]);
    }
    map.t[i] = static_cast<float>(move);
  }
  return map;
}

Size3 to_size(const Extent3& e) { return {e[0], e[1], e[2]}; }

/// Where a sample is made: on the CPU, or on `stream` of the CUDA device that holds it.
struct Place {
  bool cuda = false;
  void* stream = nullptr;
};
/// kernels::cpu::NAME(...) or kernels::cuda::NAME(..., stream): the same operations, which differ
/// in the stream alone.
#define NAS_KERNEL(PLACE, NAME, ...)                               \
  ((PLACE).cuda ? kernels::cuda::NAME(__VA_ARGS__, (PLACE).stream) \
                : kernels::cpu::NAME(__VA_ARGS__))

/// Memory of an augmentation: one channel, two statistics, partial sums.
struct Scratch {
  float* channel;
  Stats* before;
  Stats* after;
  void* partial;
};

/// The order of the table, which is nnU-Net's; mirroring comes last there, here it is part of the
/// spatial map.
void run_plan(const Place& place,
              const float* image,
              const std::int16_t* label,
              const Extent3& shape,
              std::int64_t channels,
              const PatchChoice& choice,
              const Extent3& patch,
              const AugmentPlan& plan,
              float* out_image,
              std::int16_t* out_label,
              const Scratch& scratch) {
  const Size3 size = to_size(shape), out = to_size(patch);
  if (plan.affine) {
    const Affine3 map = patch_to_source(plan, choice, patch);
    NAS_KERNEL(place, affine_image, image, size, channels, map, out, out_image);
    NAS_KERNEL(place, affine_label, label, size, map, out, out_label);
  } else {
    CropPlace crop;
    for (std::size_t a = 0; a < 3; ++a) {
      crop.begin[a] = choice.begin[a] + plan.translate[a];
      crop.flip[a] = plan.flip[a];
    }
    NAS_KERNEL(place, crop_image, image, size, channels, crop, out, out_image);
    NAS_KERNEL(place, crop_label, label, size, crop, out, out_label);
  }

  const std::int64_t n = volume(patch);
  if (plan.noise_deviation > 0) {
    NAS_KERNEL(place,
               add_noise,
               out_image,
               n,
               channels,
               static_cast<float>(plan.noise_deviation),
               plan.noise_key);
  }
  for (std::int64_t c = 0; c < channels; ++c) {
    const ChannelPlan& todo = plan.channels[static_cast<std::size_t>(c)];
    float* channel = out_image + c * n;
    if (todo.blur_sigma != std::array<double, 3>{0, 0, 0}) {
      BlurTaps taps[3];
      for (std::size_t a = 0; a < 3; ++a) {
        if (patch[a] > 1) taps[a] = kernels::make_blur_taps(todo.blur_sigma[a]);
      }
      NAS_KERNEL(place, blur, channel, scratch.channel, out, taps);
    }
    if (todo.brightness != 1)
      NAS_KERNEL(place, scale, channel, n, static_cast<float>(todo.brightness));
    if (todo.contrast != 1) {
      NAS_KERNEL(place, stats, channel, n, scratch.partial, scratch.before);
      NAS_KERNEL(place, contrast, channel, n, static_cast<float>(todo.contrast), scratch.before);
    }
    if (todo.zoom != std::array<double, 3>{1, 1, 1}) {
      Extent3 kept{};
      for (std::size_t a = 0; a < 3; ++a) {
        const double share = std::nearbyint(static_cast<double>(patch[a]) * todo.zoom[a]);
        kept[a] = std::clamp<std::int64_t>(static_cast<std::int64_t>(share), 1, patch[a]);
      }
      const Size3 low = to_size(kept);
      NAS_KERNEL(place, low_resolution, channel, scratch.channel, out, low);
    }
    for (const bool invert : {true, false}) {
      const double exponent = invert ? todo.gamma_inverted : todo.gamma;
      if (exponent == 1) continue;
      NAS_KERNEL(place, stats, channel, n, scratch.partial, scratch.before);
      NAS_KERNEL(place, gamma, channel, n, static_cast<float>(exponent), invert, scratch.before);
      NAS_KERNEL(place, stats, channel, n, scratch.partial, scratch.after);
      NAS_KERNEL(place, restore, channel, n, scratch.before, scratch.after);
    }
    if (todo.scale != 1) NAS_KERNEL(place, scale, channel, n, static_cast<float>(todo.scale));
    if (todo.shift != 0) NAS_KERNEL(place, shift, channel, n, static_cast<float>(todo.shift));
    if (todo.drop && todo.drop_to_mean) {
      NAS_KERNEL(place, stats, channel, n, scratch.partial, scratch.before);
      NAS_KERNEL(place, fill_mean, channel, n, scratch.before);
    } else if (todo.drop) {
      NAS_KERNEL(place, scale, channel, n, 0.0F);
    }
  }
}

void check_sample(const Extent3& shape,
                  std::int64_t channels,
                  const Extent3& patch,
                  const AugmentPlan& plan,
                  bool has_label) {
  NAS_CHECK_KIND(Shape,
                 static_cast<std::int64_t>(plan.channels.size()) == channels,
                 "make_sample: the case has ",
                 channels,
                 " channels, the augmentation plan ",
                 plan.channels.size());
  NAS_CHECK_KIND(Shape,
                 patch[0] > 0 && patch[1] > 0 && patch[2] > 0 && volume(shape) > 0,
                 "make_sample: empty patch ",
                 to_text(patch),
                 " or case ",
                 to_text(shape));
  NAS_CHECK(has_label, "make_sample: the case has no label");
}

std::size_t round_up(std::size_t bytes) { return (bytes + 255) / 256 * 256; }

}  // namespace

bool is_anisotropic_patch(const Extent3& patch) {
  return *std::max_element(patch.begin(), patch.end()) > 3 * patch[0];
}

AugmentPlan draw_augmentation(const AugmentOptions& options,
                              const Extent3& patch,
                              std::int64_t channels,
                              Rng rng,
                              bool anisotropic) {
  std::vector<Augmentation> list =
      at_strength(options.list ? *options.list : standard_augmentations(), options.strength);
  if (!options.mirror) {
    std::erase_if(list, [](const Augmentation& row) { return row.name == "mirror"; });
  }
  return draw_plan(list, {.patch = patch, .anisotropic = anisotropic}, channels, rng);
}

void make_sample(const CachedCase& source,
                 const PatchChoice& choice,
                 const Extent3& patch,
                 const AugmentPlan& plan,
                 float* image,
                 std::int16_t* label) {
  check_sample(source.shape, source.channels, patch, plan, source.label != nullptr);
  bool needs_scratch = false;
  for (const ChannelPlan& c : plan.channels) {
    needs_scratch = needs_scratch || c.blur_sigma != std::array<double, 3>{0, 0, 0} ||
                    c.zoom != std::array<double, 3>{1, 1, 1};
  }
  std::vector<float> channel(needs_scratch ? static_cast<std::size_t>(volume(patch)) : 0);
  Stats before{}, after{};
  run_plan({},
           source.image,
           source.label,
           source.shape,
           source.channels,
           choice,
           patch,
           plan,
           image,
           label,
           {channel.data(), &before, &after, nullptr});
}

std::size_t device_scratch_bytes(const Extent3& patch) {
  return round_up(sizeof(float) * static_cast<std::size_t>(volume(patch))) + 2 * 256 +
         round_up(kernels::cuda::stats_scratch_bytes());
}

void make_sample_cuda(const DeviceCase& source,
                      const PatchChoice& choice,
                      const Extent3& patch,
                      const AugmentPlan& plan,
                      float* image,
                      std::int16_t* label,
                      void* scratch,
                      void* stream) {
  check_sample(source.shape, source.channels, patch, plan, source.label != nullptr);
  auto* bytes = static_cast<std::byte*>(scratch);
  const std::size_t channel = round_up(sizeof(float) * static_cast<std::size_t>(volume(patch)));
  run_plan({.cuda = true, .stream = stream},
           source.image,
           source.label,
           source.shape,
           source.channels,
           choice,
           patch,
           plan,
           image,
           label,
           {reinterpret_cast<float*>(bytes),
            reinterpret_cast<Stats*>(bytes + channel),
            reinterpret_cast<Stats*>(bytes + channel + 256),
            bytes + channel + 512});
}

}  // namespace nas
