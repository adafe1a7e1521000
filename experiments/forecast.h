// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/experiment.h"
#include "nas/network/graph.h"

namespace nas {

/// FLOPs of training on one sample: forward, gradient of the input and of the weights, two FLOPs a
/// multiply-add; convolutions only, deep-supervision heads included.
double training_flops(const Graph& graph, const Extent3& patch);

/// Machine on which a forecast is made (experiments/published/devices.json).
struct Device {
  std::string name, title;  // "h100", "NVIDIA H100 PCIe, 80 GB"
  double peak_flops = 0;    // per second, dense 16-bit
  double memory_bytes = 0;
  std::string peak_source;
  /// FLOPs per second that a training of nnU-Net's network reached. Where nobody measured one, the
  /// share of the peak that a like device reached, and `measured` is false.
  double sustained_flops = 0;
  std::string sustained_source;
  bool measured = false;
};
std::vector<std::string> device_names();
Device find_device(const std::string& name);  // \throws Error(Usage) with the nearest name

/// nnU-Net's epochs on an H100 against a forecast with the median speed over the ten tasks.
struct Calibration {
  std::string experiment;
  double epoch_flops = 0;  // 250 training steps and 50 validation steps
  double measured_seconds = 0, forecast_seconds = 0;
};
const std::vector<Calibration>& h100_calibration();

/// Forecast for one network on one task.
struct NetworkForecast {
  std::string name;
  Extent3 patch{0, 0, 0};
  std::int64_t batch = 0;
  std::int64_t parameters = 0, macs = 0;  // of one forward pass of one patch, first output only
  double memory_bytes = 0;                // of a training step at `batch`
  double sample_flops = 0;                // training_flops
  double step_seconds = 0;                // at `batch`
  double held_out_seconds = 0;            // sliding windows over one fold's held-out cases
  double full_hours = 0;                  // kFullSteps and the scoring
};
inline constexpr double kFullSteps = 250000;  // nnU-Net's 1000 epochs of 250 steps
inline constexpr int kFolds = 5;              // of nnU-Net's cross-validation

NetworkForecast forecast_network(const std::string& name,
                                 const Graph& graph,
                                 const Experiment& experiment,
                                 const Plan& plan,
                                 const Device& device);

}  // namespace nas
