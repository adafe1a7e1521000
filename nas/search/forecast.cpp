// SPDX-License-Identifier: Apache-2.0
#include "nas/search/forecast.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/progress.h"

namespace nas {
namespace {

std::vector<TrialForecast> trials_of(const StageSpec& stage,
                                     const StageBudget& budget,
                                     bool has_clock,
                                     const Probe& probe) {
  // Steps of a training that may spend this share of the stage.
  const auto steps = [&](double share) {
    return has_clock ? steps_in(budget.seconds * share, probe)
                     : std::max<std::int64_t>(
                           1, static_cast<std::int64_t>(static_cast<double>(budget.steps) * share));
  };
  const auto each = [](std::int64_t count) {
    return 1.0 / static_cast<double>(std::max<std::int64_t>(1, count));
  };
  if (stage.is_retrain()) {
    return {{budget.trials > 2 ? "best, baseline and control" : "best and baseline",
             budget.trials,
             steps(each(budget.trials))}};
  }
  if (stage.is_supernet()) {
    std::vector<TrialForecast> trials{{"super-network", 1, steps(stage.supernet_share)}};
    if (budget.trials > 0) {
      trials.push_back({"own trainings that check the ranking",
                        budget.trials,
                        steps(stage.rank_share * each(budget.trials))});
    }
    const std::int64_t scored =
        stage.kind == "single_path" ? budget.candidates : std::max<std::int64_t>(1, budget.trials);
    trials.insert(trials.begin() + 1, {"candidates scored with inherited weights", scored, 0});
    return trials;
  }
  std::vector<TrialForecast> trials;
  const auto sizes = halving_sizes(budget.trials, budget.rungs, stage.keep);
  for (const std::int64_t size : sizes) {
    trials.push_back({"trials", size, steps(each(size) * each(std::ssize(sizes)))});
  }
  return trials;
}

}  // namespace

std::vector<StageForecast> forecast_stages(const Recipe& recipe,
                                           const Budget& budget,
                                           double elapsed,
                                           const SearchProbes& probes) {
  std::vector<StageForecast> stages;
  for (std::size_t i = 0; i < recipe.stages.size(); ++i) {
    const StageSpec& stage = recipe.stages[i];
    const Probe& probe = stage.is_retrain() ? probes.retrain : probes.search;
    const StageBudget share =
        stage_budget(recipe, i, budget, elapsed, probe, probes.candidate_seconds, probes.start);
    elapsed = share.ends_at;
    stages.push_back({stage.name,
                      stage.kind,
                      share.seconds,
                      trials_of(stage, share, budget.has_clock(), probe)});
  }
  return stages;
}

std::string to_text(const StageForecast& stage) {
  std::string text = concat_text("stage ", stage.name, " (", stage.kind, "): ");
  for (std::size_t i = 0; i < stage.trials.size(); ++i) {
    const TrialForecast& t = stage.trials[i];
    if (i > 0) text += ", ";
    if ((t.count != 1 && stage.kind != "retrain") || t.what == "trials")
      text += concat_text(t.count, " ");
    text += t.what;
    if (t.steps > 0) {
      text += concat_text(t.count == 1 ? " of about " : ", each of about ", t.steps, " steps");
    }
  }
  if (stage.seconds > 0) {
    text += " (counted in steps of the planned network), " + format_duration(stage.seconds);
  }
  return text;
}

Json to_json(const StageForecast& stage) {
  Json trials = Json::array(), steps = Json::array(), what = Json::array();
  for (const TrialForecast& t : stage.trials) {
    trials.push_back(t.count);
    steps.push_back(t.steps);
    what.push_back(t.what);
  }
  return {{"name", stage.name},
          {"kind", stage.kind},
          {"seconds", stage.seconds},
          {"what", what},
          {"trials", trials},
          {"steps", steps}};
}

}  // namespace nas
