// SPDX-License-Identifier: Apache-2.0
#include "experiments/experiment.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "nas/core/embedded.h"
#include "nas/core/error.h"
#include "nas/core/text.h"

namespace nas {

std::span<const EmbeddedFile> experiment_files();  // generated

const std::vector<std::string>& experiment_names() {
  static const std::vector<std::string> names = {"task01_brain_tumour",
                                                 "task02_heart",
                                                 "task03_liver",
                                                 "task04_hippocampus",
                                                 "task05_prostate",
                                                 "task06_lung",
                                                 "task07_pancreas",
                                                 "task08_hepatic_vessel",
                                                 "task09_spleen",
                                                 "task10_colon"};
  return names;
}

Experiment load_experiment(const std::string& name) {
  const std::vector<std::string>& names = experiment_names();
  if (std::ranges::find(names, name) == names.end()) {
    const std::string near = did_you_mean(name, names, "");
    fail(ErrorKind::Usage,
         "experiment '",
         name,
         "' is unknown",
         near.empty() ? "; expected task01_brain_tumour to task10_colon" : near);
  }
  const std::string folder = name + "/";
  const Json dataset = parse_json(embedded_text(experiment_files(), folder + "dataset.json"),
                                  folder + "dataset.json");
  const Json fingerprint = parse_json(
      embedded_text(experiment_files(), folder + "fingerprint.json"), folder + "fingerprint.json");
  const JsonReader reader(dataset, folder + "dataset.json");
  Experiment e;
  e.name = name;
  e.dataset = reader.at("name").text();
  e.test_cases = reader.at("numTest").integer(1, 1 << 20);
  e.facts = planner_facts_from_json(dataset, e.dataset, reader.where());
  e.class_names.resize(static_cast<std::size_t>(e.facts.classes - 1));
  for (const std::string& label : reader.at("labels").keys()) {
    const std::int64_t value = reader.at("labels").at(label).integer(0, e.facts.classes - 1);
    if (value > 0) e.class_names[static_cast<std::size_t>(value - 1)] = label;
  }
  e.fingerprint = fingerprint_from_json(fingerprint, folder + "fingerprint.json");
  e.source = JsonReader(fingerprint, folder + "fingerprint.json").at("source").text();
  const std::string own = folder + "recipe.json";
  const bool has_own = std::ranges::any_of(
      experiment_files(), [&](const EmbeddedFile& file) { return file.name == own; });
  e.recipe_file = has_own ? own : "recipe.json";
  e.recipe = embedded_text(experiment_files(), e.recipe_file);
  return e;
}

Plan experiment_plan(const Experiment& experiment, const PlannerOptions& options) {
  return make_plan(experiment.fingerprint, experiment.facts, options);
}

Json published(const std::string& file) {
  const std::string name = "published/" + file;
  return parse_json(embedded_text(experiment_files(), name), name);
}

std::vector<CrossValidation> cross_validations(const std::string& experiment) {
  constexpr double kEpochs = 1000;
  const Json data = published("auto_nnunet.json");
  const JsonReader networks = JsonReader(data, "auto_nnunet.json").at("cross_validation");
  std::vector<CrossValidation> result;
  for (const std::string& network : networks.keys()) {
    const JsonReader task = networks.at(network).at(experiment);
    CrossValidation v;
    v.network = network;
    for (std::size_t f = 0; f < task.at("folds").size(); ++f)
      v.folds.push_back(task.at("folds").at(f).numbers());
    const auto count = static_cast<double>(v.folds.size());
    for (std::size_t k = 0; k < v.folds.at(0).size(); ++k) {
      double sum = 0, squares = 0;
      for (const auto& fold : v.folds) sum += fold.at(k);
      for (const auto& fold : v.folds) squares += std::pow(fold[k] - sum / count, 2);
      v.mean.push_back(sum / count);
      v.deviation.push_back(std::sqrt(squares / (count - 1)));
    }
    for (const double dice : v.mean) v.mean_dice += dice / static_cast<double>(v.mean.size());
    v.epoch_seconds = task.at("median_epoch_s").number();
    v.fold_hours = v.epoch_seconds * kEpochs / 3600;
    result.push_back(std::move(v));
  }
  return result;
}

}  // namespace nas
