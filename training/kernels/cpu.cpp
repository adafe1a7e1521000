// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "training/kernels/kernels.h"

namespace nas::kernels::cpu {
namespace {

/// A plain crop by rows; of each row the patch voxels [first, last) lie inside the source, the
/// others become 0.
template <class T, class Convert>
void crop(const T* source,
          const Size3& size,
          const CropPlace& place,
          const Size3& patch,
          T* out,
          const Convert& convert) {
  // Patch voxels along W that lie inside, as a range.
  const std::int64_t begin = place.begin[2];
  std::int64_t first = std::clamp<std::int64_t>(-begin, 0, patch.w);
  std::int64_t last = std::clamp<std::int64_t>(size.w - begin, first, patch.w);
  if (place.flip[2]) {
    const std::int64_t flipped_first = patch.w - last;
    last = patch.w - first;
    first = flipped_first;
  }
  for (std::int64_t z = 0; z < patch.d; ++z) {
    const std::int64_t sz = crop_index(z, place.begin[0], patch.d, place.flip[0]);
    for (std::int64_t y = 0; y < patch.h; ++y) {
      const std::int64_t sy = crop_index(y, place.begin[1], patch.h, place.flip[1]);
      T* to = out + (z * patch.h + y) * patch.w;
      if (sz < 0 || sz >= size.d || sy < 0 || sy >= size.h || first >= last) {
        std::fill(to, to + patch.w, T{0});
        continue;
      }
      const T* row = source + (sz * size.h + sy) * size.w;
      std::fill(to, to + first, T{0});
      const T* from = row + crop_index(first, begin, patch.w, place.flip[2]);
      if (place.flip[2]) {
        for (std::int64_t x = first; x < last; ++x) to[x] = convert(from[first - x]);
      } else {
        for (std::int64_t x = first; x < last; ++x) to[x] = convert(from[x - first]);
      }
      std::fill(to + last, to + patch.w, T{0});
    }
  }
}

/// out[i] = sum over k of weight[k] * in[k][i].
void weighted_rows(
    const float* const* in, const float* weight, int count, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = weight[0] * in[0][i];
  for (int k = 1; k < count; ++k) {
    const float w = weight[k];
    const float* from = in[k];
    for (std::int64_t i = 0; i < n; ++i) out[i] += w * from[i];
  }
}

/// Blurs along one axis seen as [outer, n, inner].
void blur_axis(const float* in,
               float* out,
               std::int64_t outer,
               std::int64_t n,
               std::int64_t inner,
               const BlurTaps& taps) {
  const int count = 2 * taps.radius + 1;
  std::array<const float*, 2 * BlurTaps::kMaxRadius + 1> rows{};
  for (std::int64_t o = 0; o < outer; ++o) {
    for (std::int64_t i = 0; i < n; ++i) {
      for (int k = 0; k < count; ++k) {
        const std::int64_t from = reflect_index(i + k - taps.radius, n);
        rows[static_cast<std::size_t>(k)] = in + (o * n + from) * inner;
      }
      weighted_rows(rows.data(), taps.weight, count, inner, out + (o * n + i) * inner);
    }
  }
}

/// Blurs along W, through one padded row.
void blur_rows(
    const float* in, float* out, std::int64_t rows, std::int64_t n, const BlurTaps& taps) {
  const int count = 2 * taps.radius + 1;
  std::vector<float> padded(static_cast<std::size_t>(n + 2 * taps.radius));
  std::array<const float*, 2 * BlurTaps::kMaxRadius + 1> shifted{};
  for (int k = 0; k < count; ++k) shifted[static_cast<std::size_t>(k)] = padded.data() + k;
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* row = in + r * n;
    std::copy(row, row + n, padded.data() + taps.radius);
    for (int k = 0; k < taps.radius; ++k) {
      padded[static_cast<std::size_t>(k)] = row[reflect_index(k - taps.radius, n)];
      padded[static_cast<std::size_t>(n + taps.radius + k)] = row[reflect_index(n + k, n)];
    }
    weighted_rows(shifted.data(), taps.weight, count, n, out + r * n);
  }
}

}  // namespace

