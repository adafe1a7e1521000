// SPDX-License-Identifier: Apache-2.0
// Whole-volume work around prediction: metrics, resampling, and the arg-max from network to
// original grid.
#include <benchmark/benchmark.h>

#include <cmath>

#include "nas/core/rng.h"
#include "nas/imaging/metrics.h"
#include "nas/imaging/resample.h"
#include "training/data/argmax_stream.h"

namespace {

nas::LabelMap ball(std::int64_t edge, double radius, double shift) {
  nas::LabelMap map;
  map.geometry.shape = {edge, edge, edge};
  map.voxels.reserve(static_cast<std::size_t>(edge * edge * edge));
  const double middle = static_cast<double>(edge) / 2;
  for (std::int64_t d = 0; d < edge; ++d) {
    for (std::int64_t h = 0; h < edge; ++h) {
      for (std::int64_t w = 0; w < edge; ++w) {
        const double r = std::hypot(static_cast<double>(d) - middle - shift,
                                    static_cast<double>(h) - middle,
                                    static_cast<double>(w) - middle);
        map.voxels.push_back(r < radius ? 1 : 0);
      }
    }
  }
  return map;
}

std::vector<float> noise(std::int64_t count) {
  nas::Rng rng(1);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(rng.uniform());
  return values;
}

// The bar: Dice, HD95, HD and NSD of 250^3 in under 3 s on one core.
void metrics(benchmark::State& state) {
  const nas::LabelMap a = ball(state.range(0), 0.4 * static_cast<double>(state.range(0)), 0);
  const nas::LabelMap b = ball(state.range(0), 0.38 * static_cast<double>(state.range(0)), 3);
  for (auto _ : state) benchmark::DoNotOptimize(nas::compute_metrics(a, b, 1));
}
BENCHMARK(metrics)->Arg(100)->Arg(250)->Unit(benchmark::kMillisecond);

void resample_cubic(benchmark::State& state) {
  const nas::Extent3 from{100, 200, 200};
  const std::vector<float> image = noise(nas::volume(from));
  for (auto _ : state) {
    benchmark::DoNotOptimize(nas::resample_image(image, from, {160, 160, 160}, -1, 1));
  }
}
BENCHMARK(resample_cubic)->Unit(benchmark::kMillisecond);

// Argument: classes. 128^3 scores to 160^3 labels on one thread.
void best_class(benchmark::State& state) {
  const nas::Extent3 from{128, 128, 128};
  const nas::Extent3 to{160, 160, 160};
  const std::int64_t classes = state.range(0);
  const std::vector<float> scores = noise(classes * nas::volume(from));
  for (auto _ : state) {
    const nas::ScoreSource source{from, -1, [&] { return nas::ScoreSlab{scores.data(), from[0]}; }};
    benchmark::DoNotOptimize(nas::argmax_stream(classes, {source}, to, 1));
  }
}
BENCHMARK(best_class)->Arg(3)->Arg(20)->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
