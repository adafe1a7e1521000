// SPDX-License-Identifier: Apache-2.0
#include "training/argmax_stream.h"

#include <algorithm>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/threads.h"
#include "training/imaging/resample.h"

namespace nas {

ArgMaxStream::ArgMaxStream(
    std::int64_t classes, const Extent3& from, const Extent3& to, int separate, int threads)
    : classes_(classes), from_(from), to_(to), threads_(threads) {
  NAS_CHECK_KIND(Shape,
                 classes >= 1 && classes <= 32767,
                 "arg-max: expected 1 to 32767 classes, got ",
                 classes);
  for (std::size_t axis = 0; axis < 3; ++axis) {
    NAS_CHECK_KIND(Shape,
                   from[axis] >= 1 && to[axis] >= 1,
                   "arg-max: cannot resample ",
                   to_text(from),
                   " to ",
                   to_text(to));
  }
  const SlabResampler rule(from, to, separate);
  for (int axis = 0; axis < 3; ++axis) {
    for (std::int64_t i = 0; i < to[static_cast<std::size_t>(axis)]; ++i) {
      const SlabResampler::Tap& tap = rule.tap(axis, i);
      // A weight of zero needs no second slice: it would delay the stream, and 0 * infinity is not
      // a number.
      taps_[static_cast<std::size_t>(axis)].push_back(
          {tap.first, tap.second_weight > 0 ? tap.second : tap.first, tap.second_weight});
    }
  }
  const auto plane = static_cast<std::size_t>(classes * to[1] * to[2]);
  for (auto& buffer : planes_) buffer.resize(plane);
  labels_.resize(static_cast<std::size_t>(volume(to)));
}

std::int64_t ArgMaxStream::memory_bytes(std::int64_t classes, const Extent3& to) {
  return 2 * classes * to[1] * to[2] * static_cast<std::int64_t>(sizeof(float)) +
         volume(to) * static_cast<std::int64_t>(sizeof(std::int16_t));
}

void ArgMaxStream::make_plane(const float* scores,
                              std::int64_t slices,
                              std::int64_t slice,
                              std::int64_t z) {
  const auto side = static_cast<std::size_t>(z & 1);
  plane_z_[side] = z;
  float* planes = planes_[side].data();
  const std::int64_t height = from_[1];
  const std::int64_t width = from_[2];
  parallel_for(
      classes_,
      [&](std::int64_t k) {
        const float* source = scores + (k * slices + slice) * height * width;
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

void ArgMaxStream::emit(std::int64_t target) {
  const Tap& z = taps_[0][static_cast<std::size_t>(target)];
  const float* low = planes_[static_cast<std::size_t>(z.low & 1)].data();
  const float* high = planes_[static_cast<std::size_t>(z.high & 1)].data();
  const std::int64_t plane = to_[1] * to_[2];
  std::int16_t* labels = labels_.data() + target * plane;
  constexpr std::int64_t kPiece =
      4096;  // voxels at a time: scores of a class stay in the first-level cache
  parallel_for((plane + kPiece - 1) / kPiece,
               [&](std::int64_t piece) {
                 const std::int64_t begin = piece * kPiece;
                 const std::int64_t count = std::min(kPiece, plane - begin);
                 float best[kPiece];
                 std::int16_t label[kPiece];
                 for (std::int64_t k = 0; k < classes_; ++k) {
                   const float* a = low + k * plane + begin;
                   const float* b = high + k * plane + begin;
                   for (std::int64_t i = 0; i < count; ++i) {
                     const float score = a[i] + z.weight * (b[i] - a[i]);
                     const bool better = k == 0 || score > best[i];
                     best[i] = better ? score : best[i];
                     label[i] = better ? static_cast<std::int16_t>(k) : label[i];
                   }
                 }
                 std::copy_n(label, count, labels + begin);
               },
               threads_);
}

void ArgMaxStream::push(const float* scores, std::int64_t slices) {
  NAS_CHECK_KIND(Shape,
                 slices >= 0 && pushed_ + slices <= from_[0],
                 "arg-max: expected ",
                 from_[0],
                 " slices of scores, got ",
                 pushed_ + slices);
  for (std::int64_t slice = 0; slice < slices; ++slice) {
    const std::int64_t z = pushed_++;
    // Slices that no target reads are passed over (down-sampling).
    bool wanted = false;
    for (std::int64_t t = emitted_; t < to_[0]; ++t) {
      const Tap& tap = taps_[0][static_cast<std::size_t>(t)];
      if (tap.low > z) break;
      wanted = wanted || tap.low == z || tap.high == z;
    }
    if (wanted) make_plane(scores, slices, slice, z);
    while (emitted_ < to_[0] && taps_[0][static_cast<std::size_t>(emitted_)].high <= z)
      emit(emitted_++);
  }
}

std::vector<std::int16_t> ArgMaxStream::take() {
  NAS_CHECK_KIND(
      Internal, emitted_ == to_[0], "arg-max: taken after ", pushed_, " of ", from_[0], " slices");
  return std::move(labels_);
}

}  // namespace nas
