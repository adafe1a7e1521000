// SPDX-License-Identifier: Apache-2.0
#include "training/data/argmax_stream.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/threads.h"
#include "nas/imaging/resample.h"

namespace nas {
namespace {

// Voxels at a time: scores of a class stay in the first-level cache.
constexpr std::int64_t kPiece = 4096;

/// One source with the two resampled planes per class that a target slice reads.
class Planes {
 public:
  Planes(std::int64_t classes, const ScoreSource& source, const Extent3& to, int threads)
      : classes_(classes), source_(source), to_(to), threads_(threads) {
    for (std::size_t axis = 0; axis < 3; ++axis) {
      NAS_CHECK_KIND(Shape,
                     source.from[axis] >= 1 && to[axis] >= 1,
                     "arg-max: cannot resample ",
                     to_text(source.from),
                     " to ",
                     to_text(to));
    }
    const SlabResampler rule(source.from, to, source.separate);
    for (int axis = 0; axis < 3; ++axis) {
      for (std::int64_t i = 0; i < to[static_cast<std::size_t>(axis)]; ++i) {
        const SlabResampler::Tap& tap = rule.tap(axis, i);
        // A weight of zero needs no second slice: it would delay the stream, and 0 * infinity is
        // not a number.
        taps_[static_cast<std::size_t>(axis)].push_back(
            {tap.first, tap.second_weight > 0 ? tap.second : tap.first, tap.second_weight});
      }
    }
    for (auto& plane : planes_) plane.resize(static_cast<std::size_t>(classes * to[1] * to[2]));
  }

  /// Reads on until target slice `target` can be computed. Targets only go up.
  void advance(std::int64_t target) {
    const Tap& tap = taps_[0][static_cast<std::size_t>(target)];
    for (; read_ <= tap.high; ++read_, ++slice_) {
      if (slice_ == slab_.slices) {
        slab_ = source_.next();
        slice_ = 0;
        NAS_CHECK_KIND(Shape,
                       slab_.slices >= 1 && read_ + slab_.slices <= source_.from[0],
                       "arg-max: expected ",
                       source_.from[0],
                       " slices of scores, got ",
                       slab_.slices >= 1 ? read_ + slab_.slices : read_);
      }
      // Slices that no target reads are passed over (down-sampling).
      if (read_ >= tap.low) make_plane();
    }
    weight_ = tap.weight;
    low_ = planes_[static_cast<std::size_t>(tap.low & 1)].data();
    high_ = planes_[static_cast<std::size_t>(tap.high & 1)].data();
  }

  /// Scores of class k in voxels [begin, begin + count) of the target slice.
  void scores(std::int64_t k, std::int64_t begin, std::int64_t count, float* out) const {
    const float* a = low_ + k * to_[1] * to_[2] + begin;
    const float* b = high_ + k * to_[1] * to_[2] + begin;
    for (std::int64_t i = 0; i < count; ++i) out[i] = a[i] + weight_ * (b[i] - a[i]);
  }

 private:
  /// Where target voxel i reads along one axis: (1 - weight) * source[low] + weight * source[high].
  struct Tap {
    std::int64_t low, high;
    float weight;
  };

  /// Resamples slice `read_` within its plane.
  void make_plane() {
    float* planes = planes_[static_cast<std::size_t>(read_ & 1)].data();
    const std::int64_t height = source_.from[1];
    const std::int64_t width = source_.from[2];
    parallel_for(
        classes_,
        [&](std::int64_t k) {
          const float* source = slab_.scores + (k * slab_.slices + slice_) * height * width;
          float* target = planes + k * to_[1] * to_[2];
          std::vector<float> row(static_cast<std::size_t>(width));
          for (const Tap& y : taps_[1]) {
            const float* low = source + y.low * width;
            const float* high = source + y.high * width;
            if (y.weight == 0.0F) {
              std::copy_n(low, width, row.data());
            } else {
              for (std::int64_t x = 0; x < width; ++x) {
                row[static_cast<std::size_t>(x)] = low[x] + y.weight * (high[x] - low[x]);
              }
            }
            for (const Tap& x : taps_[2]) {
              const float left = row[static_cast<std::size_t>(x.low)];
              const float right = row[static_cast<std::size_t>(x.high)];
              *target++ = left + x.weight * (right - left);
            }
          }
        },
        threads_);
  }

