// SPDX-License-Identifier: Apache-2.0
#include "nas/search/warm_start.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/text.h"
#include "nas/search/strategy_kind.h"

namespace nas {
namespace {

constexpr std::size_t kMostDifferences = 3;      // told
constexpr std::size_t kMostObservations = 1000;  // the newest
constexpr std::size_t kShown = 60;               // of a value that differs

std::string shown(const Json& value) {
  const std::string text = value.dump();
  return text.size() <= kShown ? text : text.substr(0, kShown) + "...";
}

/// "genes/3/hi: 0.1 there, 0.2 here".
std::vector<std::string> differences_of(const Json& there, const Json& here) {
  std::vector<std::string> told;
  const Json flat_there = there.flatten(), flat_here = here.flatten();
  const auto tell = [&](const std::string& path, const Json* then, const Json* now) {
    if (told.size() == kMostDifferences) told.emplace_back("...");
    if (told.size() > kMostDifferences) return;
    told.push_back(concat_text(path.empty() ? path : path.substr(1),
                               ": ",
                               then ? shown(*then) : "nothing",
                               " there, ",
                               now ? shown(*now) : "nothing",
                               " here"));
  };
  for (const auto& [path, value] : flat_there.items()) {
    const auto found = flat_here.find(path);
    if (found == flat_here.end()) {
      tell(path, &value, nullptr);
    } else if (*found != value) {
      tell(path, &value, &*found);
    }
  }
  for (const auto& [path, value] : flat_here.items()) {
    if (!flat_there.contains(path)) tell(path, nullptr, &value);
  }
  return told;
}

/// The genotype of these words in the space, if it has exactly these genes and texts.
std::optional<Genotype> in_space(const SearchSpace& space, const std::string& text) {
  Genotype genotype;
  genotype.values.assign(space.genes().size(), -1);
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const std::size_t equals = word.find('=');
    if (equals == std::string::npos) return std::nullopt;
    const auto gene = std::ranges::find(space.genes(), word.substr(0, equals), &Gene::name);
    if (gene == space.genes().end()) return std::nullopt;
    const auto value = gene->index(word.substr(equals + 1));
    if (!value || gene->text(*value) != word.substr(equals + 1)) return std::nullopt;
    genotype.values[static_cast<std::size_t>(gene - space.genes().begin())] = *value;
  }
  if (std::ranges::find(genotype.values, -1) != genotype.values.end()) return std::nullopt;
  if (!space.invalid_reason(genotype).empty()) return std::nullopt;
  return genotype;
}

/// Own trainings whose scores compare, best first: of the stage and rung where most were done (the
/// later one of two), each genotype once.
std::vector<Trial> comparable(const TrialStore& earlier) {
  std::map<std::pair<std::string, int>, std::vector<Trial>> groups;
  std::vector<std::pair<std::string, int>> order;
  for (Trial& trial : earlier.trials()) {
    if (trial.purpose != TrialPurpose::Search || trial.status != TrialStatus::Done) continue;
    const std::pair key{trial.stage, trial.rung};
    if (!groups.contains(key)) order.push_back(key);
    groups[key].push_back(std::move(trial));
  }
  std::vector<Trial> most;
  for (const auto& key : order) {
    if (groups[key].size() >= most.size()) most = std::move(groups[key]);
  }
  std::ranges::stable_sort(
      most, [](const Trial& a, const Trial& b) { return a.evaluation.score > b.evaluation.score; });
  std::set<std::string> seen;
  std::erase_if(most, [&](const Trial& t) { return !seen.insert(t.genotype_text).second; });
  return most;
}

std::string by(const std::string& run) { return "run " + run; }

}  // namespace

WarmStart warm_start(const TrialStore& earlier,
                     const std::string& name,
                     const SearchSpace& space,
                     std::int64_t most) {
  WarmStart start;
  start.run = name;
  const Json here = space.describe(), there = parse_json(earlier.run().space_json, name);
  start.differences = differences_of(there, here);
  const bool same = start.differences.empty();
  const std::vector<Trial> trials = comparable(earlier);
  NAS_CHECK_KIND(
      Usage, !trials.empty(), "--from ", name, ": no trial of that run is done: nothing to learn");
  std::vector<std::pair<std::int64_t, EarlierResult>> observations;
  std::int64_t fitting = 0;
  for (const Trial& trial : trials) {
    const auto genotype = in_space(space, trial.genotype_text);
    fitting += genotype.has_value();
    if (genotype && same) observations.push_back({trial.id, {*genotype, trial.evaluation.score}});
    if (std::cmp_greater_equal(start.genotypes.size(), most)) continue;
    if (!genotype) {
      ++start.left_out;
    } else if (*genotype != space.baseline() && *genotype != space.start()) {
      start.genotypes.push_back(space.to_text(*genotype));
    }
  }
  NAS_CHECK_KIND(Usage,
                 fitting > 0,
                 "--from ",
                 name,
                 ": its space is another one, and none of its ",
                 trials.size(),
                 " genotypes is one of this run's: ",
                 joined(start.differences, "; "));
  std::ranges::sort(observations, {}, [](const auto& one) { return one.first; });
  if (observations.size() > kMostObservations) {
    observations.erase(observations.begin(),
                       observations.end() - static_cast<std::ptrdiff_t>(kMostObservations));
  }
  for (auto& [id, result] : observations) start.observations.push_back(std::move(result));
  return start;
}

void add_observations(const WarmStart& start, const SearchSpace& space, Recipe& recipe) {
  std::vector<std::string> stages;
  bool adopts = false;
  for (StageSpec& stage : recipe.stages) {
    stages.push_back(stage.name + " (" + stage.kind->name + ")");
    adopts = adopts || stage.kind->adopts;
    const auto learns = [](const StageOption& option) { return option.name == "earlier"; };
    if (start.observations.empty() || std::ranges::none_of(stage.kind->options, learns)) continue;
    Json trials = Json::array();
    for (const EarlierResult& result : start.observations) {
      trials.push_back({{"genotype", space.to_text(result.genotype)}, {"score", result.score}});
    }
    Json runs = stage.options.at("earlier");
    runs.push_back({{"run", start.run}, {"trials", std::move(trials)}});
    stage.set("earlier", runs);
  }
  NAS_CHECK_KIND(Usage,
                 adopts,
                 "--from: no stage of recipe ",
                 recipe.name,
                 " takes genotypes of others; it has ",
                 joined(stages));
}

Json to_json(const WarmStart& start) {
  return {{"run", start.run},
          {"genotypes", start.genotypes},
          {"left_out", start.left_out},
          {"differences", start.differences},
          {"observations", start.observations.size()}};
}

void enqueue_warm_start(TrialStore& store, const Json& record) {
  if (record.is_null()) return;
  const JsonReader reader(record, "setup: from");
  const std::string asked_by = by(reader.at("run").text());
  std::vector<std::string> genotypes;
  const JsonReader list = reader.at("genotypes");
  for (std::size_t i = 0; i < list.size(); ++i) genotypes.push_back(list.at(i).text());
  for (const EnqueuedRecord& one : store.enqueued(false)) {
    if (one.asked_by == asked_by) return;
  }
  store.enqueue(genotypes, asked_by);
}

}  // namespace nas
