// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/resample.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "nas/core/error.h"
#include "nas/core/threads.h"

namespace nas {
namespace {

void check_shapes(const char* what,
                  std::size_t voxels,
                  const Extent3& old_shape,
                  const Extent3& new_shape,
                  int separate) {
  for (const Extent3* shape : {&old_shape, &new_shape}) {
    NAS_CHECK_KIND(Shape,
                   std::ranges::all_of(*shape, [](std::int64_t n) { return n >= 1; }),
                   what,
                   ": sizes must be >= 1, got ",
                   to_text(old_shape),
                   " -> ",
                   to_text(new_shape));
  }
  NAS_CHECK_KIND(Shape,
                 voxels == static_cast<std::size_t>(volume(old_shape)),
                 what,
                 ": expected ",
                 volume(old_shape),
                 " voxels for ",
                 to_text(old_shape),
                 ", got ",
                 voxels);
  NAS_CHECK_KIND(
      Shape, separate >= -1 && separate <= 2, what, ": axis must be -1..2, got ", separate);
}

/// Where output voxel `i` of `to` lies among `from` voxels: both grids cover the same stretch.
double source_position(std::int64_t i, std::int64_t from, std::int64_t to) {
  const double scale = static_cast<double>(from) / static_cast<double>(to);
  return (static_cast<double>(i) + 0.5) * scale - 0.5;
}

/// Two neighbours and their shares; the share of the second is 0 at a voxel centre and beyond the
/// edge.
struct LinearTap {
  std::int64_t first = 0, second = 0;
  std::int64_t nearest = 0;  // halves go up, as SciPy's order 0 does
  double first_weight = 1, second_weight = 0;
};

std::vector<LinearTap> linear_taps(std::int64_t from, std::int64_t to) {
  std::vector<LinearTap> taps(static_cast<std::size_t>(to));
  for (std::int64_t i = 0; i < to; ++i) {
    const double at = std::clamp(source_position(i, from, to), 0.0, static_cast<double>(from - 1));
    LinearTap& tap = taps[static_cast<std::size_t>(i)];
    tap.first = static_cast<std::int64_t>(std::floor(at));
    tap.second_weight = at - static_cast<double>(tap.first);
    tap.first_weight = 1 - tap.second_weight;
    tap.second = tap.second_weight > 0 ? tap.first + 1 : tap.first;
    tap.nearest = std::min(static_cast<std::int64_t>(std::floor(at + 0.5)), from - 1);
  }
  return taps;
}

std::vector<LinearTap> nearest_taps(std::int64_t from, std::int64_t to) {
  std::vector<LinearTap> taps = linear_taps(from, to);
  for (LinearTap& tap : taps)
    tap = {.first = tap.nearest, .second = tap.nearest, .nearest = tap.nearest};
  return taps;
}

std::array<std::vector<LinearTap>, 3> make_taps(const Extent3& old_shape,
                                                const Extent3& new_shape,
                                                int separate) {
  std::array<std::vector<LinearTap>, 3> taps;
  for (std::size_t a = 0; a < 3; ++a) {
    taps[a] = static_cast<int>(a) == separate ? nearest_taps(old_shape[a], new_shape[a])
                                              : linear_taps(old_shape[a], new_shape[a]);
  }
  return taps;
}

/// Value at an output voxel: sum over t of weight[t] * coefficient[start + t].
struct CubicTap {
  std::int64_t start =
      0;  // may be -2; the coefficient buffer has two entries before and after the line
  std::array<float, 4> weight{};
};

std::vector<CubicTap> cubic_taps(std::int64_t from, std::int64_t to) {
  std::vector<CubicTap> taps(static_cast<std::size_t>(to));
  for (std::int64_t i = 0; i < to; ++i) {
    const double at = source_position(i, from, to);
    const double cell = std::floor(at);
    const double y = at - cell, z = 1 - y;
    CubicTap& tap = taps[static_cast<std::size_t>(i)];
    tap.start = std::clamp<std::int64_t>(static_cast<std::int64_t>(cell) - 1, -2, from - 2);
    // Cubic B-spline at distances 1 + y, y, 1 - y, 2 - y.
    tap.weight = {static_cast<float>(z * z * z / 6),
                  static_cast<float>((y * y * (y - 2) * 3 + 4) / 6),
                  static_cast<float>((z * z * (z - 2) * 3 + 4) / 6),
                  static_cast<float>(y * y * y / 6)};
  }
  return taps;
}

constexpr std::int64_t kLanes =
    16;  // lines that are filtered side by side, so that the recursion vectorises

/// B-spline coefficients of `n` samples in line[2 .. n + 2) whose edges repeat for ever on both
/// sides; also the two coefficients before and after. `line` is [n + 4][kLanes].
void cubic_prefilter(float* line, std::int64_t n) {
  const float pole = std::sqrt(3.0f) - 2.0f;
  const auto row = [&](std::int64_t k) { return line + (k + 2) * kLanes; };
  std::array<float, kLanes> before{},
      after{};  // causal results of the constant stretches on the left and the right
  for (std::int64_t b = 0; b < kLanes; ++b) {
    before[static_cast<std::size_t>(b)] = 6 * row(0)[b] / (1 - pole);
    after[static_cast<std::size_t>(b)] = 6 * row(n - 1)[b] / (1 - pole);
  }
  const float* previous = before.data();
  for (std::int64_t k = 0; k < n; ++k) {
    float* current = row(k);
    for (std::int64_t b = 0; b < kLanes; ++b) current[b] = 6 * current[b] + pole * previous[b];
    previous = current;
  }
  // On the right the causal result approaches `after` by a factor `pole` a step: the sum of the
  // other direction has a closed form there.
  const float* last = row(n - 1);
  std::array<float, kLanes> gap{};
  for (std::int64_t b = 0; b < kLanes; ++b)
    gap[static_cast<std::size_t>(b)] = last[b] - after[static_cast<std::size_t>(b)];
  float decay = pole * pole;
  for (std::int64_t k = n + 1; k >= n - 1; --k) {
    for (std::int64_t b = 0; b < kLanes; ++b) {
      const auto i = static_cast<std::size_t>(b);
      row(k)[b] = -pole * (after[i] / (1 - pole) + decay * gap[i] / (1 - pole * pole));
    }
    decay /= pole;
  }
  for (std::int64_t k = n - 2; k >= 0; --k) {
    float* current = row(k);
    const float* next = row(k + 1);
    for (std::int64_t b = 0; b < kLanes; ++b) current[b] = pole * (next[b] - current[b]);
  }
  for (std::int64_t k = -1; k >= -2; --k) {
    for (std::int64_t b = 0; b < kLanes; ++b) {
      row(k)[b] = pole * (row(k + 1)[b] - before[static_cast<std::size_t>(b)]);
    }
  }
}

/// Cubic resampling along one axis of [outer, from, inner].
void cubic_pass(const float* in,
                float* out,
                std::int64_t outer,
                std::int64_t from,
                std::int64_t to,
                std::int64_t inner,
                int threads) {
  const std::vector<CubicTap> taps = cubic_taps(from, to);
  // Lanes run over the inner axis where there is one (contiguous), else over whole lines.
  const bool across = inner > 1;
  const std::int64_t lanes = across ? inner : outer;
  const std::int64_t tiles_per_outer = (lanes + kLanes - 1) / kLanes;
  const std::int64_t tiles = across ? outer * tiles_per_outer : tiles_per_outer;
  const std::int64_t lane_in = across ? 1 : from, lane_out = across ? 1 : to;
  const std::int64_t step_in = across ? inner : 1, step_out = across ? inner : 1;
  constexpr std::int64_t kBatch = 64;  // tiles per task
  parallel_for(
      (tiles + kBatch - 1) / kBatch,
      [&](std::int64_t task) {
        std::vector<float> line(static_cast<std::size_t>((from + 4) * kLanes));
        for (std::int64_t tile = task * kBatch; tile < std::min(tiles, (task + 1) * kBatch);
             ++tile) {
          const std::int64_t o = tile / tiles_per_outer, first = tile % tiles_per_outer * kLanes;
          const std::int64_t count = std::min(kLanes, lanes - first);
          const float* source = in + (across ? o * from * inner : 0) + first * lane_in;
          float* target = out + (across ? o * to * inner : 0) + first * lane_out;
          for (std::int64_t k = 0; k < from; ++k) {
            float* row = line.data() + (k + 2) * kLanes;
            for (std::int64_t b = 0; b < count; ++b) row[b] = source[k * step_in + b * lane_in];
            for (std::int64_t b = count; b < kLanes; ++b) row[b] = 0;
          }
          cubic_prefilter(line.data(), from);
          for (std::int64_t k = 0; k < to; ++k) {
            const CubicTap& tap = taps[static_cast<std::size_t>(k)];
            const float* row = line.data() + (tap.start + 2) * kLanes;
            std::array<float, kLanes> sum;
            for (std::int64_t b = 0; b < kLanes; ++b) {
              sum[static_cast<std::size_t>(b)] =
                  tap.weight[0] * row[b] + tap.weight[1] * row[b + kLanes] +
                  tap.weight[2] * row[b + 2 * kLanes] + tap.weight[3] * row[b + 3 * kLanes];
            }
            for (std::int64_t b = 0; b < count; ++b) {
              target[k * step_out + b * lane_out] = sum[static_cast<std::size_t>(b)];
            }
          }
        }
      },
      threads);
}

/// Copies planes across `axis`: output plane i is input plane taps[i].first.
std::vector<float> nearest_pass(const std::vector<float>& in,
                                const Extent3& shape,
                                int axis,
                                std::int64_t to) {
  const auto a = static_cast<std::size_t>(axis);
  const std::vector<LinearTap> taps = nearest_taps(shape[a], to);
  std::int64_t outer = 1, inner = 1;
  for (std::size_t i = 0; i < a; ++i) outer *= shape[i];
  for (std::size_t i = a + 1; i < 3; ++i) inner *= shape[i];
  std::vector<float> out(static_cast<std::size_t>(outer * to * inner));
  for (std::int64_t o = 0; o < outer; ++o) {
    for (std::int64_t k = 0; k < to; ++k) {
      const float* source =
          in.data() + (o * shape[a] + taps[static_cast<std::size_t>(k)].first) * inner;
      std::copy_n(source, inner, out.data() + (o * to + k) * inner);
    }
  }
  return out;
}

/// Calls body(range of one plane across `axis`) for voxels of [D, H, W]; axis -1: the whole volume
/// is one plane.
template <class Body>
void for_each_in_plane(const Extent3& shape, int axis, std::int64_t plane, const Body& body) {
  Extent3 begin{0, 0, 0}, end = shape;
  if (axis >= 0) {
    begin[static_cast<std::size_t>(axis)] = plane;
    end[static_cast<std::size_t>(axis)] = plane + 1;
  }
  for (std::int64_t z = begin[0]; z < end[0]; ++z) {
    for (std::int64_t y = begin[1]; y < end[1]; ++y) {
      const std::int64_t row = (z * shape[1] + y) * shape[2];
      body(row + begin[2], row + end[2]);
    }
  }
}

}  // namespace

Extent3 resampled_shape(const Extent3& shape,
                        const Vec3& old_spacing_mm,
                        const Vec3& new_spacing_mm) {
  Extent3 result{};
  for (std::size_t a = 0; a < 3; ++a) {
    const double size = old_spacing_mm[a] / new_spacing_mm[a] * static_cast<double>(shape[a]);
    NAS_CHECK(std::isfinite(size) && size < 1e9,
              "resampling from spacing ",
              old_spacing_mm[a],
              " mm to ",
              new_spacing_mm[a],
              " mm: ",
              shape[a],
              " voxels would become ",
              size);
    result[a] = static_cast<std::int64_t>(std::nearbyint(size));
  }
  return result;
}

std::string resampling_problem(const Extent3& shape,
                               const Vec3& old_spacing_mm,
                               const Vec3& new_spacing_mm) {
  double voxels = 1;
  for (std::size_t a = 0; a < 3; ++a) {
    const double edge = static_cast<double>(shape[a]) * old_spacing_mm[a] / new_spacing_mm[a];
    if (!(edge <= 65536)) {
      return concat_text("an axis of ",
                         shape[a],
                         " voxels of ",
                         old_spacing_mm[a],
                         " mm would become ",
                         edge,
                         " voxels at ",
                         new_spacing_mm[a],
                         " mm");
    }
    voxels *= std::max(edge, 1.0);
  }
  if (!(voxels < 2147483648.0)) {
    return concat_text("an image of ", to_text(shape), " voxels would become ", voxels, " voxels");
  }
  const Extent3 result = resampled_shape(shape, old_spacing_mm, new_spacing_mm);
  if (*std::ranges::min_element(result) >= 1) return "";
  return concat_text(
      "an image of ", to_text(shape), " voxels would vanish (", to_text(result), ")");
}

int separate_axis(const Vec3& old_spacing_mm, const Vec3& new_spacing_mm) {
  for (const Vec3* spacing : {&old_spacing_mm, &new_spacing_mm}) {
    const auto [smallest, largest] = std::ranges::minmax(*spacing);
    if (!(largest / smallest > kAnisotropyThreshold)) continue;
    if (std::ranges::count(*spacing, largest) != 1) return -1;
    return static_cast<int>(std::ranges::find(*spacing, largest) - spacing->begin());
  }
  return -1;
}

std::vector<float> resample_image(std::span<const float> image,
                                  const Extent3& old_shape,
                                  const Extent3& new_shape,
                                  int separate,
                                  int threads) {
  check_shapes("image resampling", image.size(), old_shape, new_shape, separate);
  if (old_shape == new_shape) return {image.begin(), image.end()};

  // Axes that shrink most go first: less work for the others. The passes commute.
  std::array<std::size_t, 3> order{0, 1, 2};
  std::ranges::sort(order, {}, [&](std::size_t a) {
    return static_cast<double>(new_shape[a]) / static_cast<double>(old_shape[a]);
  });
  Extent3 shape = old_shape;
  std::vector<float> current;
  for (const std::size_t a : order) {
    if (static_cast<int>(a) == separate || shape[a] == new_shape[a]) continue;
    std::int64_t outer = 1, inner = 1;
    for (std::size_t i = 0; i < a; ++i) outer *= shape[i];
    for (std::size_t i = a + 1; i < 3; ++i) inner *= shape[i];
    std::vector<float> next(static_cast<std::size_t>(outer * new_shape[a] * inner));
    cubic_pass(current.empty() ? image.data() : current.data(),
               next.data(),
               outer,
               shape[a],
               new_shape[a],
               inner,
               threads);
    current = std::move(next);
    shape[a] = new_shape[a];
  }
  if (current.empty())
    current.assign(image.begin(), image.end());  // only the separate axis changes

  // Splines overshoot at edges: back to the range of what went in.
  const std::int64_t planes = separate >= 0 ? old_shape[static_cast<std::size_t>(separate)] : 1;
  parallel_for(
      planes,
      [&](std::int64_t plane) {
        float low = INFINITY, high = -INFINITY;
        for_each_in_plane(old_shape, separate, plane, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t i = begin; i < end; ++i) {
            const float value = image[static_cast<std::size_t>(i)];
            low = std::min(low, value);
            high = std::max(high, value);
          }
        });
        if (!(low <= high)) return;  // nothing but NaN
        for_each_in_plane(shape, separate, plane, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t i = begin; i < end; ++i) {
            float& value = current[static_cast<std::size_t>(i)];
            value = std::min(std::max(value, low), high);
          }
        });
      },
      threads);
  if (separate >= 0 && shape != new_shape) {
    current = nearest_pass(current, shape, separate, new_shape[static_cast<std::size_t>(separate)]);
  }
  return current;
}

