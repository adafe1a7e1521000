// SPDX-License-Identifier: Apache-2.0
#include "nas/search/forecast.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/quantity.h"

namespace nas {

std::vector<StageForecast> forecast_stages(const Recipe& recipe,
                                           const Budget& budget,
                                           double elapsed,
                                           const SearchProbes& probes) {
  std::vector<StageForecast> stages;
  for (std::size_t i = 0; i < recipe.stages.size(); ++i) {
    const StageSpec& stage = recipe.stages[i];
    const Probe& probe = stage.kind->final ? probes.retrain : probes.search;
    StageForecast forecast{
        .name = stage.name, .kind = stage.kind->name, .final = stage.kind->final};
    try {
      const StageBudget share =
          stage_budget(recipe, i, budget, elapsed, probe, probes.candidate_seconds, probes.start);
      elapsed = budget.effort > 0 ? elapsed + share.effort : share.ends_at;
      forecast.seconds = share.seconds;
      forecast.trials = stage.kind->forecast(stage, share, [&](double part) {
        return budget.has_clock()
                   ? steps_in(share.seconds * part, probe)
                   : std::max<std::int64_t>(
                         1, static_cast<std::int64_t>(static_cast<double>(share.steps) * part));
      });
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::Usage) throw;
      forecast.refused = error.what();
    }
    stages.push_back(std::move(forecast));
  }
  return stages;
}

void check_all_bought(const std::vector<StageForecast>& stages) {
  for (const StageForecast& stage : stages) {
    if (!stage.refused.empty()) fail(ErrorKind::Usage, stage.refused);
  }
}

std::string to_text(const StageForecast& stage) {
  std::string text = concat_text("stage ", stage.name, " (", stage.kind, "): ");
  for (std::size_t i = 0; i < stage.trials.size(); ++i) {
    const TrialForecast& t = stage.trials[i];
    if (i > 0) text += ", ";
    if ((t.count != 1 && !t.named) || t.what == "trials") text += concat_text(t.count, " ");
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
  Json json = {{"name", stage.name},
               {"kind", stage.kind},
               {"seconds", stage.seconds},
               {"what", what},
               {"trials", trials},
               {"steps", steps}};
  if (!stage.refused.empty()) json["refused"] = stage.refused;
  return json;
}

}  // namespace nas
