// SPDX-License-Identifier: Apache-2.0
#include "nas/results/prior_runs.h"

#include <cmath>
#include <filesystem>
#include <map>
#include <optional>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/json.h"
#include "nas/core/paths.h"
#include "nas/core/run_folder.h"
#include "nas/results/run_database.h"

namespace nas {
namespace {

/// Scores of one network's own trainings in a stage, by rung.
using Rungs = std::map<int, double>;

/// The difference on the last rung that both have.
std::optional<double> against(const Rungs& network, const Rungs& plan) {
  for (auto rung = network.rbegin(); rung != network.rend(); ++rung) {
    if (const auto same = plan.find(rung->first); same != plan.end()) {
      return rung->second - same->second;
    }
  }
  return std::nullopt;
}

}  // namespace

PriorRun read_prior_run(const ResultsDb& database) {
  const std::string where = database.file().string();
  const Json setup = parse_json(database.run().setup_json, where);
  const JsonReader reader(setup, where);
  PriorRun run;
  run.name = reader.has("data") ? reader.at("data").at("name").text() : where;
  if (reader.has("features")) run.features = reader.at("features").numbers();
  std::map<std::string, std::map<std::string, Rungs>> stages;  // by stage and network
  std::map<std::string, std::string> plans;
  for (const Trial& trial : database.trials()) {
    if (trial.purpose != TrialPurpose::Search || trial.status != TrialStatus::Done) continue;
    if (!std::isfinite(trial.evaluation.score)) continue;
    stages[trial.stage][trial.genotype_text][trial.rung] = trial.evaluation.score;
    if (trial.label == "baseline") plans[trial.stage] = trial.genotype_text;
  }
  for (const auto& [stage, networks] : stages) {
    if (!plans.contains(stage)) continue;
    const std::string& plan = plans.at(stage);
    for (const auto& [text, rungs] : networks) {
      if (text == plan) continue;
      if (const auto difference = against(rungs, networks.at(plan))) {
        run.results.push_back({text, *difference});
      }
    }
  }
  return run;
}

std::vector<PriorRun> read_prior_runs(const std::string& names) {
  std::vector<PriorRun> runs;
  for (const std::filesystem::path& path : split_paths(names)) {
    if (std::filesystem::is_regular_file(path)) {
      for (const RunEntry& entry : ResultsDb::runs(path)) {
        runs.push_back(read_prior_run(ResultsDb::open_read_only(path, entry.id)));
      }
      continue;
    }
    NAS_CHECK_KIND(Usage,
                   has_database(RunFolder(path)),
                   "--prior ",
                   path.string(),
                   ": expected the folder of a search or a results database, found none");
    runs.push_back(read_prior_run(open_to_read(RunFolder(path))));
  }
  return runs;
}

}  // namespace nas
