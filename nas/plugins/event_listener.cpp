// SPDX-License-Identifier: Apache-2.0
#include "nas/plugins/event_listener.h"

#include <nlohmann/json.hpp>

#include "nas/plugins/space_json.h"

namespace nas {

Json EventListener::event(const char* name, const Trial& trial) const {
  return {{"event", name},
          {"trial", trial.id},
          {"stage", trial.stage},
          {"label", trial.label},
          {"rung", trial.rung},
          {"worker", trial.owner},
          {"asked_by", trial.asked_by},
          {"values", values_to_json(space_, trial.genotype)}};
}

void EventListener::search_started(const SearchSpace& space, const Recipe& recipe) {
  heard({{"event", "search_started"}, {"recipe", recipe.name}, {"space", space_to_json(space)}});
}

void EventListener::search_ended(SearchEnd end) {
  heard({{"event", "search_ended"}, {"finished", end == SearchEnd::Finished}});
}

void EventListener::stage_started(const StageSpec& stage,
                                  const StageBudget&,
                                  const Genotype& start,
                                  std::int64_t planned) {
  heard({{"event", "stage_started"},
         {"stage", stage.name},
         {"kind", stage.kind->name},
         {"start", values_to_json(space_, start)},
         {"planned_trials", planned}});
}

void EventListener::proposed(const StageSpec& stage, const std::vector<std::int64_t>& trials) {
  heard({{"event", "proposed"}, {"stage", stage.name}, {"trials", trials}});
}

void EventListener::trial_started(const Trial& trial) { heard(event("trial_started", trial)); }

void EventListener::trial_ended(const Trial& trial) {
  Json json = event("trial_ended", trial);
  json["status"] = to_text(trial.status);
  json["score"] = trial.status == TrialStatus::Done ? Json(trial.evaluation.score) : Json(nullptr);
  json["metrics"] = trial.evaluation.metrics;
  json["message"] = trial.evaluation.message;
  heard(json);
}

void EventListener::best_improved(const Trial& trial) { heard(event("best_improved", trial)); }

void EventListener::stage_ended(const StageSpec& stage, const Winner& winner) {
  Json json{{"event", "stage_ended"}, {"stage", stage.name}, {"found", winner.found}};
  if (winner.found) json["winner"] = values_to_json(space_, winner.genotype);
  heard(json);
}

}  // namespace nas
