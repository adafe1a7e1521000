// SPDX-License-Identifier: Apache-2.0
// A training step of a super-network with the branches of V-NAS (2D, 3D, P3D pairs of
// convolutions), run in the three ways of Merge, and one with uniformly drawn paths; then scores
// with inherited weights, with and without shared prefixes. What is compared runs in turn within
// one iteration; counters give milliseconds, MB kept above the start, and ratios to plain branches.
#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

#include "nas/core/rng.h"
#include "supernet/inherited_scores.h"
#include "supernet/search/paths.h"
#include "supernet/super_training.h"
#include "training/fit/losses.h"
#include "training/model/device.h"

namespace {

using namespace nas;

constexpr std::int64_t kChannels = 32;
constexpr int kCells = 4;

/// `inside`: norm and activation in every branch; else after the choice.
Graph network(bool inside) {
  static const std::vector<std::int64_t> first[] = {{1, 3, 3}, {3, 3, 3}, {1, 3, 3}},
                                         second[] = {{1, 1, 1}, {1, 1, 1}, {3, 1, 1}};
  const auto norm = [](Graph& g, const std::string& name, int x) {
    return g.add("leaky_relu", name + "act", {g.add("instance_norm", name + "norm", {x})});
  };
  const auto conv = [](Graph& g, const std::string& name, int x, std::vector<std::int64_t> kernel) {
    return g.add(
        "conv", name, {x}, {{"out_channels", kChannels}, {"kernel", kernel}, {"bias", false}});
  };
  Graph g;
  g.name = "bench";
  int x = g.add("input", "image", {}, {{"channels", std::int64_t{1}}});
  x = norm(g, "stem.", conv(g, "stem.conv", x, {3, 3, 3}));
  for (int cell = 0; cell < kCells; ++cell) {
    std::vector<Graph> alternatives;
    for (int kind = 0; kind < 3; ++kind) {
      Graph a;
      int y = a.add("input", "x", {}, {{"channels", kChannels}});
      y = conv(a, "b", conv(a, "a", y, first[kind]), second[kind]);
      a.add("output", "y", {inside ? norm(a, "", y) : y});
      alternatives.push_back(std::move(a));
    }
    const std::string name = "cell" + std::to_string(cell);
    x = g.add_choice(name, {x}, std::move(alternatives));
    if (!inside) x = norm(g, name + ".", x);
  }
  g.add(
      "output",
      "y",
      {g.add("conv",
             "head",
             {x},
             {{"out_channels", std::int64_t{3}}, {"kernel", std::vector<std::int64_t>{1, 1, 1}}})});
  return g;
}

double peak_megabytes(bool reset) {
  if (reset) {
    malloc_trim(0);
    std::ofstream("/proc/self/clear_refs") << "5";
  }
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stod(line.substr(6)) / 1024;
  }
  return 0;
}

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Way {
  std::string name;
  std::function<void()> step;
  std::vector<double> seconds = {}, megabytes = {};
};

void compare(benchmark::State& state, std::vector<Way> ways) {
  for (Way& way : ways) way.step();  // warm up
  for (auto _ : state) {
    for (Way& way : ways) {
      const double before = peak_megabytes(true);
      way.seconds.push_back(seconds_of(way.step));
      way.megabytes.push_back(peak_megabytes(false) - before);
    }
  }
  for (const Way& way : ways) {
    state.counters[way.name + "_ms"] = 1000 * median(way.seconds);
    state.counters[way.name + "_MB"] = median(way.megabytes);
    state.counters[way.name + "_ratio"] = median(ways[0].seconds) / median(way.seconds);
  }
}

/// Forward and backward of one batch: weights learn, or (`alpha`) only the mixture weights do.
void steps(benchmark::State& state, bool inside, bool alpha) {
  set_up_compute(0, at::kCPU);
  const Graph graph = network(inside);
  const at::ScalarType type = choose_precision("auto", at::kCPU);
  const at::Tensor image = at::randn({2, 1, 32, 40, 32});
  const at::Tensor target = at::randint(0, 3, {2, 32, 40, 32}, at::kShort);
  std::vector<GraphModule> networks;
  std::vector<Way> ways;
  const auto learn = [=](GraphModule module, const std::vector<at::Tensor>& what) {
    at::Tensor loss;
    {
      const Autocast autocast(at::kCPU, type);
      loss = segmentation_loss(module->forward(image), target);
    }
    benchmark::DoNotOptimize(
        torch::autograd::grad({loss}, what, {}, std::nullopt, false, /*allow_unused=*/true));
  };
  std::vector<std::pair<std::string, Merge>> merges{{"branches", Merge::None},
                                                    {"exact", Merge::Exact}};
  if (!inside) merges.emplace_back("mixed", Merge::Mixed);
  for (const auto& [name, merge] : merges) {
    GraphModule module(graph);
    module->set_merge(merge);
    std::vector<at::Tensor> mixture;
    for (const int size : choice_sizes(graph)) {
      mixture.push_back(at::full({size}, 1.0 / size).requires_grad_(alpha));
    }
    module->mix(mixture);
    ways.push_back({name, [=] { learn(module, alpha ? mixture : module->parameters()); }});
  }
  if (!alpha) {
    GraphModule module(graph);
    auto sampler = std::make_shared<PathSampler>(graph, free_decisions(graph));
    auto step = std::make_shared<std::int64_t>(0);
    ways.push_back({"single_path", [=]() mutable {
                      module->select_path(sampler->draw(1, (*step)++));
                      learn(module, module->parameters());
                    }});
  }
  compare(state, std::move(ways));
}

void weight_step_norm_inside(benchmark::State& state) { steps(state, true, false); }
void weight_step_norm_after(benchmark::State& state) { steps(state, false, false); }
void alpha_step_norm_after(benchmark::State& state) { steps(state, false, true); }
BENCHMARK(weight_step_norm_inside)->Unit(benchmark::kMillisecond)->Iterations(9);
BENCHMARK(weight_step_norm_after)->Unit(benchmark::kMillisecond)->Iterations(9);
BENCHMARK(alpha_step_norm_after)->Unit(benchmark::kMillisecond)->Iterations(9);

/// 24 drawn paths on two windows.
void inherited_scores(benchmark::State& state) {
  set_up_compute(0, at::kCPU);
  const Graph graph = network(true);
  GraphModule module(graph);
  const PathSampler sampler(graph, free_decisions(graph));
  std::vector<std::vector<int>> paths;
  for (int i = 0; i < 24; ++i) paths.push_back(sampler.draw(2, i));
  const Batch windows{at::randn({2, 1, 32, 40, 32}),
                      at::randint(0, 3, {2, 32, 40, 32}, at::kShort)};
  const auto score = [=](bool share) {
    return [=] {
      GraphModule same = module;
      ScoringOptions options;
      options.share_prefixes = share;
      benchmark::DoNotOptimize(score_paths(same, paths, windows, options));
    };
  };
  compare(state, {{"naive", score(false)}, {"shared", score(true)}});
}
BENCHMARK(inherited_scores)->Unit(benchmark::kMillisecond)->Iterations(3);

}  // namespace

BENCHMARK_MAIN();
