// SPDX-License-Identifier: Apache-2.0
#include "training/augment.h"

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

/// The operations of kernels::cpu and kernels::cuda under one set of names.
struct CpuBackend {
  void crop_image(const float* image,
                  const Size3& size,
                  std::int64_t channels,
                  const CropPlace& place,
                  const Size3& patch,
                  float* out) const {
    kernels::cpu::crop_image(image, size, channels, place, patch, out);
  }
  void crop_label(const std::int16_t* label,
                  const Size3& size,
                  const CropPlace& place,
                  const Size3& patch,
                  std::int16_t* out) const {
    kernels::cpu::crop_label(label, size, place, patch, out);
  }
  void affine_image(const float* image,
                    const Size3& size,
                    std::int64_t channels,
                    const Affine3& map,
                    const Size3& patch,
                    float* out) const {
    kernels::cpu::affine_image(image, size, channels, map, patch, out);
  }
  void affine_label(const std::int16_t* label,
                    const Size3& size,
                    const Affine3& map,
                    const Size3& patch,
                    std::int16_t* out) const {
    kernels::cpu::affine_label(label, size, map, patch, out);
  }
  void add_noise(float* image,
                 std::int64_t voxels,
                 std::int64_t channels,
                 float deviation,
                 std::uint64_t key) const {
    kernels::cpu::add_noise(image, voxels, channels, deviation, key);
  }
  void blur(float* image, float* scratch, const Size3& size, const BlurTaps* taps) const {
    kernels::cpu::blur(image, scratch, size, taps);
  }
  void low_resolution(float* image, float* scratch, const Size3& size, const Size3& low) const {
    kernels::cpu::low_resolution(image, scratch, size, low);
  }
  void scale(float* image, std::int64_t n, float factor) const {
    kernels::cpu::scale(image, n, factor);
  }
  void stats(const float* image, std::int64_t n, void* scratch, Stats* out) const {
    kernels::cpu::stats(image, n, scratch, out);
  }
  void contrast(float* image, std::int64_t n, float factor, const Stats* s) const {
    kernels::cpu::contrast(image, n, factor, s);
  }
  void gamma(float* image, std::int64_t n, float exponent, bool invert, const Stats* s) const {
    kernels::cpu::gamma(image, n, exponent, invert, s);
  }
  void restore(float* image, std::int64_t n, const Stats* before, const Stats* after) const {
    kernels::cpu::restore(image, n, before, after);
  }
};

struct CudaBackend {
  void* stream;
  void crop_image(const float* image,
                  const Size3& size,
                  std::int64_t channels,
                  const CropPlace& place,
                  const Size3& patch,
                  float* out) const {
    kernels::cuda::crop_image(image, size, channels, place, patch, out, stream);
  }
  void crop_label(const std::int16_t* label,
                  const Size3& size,
                  const CropPlace& place,
                  const Size3& patch,
                  std::int16_t* out) const {
    kernels::cuda::crop_label(label, size, place, patch, out, stream);
  }
  void affine_image(const float* image,
                    const Size3& size,
                    std::int64_t channels,
                    const Affine3& map,
                    const Size3& patch,
                    float* out) const {
    kernels::cuda::affine_image(image, size, channels, map, patch, out, stream);
  }
  void affine_label(const std::int16_t* label,
                    const Size3& size,
                    const Affine3& map,
                    const Size3& patch,
                    std::int16_t* out) const {
    kernels::cuda::affine_label(label, size, map, patch, out, stream);
  }
  void add_noise(float* image,
                 std::int64_t voxels,
                 std::int64_t channels,
                 float deviation,
                 std::uint64_t key) const {
    kernels::cuda::add_noise(image, voxels, channels, deviation, key, stream);
  }
  void blur(float* image, float* scratch, const Size3& size, const BlurTaps* taps) const {
    kernels::cuda::blur(image, scratch, size, taps, stream);
  }
  void low_resolution(float* image, float* scratch, const Size3& size, const Size3& low) const {
    kernels::cuda::low_resolution(image, scratch, size, low, stream);
  }
  void scale(float* image, std::int64_t n, float factor) const {
    kernels::cuda::scale(image, n, factor, stream);
  }
  void stats(const float* image, std::int64_t n, void* scratch, Stats* out) const {
    kernels::cuda::stats(image, n, scratch, out, stream);
  }
  void contrast(float* image, std::int64_t n, float factor, const Stats* s) const {
    kernels::cuda::contrast(image, n, factor, s, stream);
  }
  void gamma(float* image, std::int64_t n, float exponent, bool invert, const Stats* s) const {
    kernels::cuda::gamma(image, n, exponent, invert, s, stream);
  }
  void restore(float* image, std::int64_t n, const Stats* before, const Stats* after) const {
    kernels::cuda::restore(image, n, before, after, stream);
  }
};

/// Memory of an augmentation: one channel, two statistics, partial sums.
struct Scratch {
  float* channel;
  Stats* before;
  Stats* after;
  void* partial;
};

/// The order of nnU-Net's list. Mirroring comes last there; here it is part of the spatial map.
template <class Backend>
void run_plan(const Backend& backend,
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
    backend.affine_image(image, size, channels, map, out, out_image);
    backend.affine_label(label, size, map, out, out_label);
  } else {
    CropPlace place;
    for (std::size_t a = 0; a < 3; ++a) {
      place.begin[a] = choice.begin[a];
      place.flip[a] = plan.flip[a];
    }
    backend.crop_image(image, size, channels, place, out, out_image);
    backend.crop_label(label, size, place, out, out_label);
  }

  const std::int64_t n = volume(patch);
  if (plan.noise_deviation > 0) {
    backend.add_noise(
        out_image, n, channels, static_cast<float>(plan.noise_deviation), plan.noise_key);
  }
  for (std::int64_t c = 0; c < channels; ++c) {
    const ChannelPlan& todo = plan.channels[static_cast<std::size_t>(c)];
    float* channel = out_image + c * n;
    if (todo.blur_sigma != std::array<double, 3>{0, 0, 0}) {
      BlurTaps taps[3];
      for (std::size_t a = 0; a < 3; ++a) {
        if (patch[a] > 1) taps[a] = kernels::make_blur_taps(todo.blur_sigma[a]);
      }
      backend.blur(channel, scratch.channel, out, taps);
    }
    if (todo.brightness != 1) backend.scale(channel, n, static_cast<float>(todo.brightness));
    if (todo.contrast != 1) {
      backend.stats(channel, n, scratch.partial, scratch.before);
      backend.contrast(channel, n, static_cast<float>(todo.contrast), scratch.before);
    }
    if (todo.zoom != std::array<double, 3>{1, 1, 1}) {
      std::array<std::int64_t, 3> low{};
      for (std::size_t a = 0; a < 3; ++a) {
        const double kept = std::nearbyint(static_cast<double>(patch[a]) * todo.zoom[a]);
        low[a] = std::clamp<std::int64_t>(static_cast<std::int64_t>(kept), 1, patch[a]);
      }
      backend.low_resolution(channel, scratch.channel, out, {low[0], low[1], low[2]});
    }
    for (const bool invert : {true, false}) {
      const double exponent = invert ? todo.gamma_inverted : todo.gamma;
      if (exponent == 1) continue;
      backend.stats(channel, n, scratch.partial, scratch.before);
      backend.gamma(channel, n, static_cast<float>(exponent), invert, scratch.before);
      backend.stats(channel, n, scratch.partial, scratch.after);
      backend.restore(channel, n, scratch.before, scratch.after);
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
  run_plan(CpuBackend{},
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
  run_plan(CudaBackend{stream},
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