std::vector<std::int16_t> resample_labels(std::span<const std::int16_t> labels,
                                          const Extent3& old_shape,
                                          const Extent3& new_shape,
                                          int separate,
                                          int threads) {
  check_shapes("label resampling", labels.size(), old_shape, new_shape, separate);
  if (old_shape == new_shape) return {labels.begin(), labels.end()};
  const auto taps = make_taps(old_shape, new_shape, separate);
  std::vector<std::int16_t> out(static_cast<std::size_t>(volume(new_shape)));
  parallel_for(
      new_shape[0],
      [&](std::int64_t z) {
        const LinearTap& tz = taps[0][static_cast<std::size_t>(z)];
        for (std::int64_t y = 0; y < new_shape[1]; ++y) {
          const LinearTap& ty = taps[1][static_cast<std::size_t>(y)];
          const auto row = [&](std::int64_t a, std::int64_t b) {
            return labels.data() + (a * old_shape[1] + b) * old_shape[2];
          };
          const std::array<const std::int16_t*, 4> rows{row(tz.first, ty.first),
                                                        row(tz.first, ty.second),
                                                        row(tz.second, ty.first),
                                                        row(tz.second, ty.second)};
          const std::int16_t* nearest_row = row(tz.nearest, ty.nearest);
          // Products and sums in SciPy's order, so that what is a tie there is one here.
          const std::array<double, 4> shares{tz.first_weight * ty.first_weight,
                                             tz.first_weight * ty.second_weight,
                                             tz.second_weight * ty.first_weight,
                                             tz.second_weight * ty.second_weight};
          std::int16_t* target = out.data() + (z * new_shape[1] + y) * new_shape[2];
          for (std::int64_t x = 0; x < new_shape[2]; ++x) {
            const LinearTap& tx = taps[2][static_cast<std::size_t>(x)];
            std::array<std::int16_t, 8> corner;
            bool same = true;
            for (std::size_t r = 0; r < 4; ++r) {
              corner[2 * r] = rows[r][tx.first];
              corner[2 * r + 1] = rows[r][tx.second];
              same = same && corner[2 * r] == corner[0] && corner[2 * r + 1] == corner[0];
            }
            if (same) {
              target[x] = corner[0];
              continue;
            }
            // Only exact ties are ties: for the nearest voxel's label if it is one of them, else
            // the smallest.
            const std::int16_t near = nearest_row[tx.nearest];
            double most = -1;
            std::int16_t best = 0;
            for (std::size_t c = 0; c < 8; ++c) {
              double share = 0;
              for (std::size_t r = 0; r < 4; ++r) {
                if (corner[2 * r] == corner[c]) share += shares[r] * tx.first_weight;
                if (corner[2 * r + 1] == corner[c]) share += shares[r] * tx.second_weight;
              }
              const bool wins_tie = corner[c] == near || (best != near && corner[c] < best);
              if (share > most || (share == most && wins_tie)) {
                most = share;
                best = corner[c];
              }
            }
            target[x] = best;
          }
        }
      },
      threads);
  return out;
}

