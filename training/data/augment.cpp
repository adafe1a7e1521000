// SPDX-License-Identifier: Apache-2.0
#include "training/data/augment.h"

#include <algorithm>
#include <cmath>
#include <numbers>

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

/// A factor from a range around 1: below and above 1 with equal probability.
double draw_factor(Rng& rng, double low, double high) {
  return rng.chance(0.5) ? rng.uniform(low, 1.0) : rng.uniform(1.0, high);
}

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
    double move = static_cast<double>(choice.begin[i]) + 0.5 * static_cast<double>(patch[i] - 1);
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

/// The order of nnU-Net's list. Mirroring comes last there; here it is part of the spatial map.
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
      crop.begin[a] = choice.begin[a];
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
  NAS_CHECK(options.strength >= 0 && options.strength <= 2,
            "augmentation strength must be in [0, 2], got ",
            options.strength);
  NAS_CHECK_KIND(Shape, channels >= 1, "draw_augmentation: expected channels >= 1, got ", channels);
  AugmentPlan plan;
  plan.channels.resize(static_cast<std::size_t>(channels));
  const double s = options.strength;
  if (s == 0) return plan;
  const double wide = std::max(1.0, s);
  const auto probability = [s](double p) { return std::min(1.0, p * s); };
  const auto widened = [wide](double factor) { return std::pow(factor, wide); };

  // Each kind of decision has its own stream: adding one leaves the others as they were.
  Rng rotate = rng.split("rotation");
  if (rotate.chance(probability(0.2))) {
    plan.affine = true;
    const double range =
        std::min(180.0, (anisotropic ? 180.0 : 30.0) * wide) * std::numbers::pi / 180.0;
    for (std::size_t a = 0; a < 3; ++a) {
      const double angle = rotate.uniform(-range, range);
      if (a == 0 || !anisotropic) plan.angle[a] = angle;
    }
  }
  Rng rescale = rng.split("scaling");
  if (rescale.chance(probability(0.2))) {
    plan.affine = true;
    const double factor = rescale.uniform(widened(0.7), widened(1.4));
    plan.scale = {anisotropic ? 1.0 : factor, factor, factor};
  }
  Rng noise = rng.split("noise");
  if (noise.chance(probability(0.1))) {
    plan.noise_deviation = noise.uniform(0, 0.1 * wide);
    plan.noise_key = noise.bits64();
  }
  Rng blur = rng.split("blur");
  if (blur.chance(probability(0.2))) {
    for (ChannelPlan& channel : plan.channels) {
      const bool chosen = blur.chance(0.5);
      for (double& sigma : channel.blur_sigma) {
        const double drawn = blur.uniform(0.5, 1.0 * wide);
        if (chosen) sigma = drawn;
      }
    }
  }
  const auto factor_each =
      [&](const char* name, double p, double low, double high, double ChannelPlan::*member) {
        Rng draw = rng.split(name);
        if (!draw.chance(probability(p))) return;
        for (ChannelPlan& channel : plan.channels) {
          channel.*member = draw_factor(draw, widened(low), widened(high));
        }
      };
  factor_each("brightness", 0.15, 0.75, 1.25, &ChannelPlan::brightness);
  factor_each("contrast", 0.15, 0.75, 1.25, &ChannelPlan::contrast);
  Rng low = rng.split("low resolution");
  if (low.chance(probability(0.25))) {
    for (ChannelPlan& channel : plan.channels) {
      const bool chosen = low.chance(0.5);
      const double zoom = low.uniform(widened(0.5), 1.0);
      if (chosen) channel.zoom = {anisotropic ? 1.0 : zoom, zoom, zoom};
    }
  }
  factor_each("gamma inverted", 0.1, 0.7, 1.5, &ChannelPlan::gamma_inverted);
  factor_each("gamma", 0.3, 0.7, 1.5, &ChannelPlan::gamma);
  if (options.mirror) {
    Rng mirror = rng.split("mirror");
    for (std::size_t a = 0; a < 3; ++a) plan.flip[a] = mirror.chance(0.5) && patch[a] > 1;
  }
  return plan;
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
