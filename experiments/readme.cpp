// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>
#include <sstream>

#include "experiments/dry_run.h"
#include "nas/core/error.h"
#include "nas/core/quantity.h"
#include "nas/report/text.h"
#include "search_spaces/planned_unet/unet.h"

namespace nas {
namespace {

std::string claim_of(const Experiment& e) {
  if (e.name == "task07_pancreas") {
    return "On the task that C2FNAS searched on, a search with the recipe below finds a network "
           "that is no worse than nnU-Net's planned one, trained alike within the same budget and "
           "compared case by case on the held-out fold. C2FNAS-Panc itself, trained from scratch, "
           "is no worse either.";
  }
  return "C2FNAS-Panc, found on pancreas, is deployed unchanged (only input channels and classes "
         "are adapted) and is no worse than nnU-Net's planned network, trained alike within the "
         "same budget and compared case by case on the held-out fold. A search on this task with "
         "the recipe below does not fall behind either.";
}

std::string percent(double fraction) { return fixed(100 * fraction, 2); }

/// Test-set Dice of the methods that the project compares with, per class.
Table test_table(const Experiment& e) {
  Table table;
  table.head = {"method"};
  table.columns = "l";
  for (const std::string& name : e.class_names) {
    table.head.push_back(name);
    table.columns += 'r';
  }
  table.head.emplace_back("source");
  const Json slides = published("msd_test.json");
  const std::vector<std::string> order = slides.at("tasks").get<std::vector<std::string>>();
  for (const Json& row : slides.at("rows")) {
    for (std::size_t t = 0; t < order.size(); ++t) {
      if (order[t] != e.name) continue;
      std::vector<std::string> line = {row.at("method").get<std::string>()};
      for (const double dice : row.at("dice").at(t)) line.push_back(fixed(dice, 2));
      line.emplace_back("[1]");
      table.rows.push_back(std::move(line));
    }
  }
  const Json others = published("auto_nnunet.json");
  for (const auto& [method, tasks] : others.at("test").items()) {
    std::vector<std::string> line = {method};
    for (const double dice : tasks.at(e.name)) line.push_back(percent(dice));
    line.emplace_back("[2]");
    table.rows.push_back(std::move(line));
  }
  return table;
}

}  // namespace

std::string experiment_readme(const Experiment& e) {
  const Device device = find_device("h100");
  const Plan plan = experiment_plan(e);
  const NetworkForecast planned = forecast_network(
      "planned", make_unet(plan.configuration("3d_fullres").architecture), e, plan, device);
  const std::vector<CrossValidation> folds = cross_validations(e.name);
  std::ostringstream out;
  out << "# experiment_" << e.name << "\n\n"
      << "Written by `make experiments-readmes`; the figures come from `experiments/published` and "
         "from the plan.\n\n"
      << "## Claim\n\n"
      << claim_of(e) << "\n\nNot yet run.\n\n"
      << "## Command\n\n```sh\n"
      << "cmake --build build/release --target experiment_" << e.name << "\n"
      << "E=build/release/experiments/bin/experiment_" << e.name << "\n"
      << "$E --dry-run --gpu h100                                  # plan and forecast, no data\n"
      << "$E DATA_ROOT --budget 24h -o RUN                         # search with "
      << (e.recipe_file == "recipe.json" ? "../recipe.json" : "recipe.json") << "\n"
      << "$E DATA_ROOT --network c2fnas-panc --budget 24h -o RUN2  # transfer, from scratch\n"
      << "$E DATA_ROOT --network RUN/model --weights --budget 4h -o RUN3  # from found weights\n"
      << "```\n\n`DATA_ROOT` holds `" << e.dataset
      << "`, as the decathlon delivers it. Five folds: `--fold 0` to `--fold 4`.\n\n"
      << "## Hardware\n\n"
      << "One GPU with " << format_bytes(planned.memory_bytes)
      << " or more for a training step of the planned network (" << to_text(planned.patch)
      << ", batch " << planned.batch << ", 16 bit; forecast).\nnnU-Net's " << fixed(kFullSteps, 0)
      << " steps on one fold: ";
  for (const CrossValidation& v : folds) {
    if (v.network != "ConvolutionalEncoder") continue;
    out << fixed(v.fold_hours, 1) << " h measured on an H100 [2], " << fixed(planned.full_hours, 1)
        << " h by our forecast.\n\n";
  }
  out << "## Expected\n\nCross-validation, Dice in %, mean of five folds of 1000 epochs [2]. "
         "Tolerance for one fold: twice the deviation of the five.\n\n";
  Table expected;
  expected.head = {"network"};
  expected.columns = "l";
  for (const std::string& name : e.class_names) {
    expected.head.push_back(name);
    expected.columns += 'r';
  }
  expected.head.emplace_back("hours a fold, H100");
  expected.columns += 'r';
  for (const CrossValidation& v : folds) {
    std::vector<std::string> line = {v.network};
    for (std::size_t k = 0; k < v.mean.size(); ++k) {
      line.push_back(percent(v.mean[k]) + " ± " + percent(2 * v.deviation[k]));
    }
    line.push_back(fixed(v.fold_hours, 1));
    expected.rows.push_back(std::move(line));
  }
  out << markdown_table(expected) << "\nHidden test set (" << e.test_cases
      << " cases), Dice in %; no local run can be compared with it.\n\n"
      << markdown_table(test_table(e)) << "\n[1] "
      << published("msd_test.json").at("source").get<std::string>() << ".  \n[2] "
      << published("auto_nnunet.json").at("source").get<std::string>() << ".\n";
  return out.str();
}

}  // namespace nas
