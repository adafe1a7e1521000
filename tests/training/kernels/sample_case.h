// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "nas/core/rng.h"
#include "training/data/augment.h"

namespace nas::test {

/// A case in memory: random image, blocks of labels -1..3 with a few single voxels, locations
/// listed.
struct SampleCase {
  std::vector<float> image;
  std::vector<std::int16_t> label;
  CachedCase cached;

  SampleCase(const Extent3& shape, std::int64_t channels, std::uint64_t seed) {
    Rng rng(seed);
    const auto n = static_cast<std::size_t>(volume(shape));
    for (std::size_t i = 0; i < n * static_cast<std::size_t>(channels); ++i) {
      image.push_back(static_cast<float>(rng.normal()));
    }
    cached.class_locations.resize(4);
    for (std::int64_t z = 0; z < shape[0]; ++z) {
      for (std::int64_t y = 0; y < shape[1]; ++y) {
        for (std::int64_t x = 0; x < shape[2]; ++x) {
          std::int64_t value = z == 0 ? -1 : (y / 5 + x / 6) % 3;
          if (rng.chance(0.01)) value = 3;
          if (value > 0) {
            cached.class_locations[static_cast<std::size_t>(value)].push_back(
                (z * shape[1] + y) * shape[2] + x);
          }
          label.push_back(static_cast<std::int16_t>(value));
        }
      }
    }
    cached.id = "sample";
    cached.shape = shape;
    cached.channels = channels;
    cached.image = image.data();
    cached.label = label.data();
  }
  SampleCase(const SampleCase&) = delete;
  SampleCase& operator=(const SampleCase&) = delete;
};

struct Sample {
  std::vector<float> image;
  std::vector<std::int16_t> label;
  bool operator==(const Sample&) const = default;
};

inline Sample sample(const SampleCase& source,
                     const PatchChoice& choice,
                     const Extent3& patch,
                     const AugmentPlan& plan) {
  const auto n = static_cast<std::size_t>(volume(patch));
  // Filled with a wrong value: whatever make_sample leaves out shows.
  Sample out{std::vector<float>(n * static_cast<std::size_t>(source.cached.channels), 99.0f),
             std::vector<std::int16_t>(n, 99)};
  make_sample(source.cached, choice, patch, plan, out.image.data(), out.label.data());
  return out;
}

inline AugmentPlan plain_plan(std::int64_t channels) {
  AugmentPlan plan;
  plan.channels.resize(static_cast<std::size_t>(channels));
  return plan;
}

/// A plan with everything in it.
inline AugmentPlan full_plan(std::int64_t channels) {
  AugmentPlan plan = plain_plan(channels);
  plan.affine = true;
  plan.angle = {0.3, -0.2, 0.1};
  plan.scale = {1.2, 1.2, 1.2};
  plan.translate = {1, -2, 3};
  plan.flip = {true, false, true};
  plan.noise_deviation = 0.05;
  plan.noise_key = 77;
  for (ChannelPlan& c : plan.channels) {
    c = {.blur_sigma = {0.6, 0.8, 1.0},
         .brightness = 1.1,
         .contrast = 0.8,
         .zoom = {0.7, 0.7, 0.7},
         .gamma_inverted = 0.9,
         .gamma = 1.2,
         .scale = 1.1,
         .shift = -0.2};
  }
  return plan;
}

}  // namespace nas::test
