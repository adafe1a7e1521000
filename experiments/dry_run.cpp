// SPDX-License-Identifier: Apache-2.0
#include "experiments/dry_run.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "nas/core/error.h"
#include "nas/core/quantity.h"
#include "nas/core/text.h"
#include "nas/jobs/strategies/strategies.h"
#include "nas/report/text.h"
#include "nas/search/forecast.h"
#include "nas/search/recipe.h"
#include "search_spaces/network_file.h"
#include "search_spaces/planned_unet/unet.h"
#include "training/settings/options.h"
#include "training/settings/plan_training.h"

namespace nas {
namespace {

constexpr const char* kConfiguration = "3d_fullres";
constexpr const char* kPanc = "c2fnas-panc";
std::string triple(const Vec3& v, int digits) {
  return fixed(v[0], digits) + " x " + fixed(v[1], digits) + " x " + fixed(v[2], digits);
}

std::string tflops(double per_second) {
  return fixed(per_second / 1e12, per_second < 1e12 ? 3 : 0) + " TFLOP/s";
}

/// Speeds that a search would measure, by the forecast for the planned network.
SearchProbes forecast_probes(const NetworkForecast& planned) {
  const double sample_seconds = planned.step_seconds / static_cast<double>(planned.batch);
  SearchProbes probes;
  // Inner validation is at most a fold's share of the training cases: scored like held-out ones.
  probes.search = {.step_seconds = sample_seconds * static_cast<double>(kSmallestBatch),
                   .evaluation_seconds = planned.held_out_seconds,
                   .probe_seconds = 0};
  probes.retrain = probes.search;
  // Scoring with inherited weights: the forward passes of one inner validation.
  probes.candidate_seconds = planned.held_out_seconds;
  return probes;
}

/// A row for each sort of trials of a stage.
Table stage_rows(const std::vector<StageForecast>& stages) {
  Table table;
  table.head = {"stage", "kind", "time", "trials", "", "steps each"};
  table.columns = "llrrlr";
  for (const StageForecast& stage : stages) {
    if (!stage.refused.empty()) {
      table.rows.push_back({stage.name, stage.kind, "refused", "", "", ""});
    }
    for (const TrialForecast& t : stage.trials) {
      const bool first = &t == &stage.trials.front();
      table.rows.push_back({first ? stage.name : "",
                            first ? stage.kind : "",
                            first ? format_duration(stage.seconds) : "",
                            std::to_string(t.count),
                            t.what,
                            t.steps > 0 ? std::to_string(t.steps) : "none"});
    }
  }
  return table;
}

Table network_rows(const DryRun& run) {
  Table table;
  table.head = {"network",
                "patch",
                "batch",
                "parameters",
                "GMAC",
                "memory",
                "TFLOP a step",
                "s a step",
                "held-out cases",
                "250,000 steps"};
  table.columns = "lrrrrrrrrr";
  for (const NetworkForecast& n : run.networks) {
    table.rows.push_back({n.name,
                          to_text(n.patch),
                          std::to_string(n.batch),
                          format_count(static_cast<double>(n.parameters)),
                          fixed(static_cast<double>(n.macs) / 1e9, 1),
                          format_bytes(n.memory_bytes) +
                              (n.memory_bytes > run.device.memory_bytes ? " (too much)" : ""),
                          fixed(n.sample_flops * static_cast<double>(n.batch) / 1e12, 2),
                          fixed(n.step_seconds, n.step_seconds < 10 ? 4 : 1),
                          format_duration(n.held_out_seconds),
                          fixed(n.full_hours, 1) + " h"});
  }
  return table;
}

Table calibration_rows(const std::vector<Calibration>& calibration) {
  Table table;
  table.head = {"task", "PFLOP an epoch", "measured", "forecast", "forecast / measured"};
  table.columns = "lrrrr";
  for (const Calibration& c : calibration) {
    table.rows.push_back({c.experiment,
                          fixed(c.epoch_flops / 1e15, 2),
                          fixed(c.measured_seconds, 2) + " s",
                          fixed(c.forecast_seconds, 2) + " s",
                          fixed(c.forecast_seconds / c.measured_seconds, 2)});
  }
  return table;
}

}  // namespace

DryRun dry_run(const Experiment& experiment, const DryRunOptions& options) {
  DryRun run;
  run.experiment = experiment;
  run.plan = experiment_plan(experiment, {.planner = options.planner});
  run.device = find_device(options.device);
  run.budget_seconds = options.budget_seconds;
  const Configuration& c = run.plan.configuration(kConfiguration);
  run.networks.push_back(
      forecast_network("planned", make_unet(c.architecture), experiment, run.plan, run.device));
  // The paper's transfer: the network found on pancreas, unchanged but for channels and classes.
  const NetworkFileOptions task{
      .channels = static_cast<std::int64_t>(experiment.facts.channel_names.size()),
      .classes = experiment.facts.classes,
      .adapt = true};
  run.networks.push_back(
      forecast_network(kPanc, load_network(kPanc, task).graph, experiment, run.plan, run.device));
  for (const auto& [name, graph] : options.networks) {
    run.networks.push_back(forecast_network(name, graph, experiment, run.plan, run.device));
  }
  const std::string where = experiment.recipe_file;
  const Recipe recipe =
      options.recipe.empty()
          ? recipe_from_json(parse_json(experiment.recipe, where), where, strategy_kinds())
          : load_recipe(options.recipe, strategy_kinds());
  run.recipe_name = recipe.name;
  run.space = recipe.space;
  run.stages = forecast_stages(recipe,
                               {.seconds = options.budget_seconds, .steps = 0},
                               0,
                               forecast_probes(run.networks.front()));
  run.calibration = h100_calibration();
  return run;
}

std::string to_text(const DryRun& run) {
  const Experiment& e = run.experiment;
  const Configuration& c = run.plan.configuration(kConfiguration);
  const std::int64_t held_out = e.facts.training_cases / kFolds;
  std::ostringstream out;
  out << e.name << ": dry run, no image is read\n\n"
      << "data    " << e.dataset << ", " << e.facts.training_cases << " cases (a fold holds out "
      << held_out << "), channels " << joined(e.facts.channel_names) << ", classes "
      << joined(e.class_names) << "\n"
      << "        fingerprint: " << e.source << "\n"
      << "plan    " << run.plan.planner << " for " << fixed(run.plan.gpu_memory_gb, 0)
      << " GB: spacing " << triple(c.spacing, 3) << " mm, median image "
      << triple(c.median_shape, 1) << ", patch " << to_text(c.patch) << ", batch " << c.batch
      << "\n        normalisation " << joined(c.normalization)
      << (c.batch_dice ? ", Dice over the batch" : "") << "\n"
      << "        assumed: all training cases in the fingerprint; a fold's own leaves out its "
         "held-out ones\n"
      << "device  " << run.device.title << ": peak " << tflops(run.device.peak_flops) << " ("
      << run.device.peak_source << "), sustained " << tflops(run.device.sustained_flops) << "\n"
      << "        " << run.device.sustained_source << "\n\n"
      << "Networks (MACs of one forward pass; a training step is 3 passes at 2 FLOPs a MAC)\n"
      << text_table(network_rows(run)) << "\n"
      << "nnU-Net's epochs on an H100, measured, against this forecast\n"
      << text_table(calibration_rows(run.calibration)) << "\n"
      << "Search with recipe " << run.recipe_name << " over " << run.space << ", "
      << format_duration(run.budget_seconds) << " on this device (steps of batch " << kSmallestBatch
      << ", planned network)\n";
  out << text_table(stage_rows(run.stages));
  for (const StageForecast& stage : run.stages) {
    if (!stage.refused.empty()) out << stage.name << ": " << stage.refused << '\n';
  }
  return out.str();
}

Json to_json(const DryRun& run) {
  const Configuration& c = run.plan.configuration(kConfiguration);
  Json networks = Json::array(), stages = Json::array(), calibration = Json::array();
  for (const NetworkForecast& n : run.networks) {
    networks.push_back({{"name", n.name},
                        {"patch", n.patch},
                        {"batch", n.batch},
                        {"parameters", n.parameters},
                        {"macs", n.macs},
                        {"memory_bytes", n.memory_bytes},
                        {"fits", n.memory_bytes <= run.device.memory_bytes},
                        {"flops_per_step", n.sample_flops * static_cast<double>(n.batch)},
                        {"seconds_per_step", n.step_seconds},
                        {"held_out_seconds", n.held_out_seconds},
                        {"full_steps", kFullSteps},
                        {"full_hours", n.full_hours}});
  }
  for (const StageForecast& stage : run.stages) stages.push_back(to_json(stage));
  for (const Calibration& k : run.calibration) {
    calibration.push_back({{"task", k.experiment},
                           {"epoch_flops", k.epoch_flops},
                           {"measured_seconds", k.measured_seconds},
                           {"forecast_seconds", k.forecast_seconds}});
  }
  return {{"experiment", run.experiment.name},
          {"dataset", run.experiment.dataset},
          {"cases", run.experiment.facts.training_cases},
          {"source", run.experiment.source},
          {"plan",
           {{"planner", run.plan.planner},
            {"spacing", c.spacing},
            {"median_shape", c.median_shape},
            {"patch", c.patch},
            {"batch", c.batch},
            {"normalization", c.normalization},
            {"batch_dice", c.batch_dice}}},
          {"device",
           {{"name", run.device.name},
            {"title", run.device.title},
            {"peak_flops", run.device.peak_flops},
            {"sustained_flops", run.device.sustained_flops},
            {"measured", run.device.measured},
            {"source", run.device.sustained_source},
            {"memory_bytes", run.device.memory_bytes}}},
          {"budget_seconds", run.budget_seconds},
          {"recipe", run.recipe_name},
          {"space", run.space},
          {"networks", networks},
          {"stages", stages},
          {"calibration", calibration}};
}

}  // namespace nas
