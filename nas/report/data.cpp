// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "nas/controllers/importance.h"
#include "nas/core/error.h"
#include "nas/core/run_folder.h"
#include "nas/report/comparison.h"
#include "nas/report/report.h"
#include "nas/report/text.h"
#include "nas/results/run_database.h"
#include "nas/search/statistics.h"
#include "nas/search/trial_request.h"
#include "search_spaces/planned_unet/plan.h"
#include "search_spaces/spaces.h"

namespace nas {
namespace {

/// For people; as it is stored where the space is of another version.
std::string network_text(const SearchSpace* space, const std::string& genotype) {
  try {
    if (space != nullptr) return space->short_text(space->from_text(genotype));
  } catch (const Error&) {
  }
  return genotype;
}

Json trial_json(const Trial& t, const SearchSpace* space) {
  Json j = {{"id", t.id},
            {"network", network_text(space, t.genotype_text)},
            {"stage", t.stage},
            {"purpose", to_text(t.purpose)},
            {"label", t.label},
            {"rung", t.rung},
            {"genotype", t.genotype_text},
            {"genotype_id", t.genotype_id},
            {"graph_id", t.graph_id},
            {"parameters", t.parameters},
            {"macs", t.macs},
            {"memory_bytes", t.memory_bytes},
            {"steps", t.steps},
            {"steps_done", t.evaluation.steps},
            {"seed", t.seed},
            {"attempts", t.attempt},
            {"status", to_text(t.status)},
            {"score", t.status == TrialStatus::Done ? finite(t.evaluation.score) : Json(nullptr)},
            {"source", t.source},
            {"how", t.evaluation.how},
            {"seconds", t.evaluation.seconds},
            {"metrics", t.evaluation.metrics},
            {"message", t.evaluation.message},
            {"started", t.started},
            {"ended", t.ended},
            {"asked_by", t.asked_by}};
  j["settings"] = t.settings.empty() ? Json(nullptr) : parse_json(t.settings, "settings");
  return j;
}

Json fingerprint_summary(const Json& fingerprint) {
  Json result = Json::object();
  auto medians = [](const Json& triples) {
    Json medians_of_axes = Json::array();
    for (std::size_t axis = 0; axis < 3; ++axis) {
      std::vector<double> values;
      for (const Json& triple : triples) {
        if (triple.is_array() && triple.size() == 3) values.push_back(triple[axis].get<double>());
      }
      medians_of_axes.push_back(finite(median(values)));
    }
    return medians_of_axes;
  };
  result["cases"] = part(fingerprint, "spacings").size();
  result["median_spacing_mm"] = medians(part(fingerprint, "spacings"));
  result["median_shape"] = medians(part(fingerprint, "shapes_after_crop"));
  result["relative_size_after_cropping"] = part(fingerprint, "median_relative_size_after_cropping");
  result["intensity"] = part(fingerprint, "foreground_intensity_properties_per_channel");
  return result;
}

/// Puts "alternatives", the texts of the gene that it is named after, to each decision of a
/// super-network.
void name_alternatives(Json& details, const SearchSpace& space) {
  if (!part(details, "decisions").is_array()) return;
  for (Json& decision : details["decisions"]) {
    for (const Gene& gene : space.genes()) {
      if (gene.name != text_or(decision, "name")) continue;
      Json& texts = decision["alternatives"] = Json::array();
      for (int i = 0; i < gene.count(); ++i) texts.push_back(gene.text(i));
    }
  }
}

/// Each stage with its kind, budget, winner and story.
Json stages_json(const ResultsDb& db, const Json& recipe, const SearchSpace* space) {
  const std::string where = db.file().string();
  Json stages = Json::array();
  std::map<std::string, const Json*> specs;
  for (const Json& spec : part(recipe, "stages")) specs[text_or(spec, "name")] = &spec;
  for (const StageRecord& s : db.stages()) {
    Json winner;
    if (s.winner.found) {
      const std::string text =
          space ? space->to_text(s.winner.genotype) : Json(s.winner.genotype.values).dump();
      winner = {{"genotype", text},
                {"network", network_text(space, text)},
                {"score", finite(s.winner.score)},
                {"how", s.winner.how}};
    }
    Json story = parse_json(s.story, where);
    for (const char* list : {"scores", "contestants"}) {
      if (!part(story, list).is_array()) continue;
      for (Json& item : story[list]) {
        item["network"] = network_text(space, text_or(item, "genotype"));
      }
    }
    const Json* spec = specs.contains(s.name) ? specs.at(s.name) : nullptr;
    stages.push_back({{"name", s.name},
                      {"kind", spec ? text_or(*spec, "kind") : ""},
                      {"control", spec != nullptr && spec->value("control", false)},
                      {"winner", winner},
                      {"story", story},
                      {"status", s.status},
                      {"seconds", s.budget.seconds},
                      {"steps", s.budget.steps},
                      {"effort", s.budget.effort},
                      {"trials", s.budget.trials},
                      {"rungs", s.budget.rungs},
                      {"started", s.started},
                      {"ended", s.ended}});
  }
  return stages;
}

/// Of the genes of a stage, by the rung that holds most of its trainings; null where they are too
/// few.
Json importance_json(const std::string& stage,
                     const std::vector<Trial>& trials,
                     const SearchSpace& space,
                     std::uint64_t seed) {
  std::map<int, std::vector<EarlierResult>> rungs;
  for (const Trial& t : trials) {
    const bool counts = t.stage == stage && t.purpose == TrialPurpose::Search &&
                        t.status == TrialStatus::Done && space.invalid_reason(t.genotype).empty();
    if (counts) rungs[t.rung].push_back({t.genotype, t.evaluation.score});
  }
  const auto most =
      std::ranges::max_element(rungs, {}, [](const auto& rung) { return std::ssize(rung.second); });
  if (most == rungs.end() || std::ssize(most->second) < kFewestForImportance) return nullptr;
  Json genes = Json::array();
  for (const GeneImportance& g : gene_importance(space, most->second, Rng(seed).split(stage))) {
    genes.push_back({{"gene", g.gene},
                     {"share", finite(g.share)},
                     {"interval", {finite(g.interval.low), finite(g.interval.high)}},
                     {"relevance", finite(g.relevance)},
                     {"trials", most->second.size()}});
  }
  return genes;
}

}  // namespace

Json report_data(const std::filesystem::path& run_folder) {
  return report_data(open_to_read(RunFolder(run_folder)));
}

Json report_data(const ResultsDb& db) {
  const std::string where = db.file().string();
  const RunRecord run = db.run();
  const Json setup = parse_json(run.setup_json, where);
  const std::vector<Trial> trials = db.trials();
  Json data = {{"command", run.command},
               {"data_folder", run.data_folder},
               {"fold", run.fold},
               {"seed", run.seed},
               {"code_version", run.code_version},
               {"created_unix", run.created_unix},
               {"clock", db.clock()},
               {"budget",
                {{"seconds", run.budget.seconds},
                 {"steps", run.budget.steps},
                 {"effort", run.budget.effort},
                 {"text", to_text(run.budget)}}},
               {"recipe", parse_json(run.recipe_json, where)},
               {"data", part(setup, "data").is_object() ? part(setup, "data") : Json::object()},
               {"accept_misaligned", setup.is_object() && setup.value("accept_misaligned", false)},
               {"cases", part(setup, "cases")},
               {"forecast", part(setup, "forecast")},
               {"from", part(setup, "from")},
               {"fingerprint", fingerprint_summary(part(setup, "fingerprint"))}};
  data["plan"] = Json::object();
  const Json plan = parse_json(run.plan_json, where);
  if (plan.is_object() && !plan.empty()) {
    const Plan planned = plan_from_json(plan, where);
    const Configuration& c = planned.configuration("3d_fullres");
    data["plan"] = {{"patch", c.patch},
                    {"batch", c.batch},
                    {"spacing", c.spacing},
                    {"normalization", c.normalization}};
  }
  std::unique_ptr<SearchSpace> space;
  if (const Json described = parse_json(run.space_json, where); described.is_object()) {
    try {
      space = make_space(described);
    } catch (const Error&) {
      // A space of another version: genotypes are shown as numbers.
    }
  }
  data["stages"] = stages_json(db, data.at("recipe"), space.get());
  for (Json& stage : data["stages"]) {
    if (space) stage["importance"] = importance_json(stage.at("name"), trials, *space, run.seed);
  }
  data["trials"] = Json::array();
  data["final"] = Json::object();
  std::map<std::string, Json> details;
  bool searched_best = false;
  for (const Trial& t : trials) {
    data["trials"].push_back(trial_json(t, space.get()));
    if (t.purpose == TrialPurpose::SuperNet && !t.evaluation.details.empty()) {
      data["trials"].back()["details"] = parse_json(t.evaluation.details, where);
      if (space) name_alternatives(data["trials"].back()["details"], *space);
    }
    if (t.purpose != TrialPurpose::Retrain) continue;
    searched_best |= t.label == "best";
    if (t.status != TrialStatus::Done || t.evaluation.details.empty()) continue;
    details[t.label] = parse_json(t.evaluation.details, where);
    Json row = trial_json(t, space.get());
    row["classes"] = class_means(details[t.label]);
    row["cases"] = part(details[t.label], "cases");
    row["all_cases"] = trial_request(t).all_cases;
    data["final"][t.label] = std::move(row);
  }
  data["events"] = Json::array();
  for (const EventRecord& e : db.events()) {
    data["events"].push_back(
        {{"at", e.at}, {"trial", e.trial}, {"kind", e.kind}, {"text", e.text}});
  }
  data["enqueued"] = Json::array();
  for (const EnqueuedRecord& e : db.enqueued(false)) {
    data["enqueued"].push_back({{"genotype", e.genotype},
                                {"network", network_text(space.get(), e.genotype)},
                                {"asked_by", e.asked_by},
                                {"state", e.state},
                                {"trial", e.trial},
                                {"message", e.message}});
  }
  data["annotations"] = Json::array();
  for (const AnnotationRecord& note : db.annotations()) {
    data["annotations"].push_back(
        {{"trial", note.trial}, {"key", note.key}, {"value", note.value}, {"by", note.by}});
  }
  data["best_trial"] = nullptr;  // the last trial by own training of the network that was chosen
  for (const Trial& t : trials) {
    if (t.purpose != TrialPurpose::Search || t.status != TrialStatus::Done) continue;
    const auto chosen = std::find_if(trials.begin(), trials.end(), [&](const Trial& last) {
      return last.purpose == TrialPurpose::Retrain && last.genotype == t.genotype &&
             (last.label == "best" || (last.label == "baseline" && !searched_best));
    });
    if (chosen != trials.end()) data["best_trial"] = t.id;
  }
  data["best_is_baseline"] = !searched_best;
  data["delivered"] = delivered_label(trials);
  data["comparisons"] = Json::object();
  for (const char* label : {"best", "control"}) {
    if (!details.contains(label) || !details.contains("baseline")) continue;
    data["comparisons"][label] = compare(details.at(label), details.at("baseline"), run.seed);
  }
  if (data["comparisons"].contains("best")) data["comparison"] = data["comparisons"]["best"];
  data["verdict"] = verdict_sentence(data);
  if (details.contains("best") && details.contains("baseline")) {
    data["verdict"] =
        concat_text(data["verdict"].get<std::string>(),
                    chosen_before(data) ? " Delivered, as the search chose: the "
                                        : " Delivered, by the inner validation cases: the ",
                    data["delivered"] == "best"      ? "searched"
                    : data["delivered"] == "control" ? "control's"
                                                     : "planned",
                    " network.");
  }
  return data;
}

}  // namespace nas
