// SPDX-License-Identifier: Apache-2.0
#include "nas/search/strategy_journal.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/json.h"

namespace nas {
namespace {

// The whole state is written anew once the steps since would take about an eighth of its size: then
// all states of a stage together are a few times the last one.
constexpr std::size_t kFewestSteps = 32;
constexpr std::size_t kBytesOfStep = 512;

void check_same(const std::string& stage, const Proposal& now, const Trial* then) {
  const auto fail_with = [&](const std::string& found) {
    fail(ErrorKind::Input,
         "stage \"",
         stage,
         "\": its controller does not propose again what it proposed: expected ",
         then == nullptr ? "nothing" : "\"" + then->genotype_text + "\"",
         " as proposal ",
         now.number,
         ", found ",
         found,
         "; go on with the VoxNAS version that began the run");
  };
  if (then == nullptr) fail_with("another one");
  if (then->genotype != now.genotype) fail_with(Json(now.genotype.values).dump());
}

}  // namespace

void StrategyJournal::restore(const TrialStore& store,
                              const std::function<Outcome(const Trial&)>& outcome,
                              Strategy& strategy) {
  const StoredStrategy stored = store.strategy(stage_);
  if (!stored.state.empty()) strategy.load(stored.state);
  bytes_ = stored.state.size();
  steps_ = stored.steps.size();
  if (stored.steps.empty()) return;
  const std::vector<Trial> trials = store.trials(stage_);
  std::map<std::int64_t, const Trial*> by_id, by_proposal;
  for (const Trial& trial : trials) {
    by_id[trial.id] = &trial;
    by_proposal[trial.proposal] = &trial;
  }
  const auto in = [](const auto& map, std::int64_t key) {
    const auto found = map.find(key);
    return found == map.end() ? nullptr : found->second;
  };
  for (const std::string& text : stored.steps) {
    const Json step = parse_json(text, concat_text("stage \"", stage_, "\": step of its strategy"));
    if (step.contains("ask")) {
      for (const Proposal& proposal : strategy.ask(step.at("ask").get<std::int64_t>())) {
        check_same(stage_, proposal, in(by_proposal, proposal.number));
      }
    }
    for (const std::int64_t id : step.value("told", std::vector<std::int64_t>{})) {
      const Trial* trial = in(by_id, id);
      NAS_CHECK(trial != nullptr, "stage \"", stage_, "\": expected trial ", id, ", found none");
      strategy.tell({outcome(*trial)});
    }
    if (step.contains("close")) strategy.close();
  }
}

StrategyChange StrategyJournal::change(const Strategy& strategy, std::string step) {
  if (!repeats_ || ++steps_ > std::max(kFewestSteps, bytes_ / kBytesOfStep)) {
    return whole(strategy);
  }
  return {.step = std::move(step)};
}

StrategyChange StrategyJournal::asked(const Strategy& strategy, std::int64_t count) {
  return change(strategy, Json{{"ask", count}}.dump());
}

StrategyChange StrategyJournal::told(const Strategy& strategy,
                                     const std::vector<std::int64_t>& trials,
                                     bool closed) {
  Json step{{"told", trials}};
  if (closed) step["close"] = true;
  return change(strategy, step.dump());
}

StrategyChange StrategyJournal::whole(const Strategy& strategy) {
  steps_ = 0;
  StrategyChange change{.state = strategy.save()};
  bytes_ = change.state.size();
  return change;
}

}  // namespace nas