  std::int64_t classes_;
  const ScoreSource& source_;
  Extent3 to_;
  int threads_;
  std::array<std::vector<Tap>, 3> taps_;
  std::array<std::vector<float>, 2> planes_;  // [K, H', W'] of even and of odd source slices
  ScoreSlab slab_;
  std::int64_t slice_ = 0;  // of the slab, the next to be read
  std::int64_t read_ = 0;   // source slices read
  const float *low_ = nullptr, *high_ = nullptr;
  float weight_ = 0;
};

/// Keeps in `best` and `label` what class k beats.
void keep_better(
    const float* score, std::int64_t k, std::int64_t count, float* best, std::int16_t* label) {
  for (std::int64_t i = 0; i < count; ++i) {
    const bool better = k == 0 || score[i] > best[i];
    best[i] = better ? score[i] : best[i];
    label[i] = better ? static_cast<std::int16_t>(k) : label[i];
  }
}

/// Adds the softmax over classes of scores [K, count] to `sum` [K, count]; `scores` is used up.
void add_softmax(std::vector<float>& scores,
                 std::int64_t classes,
                 std::int64_t count,
                 std::vector<float>& sum) {
  std::array<float, kPiece> top, total{};
  std::copy_n(scores.data(), count, top.data());
  for (std::int64_t k = 1; k < classes; ++k) {
    const float* row = scores.data() + k * count;
    for (std::int64_t i = 0; i < count; ++i) {
      top[static_cast<std::size_t>(i)] = std::max(top[static_cast<std::size_t>(i)], row[i]);
    }
  }
  for (std::int64_t k = 0; k < classes; ++k) {
    float* row = scores.data() + k * count;
    for (std::int64_t i = 0; i < count; ++i) {
      row[i] = std::exp(row[i] - top[static_cast<std::size_t>(i)]);
      total[static_cast<std::size_t>(i)] += row[i];
    }
  }
  for (std::int64_t k = 0; k < classes; ++k) {
    const float* row = scores.data() + k * count;
    float* target = sum.data() + k * count;
    for (std::int64_t i = 0; i < count; ++i)
      target[i] += row[i] / total[static_cast<std::size_t>(i)];
  }
}

}  // namespace

std::int64_t argmax_stream_bytes(std::int64_t classes, std::int64_t sources, const Extent3& to) {
  return 2 * sources * classes * to[1] * to[2] * static_cast<std::int64_t>(sizeof(float)) +
         volume(to) * static_cast<std::int64_t>(sizeof(std::int16_t));
}

namespace {

/// Decides voxels [begin, begin + count) of the target slice that `planes` stand at.
using Decide = std::function<void(const std::vector<Planes>& planes,
                                  std::int64_t begin,
                                  std::int64_t count,
                                  std::int16_t* label)>;

std::vector<std::int16_t> stream(std::int64_t outputs,
                                 const std::vector<ScoreSource>& sources,
                                 const Extent3& to,
                                 int threads,
                                 std::int64_t piece_size,
                                 const Decide& decide) {
  NAS_CHECK_KIND(Shape,
                 outputs >= 1 && outputs <= 32767,
                 "arg-max: expected 1 to 32767 classes, got ",
                 outputs);
  NAS_CHECK_KIND(Shape, !sources.empty(), "arg-max: expected at least one source of scores");
  std::vector<Planes> planes;
  for (const ScoreSource& source : sources) planes.emplace_back(outputs, source, to, threads);
  std::vector<std::int16_t> labels(static_cast<std::size_t>(volume(to)));
  const std::int64_t plane = to[1] * to[2];
  for (std::int64_t z = 0; z < to[0]; ++z) {
    for (Planes& one : planes) one.advance(z);
    parallel_for((plane + piece_size - 1) / piece_size,
                 [&](std::int64_t piece) {
                   const std::int64_t begin = piece * piece_size;
                   const std::int64_t count = std::min(piece_size, plane - begin);
                   decide(planes, begin, count, labels.data() + z * plane + begin);
                 },
                 threads);
  }
  return labels;
}

}  // namespace

std::vector<std::int16_t> argmax_stream(std::int64_t classes,
                                        const std::vector<ScoreSource>& sources,
                                        const Extent3& to,
                                        int threads) {
  // Probabilities of all classes are needed at once when several networks vote.
  const std::int64_t piece_size =
      sources.size() == 1
          ? kPiece
          : std::clamp<std::int64_t>(65536 / std::max<std::int64_t>(classes, 1), 64, kPiece);
  const auto decide = [classes](const std::vector<Planes>& planes,
                                std::int64_t begin,
                                std::int64_t count,
                                std::int16_t* label) {
    float best[kPiece];
    if (planes.size() == 1) {
      float score[kPiece];
      for (std::int64_t k = 0; k < classes; ++k) {
        planes.front().scores(k, begin, count, score);
        keep_better(score, k, count, best, label);
      }
      return;
    }
    std::vector<float> sum(static_cast<std::size_t>(classes * count), 0.0F);
    std::vector<float> scores(sum.size());
    for (const Planes& one : planes) {
      for (std::int64_t k = 0; k < classes; ++k) {
        one.scores(k, begin, count, scores.data() + k * count);
      }
      add_softmax(scores, classes, count, sum);
    }
    for (std::int64_t k = 0; k < classes; ++k) {
      keep_better(sum.data() + k * count, k, count, best, label);
    }
  };
  return stream(classes, sources, to, threads, piece_size, decide);
}

std::vector<std::int16_t> label_stream(const LabelScheme& labels,
                                       const std::vector<ScoreSource>& sources,
                                       const Extent3& to,
                                       int threads) {
  if (!labels.has_regions()) return argmax_stream(labels.outputs(), sources, to, threads);
  const auto decide = [&labels](const std::vector<Planes>& planes,
                                std::int64_t begin,
                                std::int64_t count,
                                std::int16_t* label) {
    float score[kPiece], sum[kPiece];
    std::fill_n(label, count, std::int16_t{0});
    const float half = 0.5F * static_cast<float>(planes.size());
    for (std::size_t r = 0; r < labels.region_labels.size(); ++r) {
      const auto k = static_cast<std::int64_t>(r);
      if (planes.size() == 1) {
        planes.front().scores(k, begin, count, score);
      } else {
        std::fill_n(sum, count, 0.0F);
        for (const Planes& one : planes) {
          one.scores(k, begin, count, score);
          for (std::int64_t i = 0; i < count; ++i) sum[i] += 1 / (1 + std::exp(-score[i]));
        }
        for (std::int64_t i = 0; i < count; ++i) score[i] = sum[i] - half;
      }
      for (std::int64_t i = 0; i < count; ++i) {
        if (score[i] > 0) label[i] = labels.region_labels[r];
      }
    }
  };
  return stream(labels.outputs(), sources, to, threads, kPiece, decide);
}

}  // namespace nas