SlabResampler::SlabResampler(const Extent3& old_shape, const Extent3& new_shape, int separate)
    : old_shape_(old_shape), new_shape_(new_shape) {
  check_shapes("slab resampling",
               static_cast<std::size_t>(volume(old_shape)),
               old_shape,
               new_shape,
               separate);
  const auto exact = make_taps(old_shape, new_shape, separate);
  for (std::size_t a = 0; a < 3; ++a) {
    for (const LinearTap& tap : exact[a]) {
      taps_[a].push_back({tap.first,
                          tap.second,
                          static_cast<float>(tap.first_weight),
                          static_cast<float>(tap.second_weight)});
    }
  }
}

void SlabResampler::slab(const float* channel, std::int64_t z, std::span<float> out_plane) const {
  NAS_CHECK_KIND(
      Shape, z >= 0 && z < new_shape_[0], "slab resampling: plane ", z, " of ", new_shape_[0]);
  const std::int64_t height = old_shape_[1], width = old_shape_[2];
  NAS_CHECK_KIND(Shape,
                 out_plane.size() == static_cast<std::size_t>(new_shape_[1] * new_shape_[2]),
                 "slab resampling: expected a plane of ",
                 new_shape_[1] * new_shape_[2],
                 " voxels, got ",
                 out_plane.size());
  const Tap& tz = tap(0, z);
  const float* first = channel + tz.first * height * width;
  const float* second = channel + tz.second * height * width;
  std::vector<float>
      blended;  // the source plane at this z; not needed where it is a plane of the source
  if (tz.second_weight > 0) {
    blended.resize(static_cast<std::size_t>(height * width));
    for (std::int64_t i = 0; i < height * width; ++i) {
      blended[static_cast<std::size_t>(i)] =
          tz.first_weight * first[i] + tz.second_weight * second[i];
    }
    first = blended.data();
  }
  std::vector<float> line(static_cast<std::size_t>(width));
  for (std::int64_t y = 0; y < new_shape_[1]; ++y) {
    const Tap& ty = tap(1, y);
    const float* row = first + ty.first * width;
    const float* below = first + ty.second * width;
    for (std::int64_t x = 0; x < width; ++x) {
      line[static_cast<std::size_t>(x)] = ty.first_weight * row[x] + ty.second_weight * below[x];
    }
    float* target = out_plane.data() + y * new_shape_[2];
    for (std::int64_t x = 0; x < new_shape_[2]; ++x) {
      const Tap& tx = tap(2, x);
      target[x] = tx.first_weight * line[static_cast<std::size_t>(tx.first)] +
                  tx.second_weight * line[static_cast<std::size_t>(tx.second)];
    }
  }
}

}  // namespace nas
