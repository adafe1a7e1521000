// SPDX-License-Identifier: Apache-2.0
#include "training/fit/probe.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/DeviceGuard.h>

#include "nas/core/stopwatch.h"
#include "training/fit/fit.h"
#include "training/fit/losses.h"
#include "training/fit/training_step.h"
#include "training/model/device.h"

namespace nas {
namespace {

/// Highest resident memory of the process since the last reset, from /proc (0 where there is none).
std::int64_t peak_resident_bytes(bool reset) {
  if (reset) {
    std::ofstream("/proc/self/clear_refs") << "5";
    return 0;
  }
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::strtoll(line.c_str() + 6, nullptr, 10) * 1024;
  }
  return 0;
}

}  // namespace

ProbeResult probe(const Graph& graph,
                  const TrainOptions& options,
                  const LabelScheme& labels,
                  int steps) {
  const at::Device device = choose_device(options.device);
  const c10::DeviceGuard device_guard(device);
  set_up_compute(options.threads, device);
  peak_resident_bytes(true);
  GraphModule network(graph, options.seed);
  network->to(device);
  TrainingStep step(network, options, device);
  const std::int64_t channels =
      infer_shapes(graph, options.patch)[static_cast<std::size_t>(graph.input_nodes().at(0))]
          .channels;
  at::Generator generator = at::globalContext().defaultGenerator(at::kCPU).clone();
  generator.set_current_seed(options.seed);
  Batch batch = empty_batch(options, channels, at::kCPU);
  batch.image.normal_(0, 1, generator);
  batch.target.random_(0, 2, generator);
  batch.target = training_target(batch.target, labels);
  batch = {batch.image.to(device), batch.target.to(device)};

  const auto timed = [&](auto&& work) {
    const Stopwatch watch;
    work();
    return watch.seconds();
  };
  ProbeResult result;
  std::vector<double> times;
  for (int i = 0; i <= steps; ++i) {  // the first is the warm-up
    bool skipped = false;
    times.push_back(timed([&] { step.run(batch, 0, skipped); }));
  }
  times.erase(times.begin());
  std::sort(times.begin(), times.end());
  result.seconds_per_step = times[times.size() / 2];

  const at::NoGradGuard no_grad;
  network->eval();
  const Autocast autocast(device, step.type);
  const auto forward = [&] { network->forward(batch.image.slice(0, 0, 1))[0].sum().item<float>(); };
  forward();
  result.seconds_per_forward = timed(forward);
  result.peak_bytes = device.is_cpu() ? peak_resident_bytes(false)
                                      : c10::getDeviceAllocator(device.type())
                                            ->getDeviceStats(device.index())
                                            .allocated_bytes[0]
                                            .peak;
  return result;
}

}  // namespace nas