void crop_image(const float* image,
                const Size3& size,
                std::int64_t channels,
                const CropPlace& place,
                const Size3& patch,
                float* out) {
  for (std::int64_t c = 0; c < channels; ++c) {
    crop(image + c * voxel_count(size),
         size,
         place,
         patch,
         out + c * voxel_count(patch),
         [](float x) { return x; });
  }
}

void crop_label(const std::int16_t* label,
                const Size3& size,
                const CropPlace& place,
                const Size3& patch,
                std::int16_t* out) {
  crop(label, size, place, patch, out, [](std::int16_t x) { return clean_label(x); });
}

void affine_image(const float* image,
                  const Size3& size,
                  std::int64_t channels,
                  const Affine3& map,
                  const Size3& patch,
                  float* out) {
  const std::int64_t source_voxels = voxel_count(size), patch_voxels = voxel_count(patch);
  std::int64_t index = 0;
  for (std::int64_t z = 0; z < patch.d; ++z) {
    for (std::int64_t y = 0; y < patch.h; ++y) {
      for (std::int64_t x = 0; x < patch.w; ++x, ++index) {
        Corners corners;
        if (!find_corners(size, affine_point(map, z, y, x), corners)) {
          for (std::int64_t c = 0; c < channels; ++c) out[c * patch_voxels + index] = 0.0f;
          continue;
        }
        for (std::int64_t c = 0; c < channels; ++c) {
          out[c * patch_voxels + index] = sample_trilinear(image + c * source_voxels, corners);
        }
      }
    }
  }
}

void affine_label(const std::int16_t* label,
                  const Size3& size,
                  const Affine3& map,
                  const Size3& patch,
                  std::int16_t* out) {
  std::int64_t index = 0;
  for (std::int64_t z = 0; z < patch.d; ++z) {
    for (std::int64_t y = 0; y < patch.h; ++y) {
      for (std::int64_t x = 0; x < patch.w; ++x, ++index) {
        Corners corners;
        out[index] = find_corners(size, affine_point(map, z, y, x), corners)
                         ? sample_label(label, corners)
                         : static_cast<std::int16_t>(0);
      }
    }
  }
}

void add_noise(
    float* image, std::int64_t voxels, std::int64_t channels, float deviation, std::uint64_t key) {
  for (std::int64_t first = 0; first < voxels; first += 4) {
    float noise[4];
    normal4(key, static_cast<std::uint64_t>(first / 4), noise);
    const std::int64_t count = std::min<std::int64_t>(4, voxels - first);
    for (std::int64_t c = 0; c < channels; ++c) {
      for (std::int64_t i = 0; i < count; ++i) {
        image[c * voxels + first + i] += deviation * noise[i];
      }
    }
  }
}

void blur(float* image, float* scratch, const Size3& size, const BlurTaps taps[3]) {
  float* in = image;
  float* out = scratch;
  if (taps[0].radius > 0) {
    blur_axis(in, out, 1, size.d, size.h * size.w, taps[0]);
    std::swap(in, out);
  }
  if (taps[1].radius > 0) {
    blur_axis(in, out, size.d, size.h, size.w, taps[1]);
    std::swap(in, out);
  }
  if (taps[2].radius > 0) {
    blur_rows(in, out, size.d * size.h, size.w, taps[2]);
    std::swap(in, out);
  }
  if (in != image) std::copy(in, in + voxel_count(size), image);
}

