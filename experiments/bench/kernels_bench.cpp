// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <cstring>
#include <vector>

#include <benchmark/benchmark.h>

#include "nas/core/rng.h"
#include "training/data/augment.h"
#include "training/kernels/kernels.h"
#include "training/kernels/norm_act.h"

// Samples per second on one core for the plan of Task04_Hippocampus (patch 40x56x40, one channel),
// and the fused norm + leaky ReLU of its first stage (batch 7, 32 channels) against a copy of the
// same memory.

namespace {

using namespace nas;

constexpr Extent3 kPatch{40, 56, 40};

/// A case of the size of a hippocampus.
struct Case {
  std::vector<float> image;
  std::vector<std::int16_t> label;
  CachedCase cached;
  Case() {
    cached.shape = {36, 50, 35};
    Rng rng(1);
    for (std::int64_t i = 0; i < volume(cached.shape); ++i) {
      image.push_back(static_cast<float>(rng.normal()));
      label.push_back(static_cast<std::int16_t>(i / 7 % 3));
    }
    cached.image = image.data();
    cached.label = label.data();
  }
};

AugmentPlan everything() {
  AugmentPlan plan;
  plan.affine = true;
  plan.angle = {0.3, 0.2, 0.1};
  plan.noise_deviation = 0.05;
  plan.channels = {{.blur_sigma = {1, 1, 1},
                    .brightness = 1.1,
                    .contrast = 0.9,
                    .zoom = {0.6, 0.6, 0.6},
                    .gamma_inverted = 0.9,
                    .gamma = 1.1}};
  return plan;
}

void run_samples(benchmark::State& state, const std::vector<AugmentPlan>& plans) {
  const Case source;
  std::vector<float> image(static_cast<std::size_t>(volume(kPatch)));
  std::vector<std::int16_t> label(image.size());
  std::size_t next = 0;
  for (auto _ : state) {
    make_sample(source.cached,
                {.begin = {-2, -3, -2}},
                kPatch,
                plans[next++ % plans.size()],
                image.data(),
                label.data());
    benchmark::DoNotOptimize(image.data());
  }
  state.SetItemsProcessed(state.iterations());
}

void sample_as_drawn(benchmark::State& state) {
  std::vector<AugmentPlan> plans;
  for (int i = 0; i < 256; ++i)
    plans.push_back(draw_augmentation({}, kPatch, 1, Rng(2).split("plan", i)));
  run_samples(state, plans);
}
void sample_with_everything(benchmark::State& state) { run_samples(state, {everything()}); }
void sample_plain_crop(benchmark::State& state) {
  AugmentPlan plan;
  plan.channels.resize(1);
  run_samples(state, {plan});
}
BENCHMARK(sample_as_drawn)->Unit(benchmark::kMillisecond);
BENCHMARK(sample_with_everything)->Unit(benchmark::kMillisecond);
BENCHMARK(sample_plain_crop)->Unit(benchmark::kMillisecond);

/// What a straightforward program does for the blur: all taps of the cube at every voxel.
void blur_naive(benchmark::State& state) {
  const kernels::BlurTaps taps = kernels::make_blur_taps(1.0);
  std::vector<float> in(static_cast<std::size_t>(volume(kPatch)), 1.0f), out(in.size());
  for (auto _ : state) {
    std::size_t i = 0;
    for (std::int64_t z = 0; z < kPatch[0]; ++z) {
      for (std::int64_t y = 0; y < kPatch[1]; ++y) {
        for (std::int64_t x = 0; x < kPatch[2]; ++x, ++i) {
          float sum = 0;
          for (int a = -taps.radius; a <= taps.radius; ++a) {
            for (int b = -taps.radius; b <= taps.radius; ++b) {
              for (int c = -taps.radius; c <= taps.radius; ++c) {
                const std::int64_t from = (kernels::reflect_index(z + a, kPatch[0]) * kPatch[1] +
                                           kernels::reflect_index(y + b, kPatch[1])) *
                                              kPatch[2] +
                                          kernels::reflect_index(x + c, kPatch[2]);
                sum += taps.weight[a + taps.radius] * taps.weight[b + taps.radius] *
                       taps.weight[c + taps.radius] * in[static_cast<std::size_t>(from)];
              }
            }
          }
          out[i] = sum;
        }
      }
    }
    benchmark::DoNotOptimize(out.data());
  }
}
void blur_separable(benchmark::State& state) {
  const kernels::BlurTaps one = kernels::make_blur_taps(1.0);
  const kernels::BlurTaps taps[3] = {one, one, one};
  std::vector<float> image(static_cast<std::size_t>(volume(kPatch)), 1.0f), scratch(image.size());
  for (auto _ : state) {
    kernels::cpu::blur(image.data(), scratch.data(), {kPatch[0], kPatch[1], kPatch[2]}, taps);
    benchmark::DoNotOptimize(image.data());
  }
}
BENCHMARK(blur_naive)->Unit(benchmark::kMillisecond);
BENCHMARK(blur_separable)->Unit(benchmark::kMillisecond);

constexpr kernels::NormActShape kStage{7, 40 * 56 * 40, 32};

void norm_act(benchmark::State& state, bool backward, const std::string& variant) {
  const kernels::NormActVariant use(variant);
  const kernels::ParallelFor one_thread = [](std::int64_t n, const auto& body) { body(0, n); };
  const auto n = static_cast<std::size_t>(kStage.samples * kStage.voxels * kStage.channels);
  std::vector<kernels::Bf16> x(n), dy(n, 0x3f80), out(n);
  for (std::size_t i = 0; i < n; ++i) x[i] = static_cast<kernels::Bf16>(0x3f80 + i * 7919 % 200);
  std::vector<float> gamma(32, 1.0f), beta(32, 0.0f), dgamma(32), dbeta(32), mean(7 * 32),
      rstd(7 * 32);
  kernels::norm_act_forward(x.data(),
                            kStage,
                            gamma.data(),
                            beta.data(),
                            1e-5f,
                            0.01f,
                            out.data(),
                            mean.data(),
                            rstd.data(),
                            one_thread);
  for (auto _ : state) {
    if (backward) {
      kernels::norm_act_backward(dy.data(),
                                 x.data(),
                                 kStage,
                                 gamma.data(),
                                 beta.data(),
                                 0.01f,
                                 mean.data(),
                                 rstd.data(),
                                 out.data(),
                                 dgamma.data(),
                                 dbeta.data(),
                                 one_thread);
    } else {
      kernels::norm_act_forward(x.data(),
                                kStage,
                                gamma.data(),
                                beta.data(),
                                1e-5f,
                                0.01f,
                                out.data(),
                                mean.data(),
                                rstd.data(),
                                one_thread);
    }
    benchmark::DoNotOptimize(out.data());
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(n * sizeof(kernels::Bf16)) *
                          state.iterations() * (backward ? 5 : 3));
}
void copy_of_the_same_memory(benchmark::State& state) {
  const auto n = static_cast<std::size_t>(kStage.samples * kStage.voxels * kStage.channels);
  std::vector<kernels::Bf16> from(n, 1), to(n);
  for (auto _ : state) {
    std::memcpy(to.data(), from.data(), n * sizeof(kernels::Bf16));
    benchmark::DoNotOptimize(to.data());
  }
  state.SetBytesProcessed(static_cast<std::int64_t>(n * sizeof(kernels::Bf16)) * 2 *
                          state.iterations());
}
BENCHMARK(copy_of_the_same_memory)->Unit(benchmark::kMillisecond);

}  // namespace

int main(int argc, char** argv) {
  for (const std::string& variant : kernels::norm_act_variants()) {
    for (const bool backward : {false, true}) {
      benchmark::RegisterBenchmark(
          ((backward ? "norm_act_backward_bf16/" : "norm_act_forward_bf16/") + variant).c_str(),
          [=](benchmark::State& state) { norm_act(state, backward, variant); })
          ->Unit(benchmark::kMillisecond);
    }
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
