// SPDX-License-Identifier: Apache-2.0
#pragma once

// The formulas of the augmentation, one voxel at a time, for CPU loops and CUDA kernels alike.
// Plain C types only.

#include <cmath>
#include <cstdint>

#include "nas/core/philox.h"

namespace nas::kernels {

/// Voxels along D, H, W.
struct Size3 {
  std::int64_t d = 0, h = 0, w = 0;
};
NAS_HD std::int64_t voxel_count(const Size3& s) { return s.d * s.h * s.w; }

/// Source coordinate = m * (z, y, x) of the patch + t, in voxel indices; rows and columns are D, H,
/// W.
struct Affine3 {
  float m[9] = {1, 0, 0, 0, 1, 0, 0, 0, 1};
  float t[3] = {0, 0, 0};
};

struct Point3 {
  float z, y, x;
};
NAS_HD Point3 affine_point(const Affine3& a, std::int64_t z, std::int64_t y, std::int64_t x) {
  const float fz = static_cast<float>(z), fy = static_cast<float>(y), fx = static_cast<float>(x);
  return {a.m[0] * fz + a.m[1] * fy + a.m[2] * fx + a.t[0],
          a.m[3] * fz + a.m[4] * fy + a.m[5] * fx + a.t[1],
          a.m[6] * fz + a.m[7] * fy + a.m[8] * fx + a.t[2]};
}

/// The eight voxels around a point with their weights; those outside the volume have offset -1.
struct Corners {
  std::int64_t offset[8];
  float weight[8];
};
/// \returns false if all eight are outside (or the point is not a number).
NAS_HD bool find_corners(const Size3& s, const Point3& p, Corners& c) {
  // Written so that NaN and far points fail before any conversion to an integer.
  if (!(p.z > -1.0f && p.y > -1.0f && p.x > -1.0f && p.z < static_cast<float>(s.d) &&
        p.y < static_cast<float>(s.h) && p.x < static_cast<float>(s.w))) {
    return false;
  }
  const float bz = floorf(p.z), by = floorf(p.y), bx = floorf(p.x);
  const std::int64_t z0 = static_cast<std::int64_t>(bz), y0 = static_cast<std::int64_t>(by),
                     x0 = static_cast<std::int64_t>(bx);
  const float wz = p.z - bz, wy = p.y - by, wx = p.x - bx;
  const bool inside = z0 >= 0 && y0 >= 0 && x0 >= 0 && z0 + 1 < s.d && y0 + 1 < s.h && x0 + 1 < s.w;
  const std::int64_t base = (z0 * s.h + y0) * s.w + x0;
  for (int k = 0; k < 8; ++k) {
    const int dz = k >> 2, dy = (k >> 1) & 1, dx = k & 1;
    c.weight[k] = (dz ? wz : 1.0f - wz) * (dy ? wy : 1.0f - wy) * (dx ? wx : 1.0f - wx);
    const bool valid = inside || (z0 + dz >= 0 && z0 + dz < s.d && y0 + dy >= 0 && y0 + dy < s.h &&
                                  x0 + dx >= 0 && x0 + dx < s.w);
    c.offset[k] = valid ? base + (dz * s.h + dy) * s.w + dx : -1;
  }
  return true;
}

/// Trilinear, 0 outside.
NAS_HD float sample_trilinear(const float* volume, const Corners& c) {
  float sum = 0.0f;
  for (int k = 0; k < 8; ++k) {
    if (c.offset[k] >= 0) sum += c.weight[k] * volume[c.offset[k]];
  }
  return sum;
}

/// -1 (outside the non-zero mask) is background.
NAS_HD std::int16_t clean_label(std::int16_t label) {
  return label < 0 ? static_cast<std::int16_t>(0) : label;
}

/// The label with the largest total weight among the corners, the smaller id on a tie; background
/// outside.
NAS_HD std::int16_t sample_label(const std::int16_t* volume, const Corners& c) {
  std::int16_t value[8];
  bool same = true;
  for (int k = 0; k < 8; ++k) {
    value[k] = c.offset[k] >= 0 ? clean_label(volume[c.offset[k]]) : static_cast<std::int16_t>(0);
    same = same && value[k] == value[0];
  }
  if (same) return value[0];
  std::int16_t best = 0;
  float best_weight = -1.0f;
  for (const std::int16_t label : value) {
    float weight = 0.0f;
    for (int j = 0; j < 8; ++j) weight += value[j] == label ? c.weight[j] : 0.0f;
    if (weight > best_weight || (weight == best_weight && label < best)) {
      best = label;
      best_weight = weight;
    }
  }
  return best;
}

/// Source index along one axis of a plain crop: negative or >= size means padding.
NAS_HD std::int64_t crop_index(std::int64_t i, std::int64_t begin, std::int64_t patch, bool flip) {
  return begin + (flip ? patch - 1 - i : i);
}

/// Four standard normal numbers for voxels 4 * group .. 4 * group + 3 (Philox, Box-Muller).
NAS_HD void normal4(std::uint64_t key, std::uint64_t group, float out[4]) {
  const Philox4 words = philox4x32(key, group);
  for (int pair = 0; pair < 2; ++pair) {
    // 1 - u lies in (0, 1]: the logarithm is finite.
    const float radius = sqrtf(-2.0f * logf(1.0f - uniform_from_bits(words.v[2 * pair])));
    const float angle = 6.28318530717958647692f * uniform_from_bits(words.v[2 * pair + 1]);
    out[2 * pair] = radius * cosf(angle);
    out[2 * pair + 1] = radius * sinf(angle);
  }
}

/// Index mirrored at the ends without repeating them (..., 2, 1, 0, 1, 2, ...), for any distance.
NAS_HD std::int64_t reflect_index(std::int64_t i, std::int64_t n) {
  if (n == 1) return 0;
  const std::int64_t period = 2 * (n - 1);
  i = (i % period + period) % period;
  return i < n ? i : period - i;
}

/// A symmetric Gaussian of 2 * radius + 1 taps that sum to 1.
struct BlurTaps {
  static constexpr int kMaxRadius = 8;
  int radius = 0;
  float weight[2 * kMaxRadius + 1] = {1};
};
/// The radius rounds 3 sigma - 1/4: nnU-Net's taps (1 at sigma 0.5, 3 at sigma 1). Host only.
inline BlurTaps make_blur_taps(double sigma) {
  BlurTaps taps;
  if (!(sigma > 0)) return taps;
  const double wanted = std::floor(3 * sigma + 0.25);
  taps.radius = wanted < 1                      ? 1
                : wanted > BlurTaps::kMaxRadius ? BlurTaps::kMaxRadius
                                                : static_cast<int>(wanted);
  double sum = 0;
  for (int k = -taps.radius; k <= taps.radius; ++k) sum += std::exp(-0.5 * k * k / (sigma * sigma));
  for (int k = -taps.radius; k <= taps.radius; ++k) {
    taps.weight[k + taps.radius] =
        static_cast<float>(std::exp(-0.5 * k * k / (sigma * sigma)) / sum);
  }
  return taps;
}

/// Going down to `low` voxels (nearest centre) and back to n (linear, centres aligned) along one
/// axis: voxel i is (1 - weight) * source[first] + weight * source[second], with source indices in
/// the n-voxel grid.
struct LowTap {
  std::int64_t first, second;
  float weight;
};
NAS_HD LowTap low_resolution_tap(std::int64_t i, std::int64_t low, std::int64_t n) {
  const float ratio = static_cast<float>(low) / static_cast<float>(n);
  float place = (static_cast<float>(i) + 0.5f) * ratio - 0.5f;
  place = place < 0.0f ? 0.0f : place;
  std::int64_t j = static_cast<std::int64_t>(place);
  j = j < low ? j : low - 1;
  const std::int64_t next = j + 1 < low ? j + 1 : low - 1;
  // Nearest centre, exact in integers: floor((j + 1/2) * n / low).
  return {
      (2 * j + 1) * n / (2 * low), (2 * next + 1) * n / (2 * low), place - static_cast<float>(j)};
}
NAS_HD float mix(float a, float b, float weight) { return (1.0f - weight) * a + weight * b; }

/// Of one channel of a patch.
struct Stats {
  float minimum, maximum, mean, deviation;  // population deviation
};

/// Contrast around the mean, kept within the range before.
NAS_HD float contrast_voxel(float x, float factor, const Stats& s) {
  const float y = (x - s.mean) * factor + s.mean;
  return y < s.minimum ? s.minimum : y > s.maximum ? s.maximum : y;
}

/// Gamma on the range of the channel. `sign` -1 works on the negated image.
NAS_HD float gamma_voxel(float x, float exponent, float sign, const Stats& s) {
  const float low = sign > 0.0f ? s.minimum : -s.maximum;
  const float range = s.maximum - s.minimum;
  const float safe = range > 1e-7f ? range : 1e-7f;
  float base = (sign * x - low) / safe;
  base = base < 0.0f ? 0.0f : base;
  return sign * (powf(base, exponent) * range + low);
}

/// Gives a channel its old mean and deviation back.
NAS_HD float restore_voxel(float x, const Stats& before, const Stats& after) {
  const float safe = after.deviation > 1e-7f ? after.deviation : 1e-7f;
  return (x - after.mean) * (before.deviation / safe) + before.mean;
}

}  // namespace nas::kernels