void low_resolution(float* image, float* scratch, const Size3& size, const LowSize& low) {
  // W first, only in the rows that the other axes read; each axis then mixes two whole rows or
  // planes.
  std::vector<LowTap> taps(static_cast<std::size_t>(size.w));
  for (std::int64_t x = 0; x < size.w; ++x) {
    taps[static_cast<std::size_t>(x)] = low_resolution_tap(x, low.w, size.w);
  }
  const auto kept = [](std::int64_t j, std::int64_t count, std::int64_t n) {
    return (2 * j + 1) * n / (2 * count);
  };
  for (std::int64_t j = 0; j < low.d; ++j) {
    for (std::int64_t k = 0; k < low.h; ++k) {
      const std::int64_t row = (kept(j, low.d, size.d) * size.h + kept(k, low.h, size.h)) * size.w;
      const float* in = image + row;
      float* out = scratch + row;
      for (std::int64_t x = 0; x < size.w; ++x) {
        const LowTap& t = taps[static_cast<std::size_t>(x)];
        out[x] = mix(in[t.first], in[t.second], t.weight);
      }
    }
  }
  for (std::int64_t j = 0; j < low.d; ++j) {
    const std::int64_t plane = kept(j, low.d, size.d) * size.h * size.w;
    for (std::int64_t y = 0; y < size.h; ++y) {
      const LowTap t = low_resolution_tap(y, low.h, size.h);
      const float* a = scratch + plane + t.first * size.w;
      const float* b = scratch + plane + t.second * size.w;
      float* out = image + plane + y * size.w;
      for (std::int64_t x = 0; x < size.w; ++x) out[x] = mix(a[x], b[x], t.weight);
    }
  }
  const std::int64_t plane = size.h * size.w;
  for (std::int64_t z = 0; z < size.d; ++z) {
    const LowTap t = low_resolution_tap(z, low.d, size.d);
    const float* a = image + t.first * plane;
    const float* b = image + t.second * plane;
    float* out = scratch + z * plane;
    for (std::int64_t i = 0; i < plane; ++i) out[i] = mix(a[i], b[i], t.weight);
  }
  std::copy(scratch, scratch + voxel_count(size), image);
}

void scale(float* image, std::int64_t voxels, float factor) {
  for (std::int64_t i = 0; i < voxels; ++i) image[i] *= factor;
}

void shift(float* image, std::int64_t voxels, float offset) {
  for (std::int64_t i = 0; i < voxels; ++i) image[i] += offset;
}

void stats(const float* image, std::int64_t voxels, void*, Stats* stats) {
  // Sixteen running values each, so that the compiler can use vectors without reordering a sum.
  constexpr std::int64_t kLanes = 16;
  float low[kLanes], high[kLanes];
  double sum[kLanes], square[kLanes];
  std::fill(low, low + kLanes, image[0]);
  std::fill(high, high + kLanes, image[0]);
  std::fill(sum, sum + kLanes, 0.0);
  std::fill(square, square + kLanes, 0.0);
  const std::int64_t whole = voxels / kLanes * kLanes;
  for (std::int64_t i = 0; i < whole; i += kLanes) {
    for (std::int64_t j = 0; j < kLanes; ++j) {
      const float x = image[i + j];
      low[j] = x < low[j] ? x : low[j];
      high[j] = x > high[j] ? x : high[j];
      const double d = static_cast<double>(x);
      sum[j] += d;
      square[j] += d * d;
    }
  }
  for (std::int64_t i = whole; i < voxels; ++i) {
    const float x = image[i];
    low[0] = x < low[0] ? x : low[0];
    high[0] = x > high[0] ? x : high[0];
    sum[0] += static_cast<double>(x);
    square[0] += static_cast<double>(x) * static_cast<double>(x);
  }
  for (std::int64_t j = 1; j < kLanes; ++j) {
    low[0] = std::min(low[0], low[j]);
    high[0] = std::max(high[0], high[j]);
    sum[0] += sum[j];
    square[0] += square[j];
  }
  const double n = static_cast<double>(voxels);
  const double mean = sum[0] / n;
  const double variance = std::max(0.0, square[0] / n - mean * mean);
  *stats = {low[0], high[0], static_cast<float>(mean), static_cast<float>(std::sqrt(variance))};
}

void contrast(float* image, std::int64_t voxels, float factor, const Stats* stats) {
  const Stats s = *stats;
  for (std::int64_t i = 0; i < voxels; ++i) image[i] = contrast_voxel(image[i], factor, s);
}

void gamma(float* image, std::int64_t voxels, float exponent, bool invert, const Stats* stats) {
  const Stats s = *stats;
  const float sign = invert ? -1.0f : 1.0f;
  for (std::int64_t i = 0; i < voxels; ++i) image[i] = gamma_voxel(image[i], exponent, sign, s);
}

void restore(float* image, std::int64_t voxels, const Stats* before, const Stats* after) {
  const Stats a = *before, b = *after;
  for (std::int64_t i = 0; i < voxels; ++i) image[i] = restore_voxel(image[i], a, b);
}

void fill_mean(float* image, std::int64_t voxels, const Stats* stats) {
  std::fill(image, image + voxels, stats->mean);
}

}  // namespace nas::kernels::cpu
