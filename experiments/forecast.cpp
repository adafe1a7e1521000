// SPDX-License-Identifier: Apache-2.0
#include "experiments/forecast.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/text.h"
#include "nas/network/output_region.h"
#include "nas/search/statistics.h"
#include "search_spaces/planned_unet/unet.h"

namespace nas {
namespace {

constexpr double kTrainingSteps = 250, kValidationSteps = 50;  // of nnU-Net's epoch
constexpr const char* kPlainUnet = "ConvolutionalEncoder";

struct PlannedCost {
  double sample_flops = 0;
  std::int64_t batch = 0;
};

PlannedCost planned_cost(const std::string& experiment) {
  const Plan plan = experiment_plan(load_experiment(experiment));
  const Configuration& c = plan.configuration("3d_fullres");
  return {training_flops(make_unet(c.architecture), c.patch), c.batch};
}

double h100_flops() {
  std::vector<double> speeds;
  for (const Calibration& c : h100_calibration())
    speeds.push_back(c.epoch_flops / c.measured_seconds);
  return median(speeds);
}

Device read_device(const JsonReader& devices, std::size_t index) {
  const JsonReader row = devices.at(index);
  Device d;
  d.name = row.at("name").text();
  d.title = row.at("title").text();
  d.peak_flops = 1e12 * row.at("peak_tflops").number();
  d.memory_bytes = 1e9 * row.at("memory_gb").number();
  d.peak_source = row.at("peak_source").text();
  if (row.has("like")) {
    const std::string like = row.at("like").text();
    for (std::size_t i = 0; i < devices.size(); ++i) {
      if (devices.at(i).at("name").text() != like) continue;
      const Device other = read_device(devices, i);
      d.sustained_flops = d.peak_flops * other.sustained_flops / other.peak_flops;
      d.sustained_source = "assumed: the share of the peak that " + other.title + " reached";
    }
    NAS_CHECK_KIND(Internal, d.sustained_flops > 0, row.where(), ": no device '", like, "'");
    return d;
  }
  const JsonReader measured = row.at("measured");
  d.measured = true;
  d.sustained_source = "measured: " + measured.at("source").text();
  if (measured.has("epochs")) {
    d.sustained_flops = h100_flops();
  } else {
    d.sustained_flops = measured.at("samples_per_second").number() *
                        planned_cost(measured.at("task").text()).sample_flops;
  }
  return d;
}

/// Windows of a case whose image has `voxels` along each axis, half a patch apart.
double windows_of(const Vec3& voxels, const Extent3& patch) {
  double count = 1;
  for (std::size_t a = 0; a < 3; ++a) {
    const double size = static_cast<double>(patch[a]);
    count *= 1 + std::ceil(std::max(0.0, voxels[a] - size) / (0.5 * size));
  }
  return count;
}

}  // namespace

double training_flops(const Graph& graph, const Extent3& patch) {
  return 3 * 2 * static_cast<double>(total_cost(graph, patch).macs);
}

const std::vector<Calibration>& h100_calibration() {
  static const std::vector<Calibration> table = [] {
    std::vector<Calibration> rows;
    std::vector<double> speeds;
    for (const std::string& name : experiment_names()) {
      const PlannedCost cost = planned_cost(name);
      Calibration c{.experiment = name};
      // A validation step is a forward pass: a third of a training step.
      c.epoch_flops = cost.sample_flops * static_cast<double>(cost.batch) *
                      (kTrainingSteps + kValidationSteps / 3);
      for (const CrossValidation& v : cross_validations(name)) {
        if (v.network == kPlainUnet) c.measured_seconds = v.epoch_seconds;
      }
      NAS_CHECK_KIND(Internal, c.measured_seconds > 0, name, ": no epoch time of ", kPlainUnet);
      speeds.push_back(c.epoch_flops / c.measured_seconds);
      rows.push_back(c);
    }
    const double speed = median(speeds);
    for (Calibration& c : rows) c.forecast_seconds = c.epoch_flops / speed;
    return rows;
  }();
  return table;
}

std::vector<std::string> device_names() {
  const Json data = published("devices.json");
  std::vector<std::string> names;
  for (const Json& row : data.at("devices")) names.push_back(row.at("name"));
  return names;
}

Device find_device(const std::string& name) {
  const Json data = published("devices.json");
  const JsonReader devices = JsonReader(data, "devices.json").at("devices");
  for (std::size_t i = 0; i < devices.size(); ++i) {
    if (devices.at(i).at("name").text() == name) return read_device(devices, i);
  }
  fail(ErrorKind::Usage, "--gpu: expected one of ", joined(device_names()), ", got '", name, "'");
}

NetworkForecast forecast_network(const std::string& name,
                                 const Graph& graph,
                                 const Experiment& experiment,
                                 const Plan& plan,
                                 const Device& device) {
  const Configuration& c = plan.configuration("3d_fullres");
  NetworkForecast f{.name = name};
  f.patch = fitting_patch(graph, c.patch);
  f.batch = c.batch;
  const Cost cost = total_cost(first_output_only(graph), f.patch);
  f.parameters = cost.parameters;
  f.macs = cost.macs;
  f.memory_bytes = static_cast<double>(training_memory_bytes(graph, f.patch, f.batch, 2));
  f.sample_flops = training_flops(graph, f.patch);
  f.step_seconds = f.sample_flops * static_cast<double>(f.batch) / device.sustained_flops;
  double windows = 0;
  for (std::size_t i = 0; i < experiment.fingerprint.spacings.size(); ++i) {
    Vec3 voxels{};
    for (std::size_t a = 0; a < 3; ++a) {
      const auto from = static_cast<std::size_t>(plan.transpose_forward[a]);
      voxels[a] =
          std::round(static_cast<double>(experiment.fingerprint.shapes_after_crop[i][from]) *
                     experiment.fingerprint.spacings[i][from] / c.spacing[a]);
    }
    windows += windows_of(voxels, f.patch);
  }
  f.held_out_seconds = windows / kFolds * 2 * static_cast<double>(f.macs) / device.sustained_flops;
  f.full_hours = (kFullSteps * f.step_seconds + f.held_out_seconds) / 3600;
  return f;
}

}  // namespace nas
