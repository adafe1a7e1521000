// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/planned_unet/planner.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "nas/cli/command.h"
#include "nas/core/error.h"
#include "nas/imaging/data_set_check.h"
#include "nas/imaging/dataset.h"
#include "nas/imaging/fingerprint.h"
#include "search_spaces/planned_unet/nnunet_plans.h"

namespace nas {
namespace {

std::string number(double value) {
  std::ostringstream out;
  out << std::setprecision(4) << value;
  return out.str();
}

std::string triple(const Vec3& v) {
  return number(v[0]) + " x " + number(v[1]) + " x " + number(v[2]);
}

/// "1x2x2 2x2x2*4": runs of equal entries are counted.
template <class T, class Text>
std::string counted(const std::vector<T>& items, const Text& text) {
  std::string result;
  for (std::size_t i = 0; i < items.size();) {
    std::size_t end = i;
    while (end < items.size() && items[end] == items[i]) ++end;
    result += (result.empty() ? "" : " ") + text(items[i]);
    if (end - i > 1) result += "*" + std::to_string(end - i);
    i = end;
  }
  return result;
}

/// One row per property, one column per configuration.
std::string plan_table(const Plan& plan, const PlannerFacts& facts) {
  const auto shape = [](const Extent3& e) { return to_text(e); };
  const auto count = [](std::int64_t n) { return std::to_string(n); };
  const auto word = [](const std::string& s) { return s; };
  std::vector<std::vector<std::string>> rows = {{""},
                                                {"spacing mm"},
                                                {"median voxels"},
                                                {"patch"},
                                                {"batch"},
                                                {"network"},
                                                {"stages"},
                                                {"features"},
                                                {"strides"},
                                                {"kernels"},
                                                {"blocks"},
                                                {"normalisation"},
                                                {"batch Dice"}};
  for (const Configuration& c : plan.configurations) {
    const UnetArchitecture& unet = c.architecture;
    const bool masked = std::ranges::find(c.use_mask_for_norm, true) != c.use_mask_for_norm.end();
    const std::vector<std::string> column = {
        c.name,
        triple(c.spacing),
        triple(c.median_shape),
        to_text(c.patch),
        std::to_string(c.batch),
        unet.residual ? "residual encoder" : "plain",
        std::to_string(unet.features.size()),
        counted(unet.features, count),
        counted(unet.strides, shape),
        counted(unet.kernels, shape),
        counted(unet.blocks, count),
        counted(c.normalization, word) + (masked ? " (masked)" : ""),
        c.batch_dice ? "yes" : "no"};
    for (std::size_t r = 0; r < rows.size(); ++r) rows[r].push_back(column[r]);
  }

  std::ostringstream out;
  out << plan.dataset_name << ": " << facts.training_cases << " cases, "
      << facts.channel_names.size() << (facts.channel_names.size() == 1 ? " channel" : " channels")
      << ", " << facts.labels << "; planner " << plan.planner << " for "
      << number(plan.gpu_memory_gb) << " GB\n";
  if (!plan.orientation.empty()) out << "orientation " << plan.orientation << "; ";
  out << "axes in the order " << plan.transpose_forward[0] << " " << plan.transpose_forward[1]
      << " " << plan.transpose_forward[2]
      << " (0 = D, 1 = H, 2 = W); all triples below in that order\n";
  const std::size_t columns = rows[0].size();
  for (const std::vector<std::string>& row : rows) {
    for (std::size_t c = 0; c < columns; ++c) {
      std::size_t width = 0;
      for (const auto& other : rows) width = std::max(width, other[c].size());
      out << row[c] << (c + 1 < columns ? std::string(width - row[c].size() + 2, ' ') : "");
    }
    out << "\n";
  }
  return out.str();
}

struct Options {
  std::string data, fingerprint, dataset, write_fingerprint;
  DataOptions how;
  double gpu_memory_gb = 0;
  bool json = false;
  int threads = 0;
};

int run(const Options& o) {
  Fingerprint fingerprint;
  PlannerFacts facts;
  if (!o.data.empty()) {
    NAS_CHECK_KIND(Usage,
                   o.fingerprint.empty() && o.dataset.empty(),
                   "plan: give either a data set folder or --fingerprint and --dataset, not both");
    DataSet data = open_data_set(o.data);
    data.accept_misaligned = o.how.accept_misaligned;
    check_before_training(data, o.threads);
    use_orientation(data, o.how.orientation);
    facts = planner_facts(data);
    fingerprint = compute_fingerprint(data, o.threads);
  } else {
    NAS_CHECK_KIND(Usage,
                   !o.fingerprint.empty() && !o.dataset.empty(),
                   "plan: expected a data set folder, or --fingerprint FILE and --dataset FILE");
    NAS_CHECK_KIND(Usage,
                   o.how.orientation.empty(),
                   "--orientation goes with a data set folder; a fingerprint has its own");
    const std::filesystem::path dataset = std::filesystem::absolute(o.dataset);
    facts = planner_facts_from_json(
        read_json(dataset), dataset.parent_path().filename().string(), o.dataset);
    fingerprint = fingerprint_from_json(read_json(o.fingerprint), o.fingerprint);
  }
  if (!o.write_fingerprint.empty()) write_json(o.write_fingerprint, to_json(fingerprint));
  const Plan plan =
      make_plan(fingerprint, facts, {.planner = o.how.planner, .gpu_memory_gb = o.gpu_memory_gb});
  if (o.json) {
    std::cout << nnunet_plans_json(plan).dump(2) << "\n";
  } else {
    std::cerr << plan_table(plan, facts);
  }
  return 0;
}

}  // namespace

Command plan_command() {
  return {.name = "plan", .setup = [](CLI::App& app) -> std::function<int()> {
            auto o = std::make_shared<Options>();
            app.add_option("DATA",
                           o->data,
                           "Folder of the data set, with a dataset.json (MSD or nnU-Net v2 raw)");
            app.add_option("--fingerprint",
                           o->fingerprint,
                           "Plan from this dataset_fingerprint.json instead of DATA");
            app.add_option("--dataset",
                           o->dataset,
                           "The dataset.json (nnU-Net's form) that belongs to --fingerprint");
            app.add_option(
                "--write-fingerprint",
                o->write_fingerprint,
                "Also write the fingerprint to this file (nnU-Net's dataset_fingerprint.json)");
            app.add_option("--gpu-memory",
                           o->gpu_memory_gb,
                           "GPU memory in GB that a training may use. Left out: 8, with resenc-l "
                           "24")
                ->check(CLI::Range(0.001, 1e6));
            add_data_options(app, o->how);
            app.add_flag("--json", o->json, "Print the plan as nnU-Net's plans.json on stdout");
            add_threads(app, o->threads);
            return [o] { return run(*o); };
          }};
}

}  // namespace nas
