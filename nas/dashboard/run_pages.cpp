// SPDX-License-Identifier: Apache-2.0
#include "nas/dashboard/run_pages.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "nas/core/error.h"
#include "nas/core/run_folder.h"
#include "nas/core/text.h"
#include "nas/dashboard/http_rules.h"
#include "nas/dashboard/written_bytes.h"
#include "nas/jobs/steering/steering.h"
#include "nas/network/drawing.h"
#include "nas/report/comparison.h"
#include "nas/report/text.h"
#include "nas/search/pareto.h"
#include "nas/search/statistics.h"
#include "search_spaces/planned_unet/plan.h"
#include "search_spaces/spaces.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

/// Null where the space is of another version.
std::unique_ptr<SearchSpace> space_of(const ResultsDb& db) {
  const Json described = parse_json(db.run().space_json, db.file().string());
  if (!described.is_object() || described.empty()) return nullptr;
  try {
    return make_space(described);
  } catch (const Error&) {
    return nullptr;
  }
}

/// Path and value of every leaf: {"augmentations.0.prob": 0.2}.
void flatten(const Json& value, const std::string& path, std::map<std::string, Json>& leaves) {
  if (value.is_object() || value.is_array()) {
    std::size_t index = 0;
    for (const auto& [key, member] : value.items()) {
      const std::string name = value.is_array() ? std::to_string(index++) : key;
      flatten(member, path.empty() ? name : path + "." + name, leaves);
    }
    return;
  }
  leaves[path] = value;
}

std::map<std::string, Json> leaves_of(const std::string& settings) {
  std::map<std::string, Json> leaves;
  if (!settings.empty()) flatten(parse_json(settings, "settings"), "", leaves);
  return leaves;
}

Json details_of(const Trial& trial) {
  return trial.evaluation.details.empty() ? Json(nullptr)
                                          : parse_json(trial.evaluation.details, "details");
}

/// A column of trial_columns, or a metric.
double number_of(const Trial& t, const std::string& name) {
  if (name == "score") return t.evaluation.score;
  if (name == "params") return static_cast<double>(t.parameters);
  if (name == "macs") return static_cast<double>(t.macs);
  if (name == "memory") return static_cast<double>(t.memory_bytes);
  if (name == "seconds") return t.evaluation.seconds;
  const auto found = t.evaluation.metrics.find(name);
  return found == t.evaluation.metrics.end() ? NAN : found->second;
}

bool larger_is_better(const std::string& name) {
  return name == "score" || name.find("dice") != std::string::npos || name.starts_with("nsd");
}

}  // namespace

Json run_head(LiveRun& run) {
  const std::string rev = run.rev();
  const std::vector<Trial> trials = run.trials();
  std::map<std::string, std::map<std::string, std::int64_t>> counts;
  for (const Trial& t : trials) ++counts[t.stage][to_text(t.status)];
  return run.with_database([&](const ResultsDb& db) {
    const RunRecord record = db.run();
    const std::string where = db.file().string();
    const Json setup = parse_json(record.setup_json, where);
    Json head = {{"rev", rev},
                 {"folder", run.folder()},
                 {"state", db.state()},
                 {"clock", db.clock()},
                 {"command", record.command},
                 {"data_folder", record.data_folder},
                 {"data", part(setup, "data")},
                 {"cases", part(setup, "cases")},
                 {"fold", record.fold},
                 {"seed", record.seed},
                 {"host", record.host},
                 {"code_version", record.code_version},
                 {"created_unix", record.created_unix},
                 {"recipe", parse_json(record.recipe_json, where)},
                 {"forecast", part(setup, "forecast")},
                 {"budget",
                  {{"seconds", record.budget.seconds},
                   {"steps", record.budget.steps},
                   {"effort", record.budget.effort},
                   {"text", to_text(record.budget)}}}};
    head["stages"] = Json::array();
    for (const StageRecord& s : db.stages()) {
      head["stages"].push_back({{"name", s.name},
                                {"status", s.status},
                                {"seconds", s.budget.seconds},
                                {"steps", s.budget.steps},
                                {"effort", s.budget.effort},
                                {"trials", s.budget.trials},
                                {"started", s.started},
                                {"ended", s.ended},
                                {"counts", counts[s.name]}});
    }
    head["genes"] = Json::array();
    if (const auto space = space_of(db)) {
      for (const Gene& gene : space->genes()) {
        // A real number has thousands of values: those that were tried.
        Json texts = Json::object();
        for (const Trial& t : trials) {
          const std::size_t g = head["genes"].size();
          if (g >= t.genotype.values.size()) continue;
          const int value = t.genotype.values[g];
          if (value >= 0 && value < gene.count()) texts[std::to_string(value)] = gene.text(value);
        }
        head["genes"].push_back({{"name", gene.name},
                                 {"group", gene.group},
                                 {"count", gene.count()},
                                 {"texts", std::move(texts)}});
      }
      head["baseline"] = space->baseline().values;
    }
    head["workers"] = Json::array();
    for (const WorkerRecord& w : db.workers()) {
      head["workers"].push_back({{"name", w.name},
                                 {"host", w.host},
                                 {"device", w.devices},
                                 {"state", w.alive || w.state == "ended" ? w.state : "died"},
                                 {"wish", w.wish},
                                 {"heard", w.heard},
                                 {"done", w.trials_done}});
    }
    return head;
  });
}

Json trial_page(LiveRun& run, std::int64_t id) {
  const std::vector<Trial> all = run.trials();
  return run.with_database([&](const ResultsDb& db) {
    const Trial t = existing_trial(db, id);
    Json page = trial_columns({&t});
    for (auto& [key, value] : page.items()) {
      if (key != "metrics") value = Json(value[0]);
    }
    page["metrics"] = t.evaluation.metrics;
    page["network"] = t.genotype_text;
    page["message"] = t.evaluation.message;
    page["how"] = t.evaluation.how;
    page["attempts"] = t.attempt;
    page["seed"] = t.seed;
    page["genotype_id"] = t.genotype_id;
    page["request"] = t.request;
    // Individual 0: the first trial of the plan as it is.
    std::map<std::string, Json> base;
    if (const auto space = space_of(db)) {
      const Genotype baseline = space->baseline();
      for (const Trial& other : all) {
        if (other.genotype != baseline) continue;
        const Trial whole = existing_trial(db, other.id);
        if (whole.settings.empty()) continue;
        base = leaves_of(whole.settings);
        page["individual_0"] = whole.id;
        break;
      }
      Json genes = Json::array();
      for (std::size_t g = 0; g < space->genes().size() && g < t.genotype.values.size(); ++g) {
        const Gene& gene = space->genes()[g];
        const int own = t.genotype.values[g], planned = baseline.values[g];
        genes.push_back({{"gene", gene.name},
                         {"value", gene.text(own)},
                         {"planned", gene.text(planned)},
                         {"differs", own != planned}});
      }
      page["gene_values"] = std::move(genes);
    }
    page["settings"] = Json::array();
    for (const auto& [name, value] : leaves_of(t.settings)) {
      const auto planned = base.find(name);
      const Json before = planned == base.end() ? Json(nullptr) : planned->second;
      page["settings"].push_back({{"name", name},
                                  {"value", value},
                                  {"planned", before},
                                  {"differs", !base.empty() && before != value}});
    }
    const Json details = details_of(t);
    page["cases"] = part(details, "cases");
    page["mean"] = part(details, "mean");
    page["annotations"] = Json::array();
    for (const AnnotationRecord& note : db.annotations(id)) {
      page["annotations"].push_back({{"key", note.key}, {"value", note.value}, {"by", note.by}});
    }
    page["children"] = Json::array();
    for (const Trial& other : all) {
      if (other.source == id) page["children"].push_back(other.id);
    }
    return page;
  });
}

Json trial_curves(LiveRun& run, std::int64_t id, std::size_t points) {
  std::map<std::string, std::vector<std::pair<std::int64_t, double>>> curves;
  run.with_database([&](const ResultsDb& db) {
    existing_trial(db, id);
    for (const ReportRecord& report : db.reports(id)) {
      curves[report.name].emplace_back(report.step, report.value);
    }
    return 0;
  });
  Json all = Json::array();
  for (const auto& [name, curve] : curves) {
    Json steps = Json::array(), values = Json::array();
    const std::size_t bins = std::max<std::size_t>(1, points / 2);
    const auto keep = [&](std::size_t i) {
      steps.push_back(curve[i].first);
      values.push_back(finite(curve[i].second));
    };
    for (std::size_t b = 0; curve.size() > points && b < bins; ++b) {
      const auto first = curve.begin() + static_cast<std::ptrdiff_t>(b * curve.size() / bins);
      const auto last = curve.begin() + static_cast<std::ptrdiff_t>((b + 1) * curve.size() / bins);
      const auto by_value = [](const auto& p, const auto& q) { return p.second < q.second; };
      auto low = static_cast<std::size_t>(std::min_element(first, last, by_value) - curve.begin());
      auto high = static_cast<std::size_t>(std::max_element(first, last, by_value) - curve.begin());
      keep(std::min(low, high));
      if (low != high) keep(std::max(low, high));
    }
    for (std::size_t i = 0; curve.size() <= points && i < curve.size(); ++i) keep(i);
    all.push_back({{"name", name}, {"steps", std::move(steps)}, {"values", std::move(values)}});
  }
  return {{"curves", std::move(all)}};
}

std::string trial_log(LiveRun& run, std::int64_t id, std::size_t bytes) {
  const Trial trial =
      run.with_database([&](const ResultsDb& db) { return existing_trial(db, id); });
  const RunFolder folder(run.folder());
  fs::path file = folder.trial(id) / "log.txt";
  // The name comes from a file that may be anybody's: only what names a file in that folder.
  const bool plain = !trial.owner.empty() && std::ranges::all_of(trial.owner, [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '_';
  });
  if (!fs::is_regular_file(file) && plain) file = folder.workers() / (trial.owner + ".log");
  std::ifstream in(file, std::ios::binary | std::ios::ate);
  if (!in || !fs::is_regular_file(file)) return "";
  const auto size = static_cast<std::size_t>(std::max<std::streamoff>(0, in.tellg()));
  const std::size_t wanted = std::min(size, bytes);
  in.seekg(static_cast<std::streamoff>(size - wanted));
  std::string text(wanted, '\0');
  in.read(text.data(), static_cast<std::streamsize>(wanted));
  text.resize(static_cast<std::size_t>(in.gcount()));
  return text;
}

std::string trial_drawing(LiveRun& run, std::int64_t id) {
  Graph graph;
  Extent3 patch{};
  run.with_database([&](const ResultsDb& db) {
    const Trial trial = existing_trial(db, id);
    const auto space = space_of(db);
    NAS_CHECK(space != nullptr, "the space of this run is of another version; nothing is drawn");
    const std::string where = db.file().string();
    const Plan plan = plan_from_json(parse_json(db.run().plan_json, where), where);
    patch = plan.configurations.front().patch;
    const Phenotype built = space->build(trial.genotype);
    graph = built.graph;
    return 0;
  });
  return written_bytes("voxnas-network", ".svg", 32 << 20, [&](const fs::path& file) {
    write_drawing(graph, patch, file, 20);
  });
}

Json pareto_page(LiveRun& run, const std::string& x, const std::string& y, const std::string& of) {
  const TrialPurpose purpose = trial_purpose_from_text(of);
  std::vector<Trial> trials = run.trials();
  std::vector<std::string> known{"score", "params", "macs", "memory", "seconds"};
  for (const Trial& t : trials) {
    for (const auto& [name, value] : t.evaluation.metrics) {
      if (std::ranges::find(known, name) == known.end()) known.push_back(name);
    }
  }
  for (const std::string& name : {x, y}) {
    NAS_CHECK_KIND(Usage,
                   std::ranges::find(known, name) != known.end(),
                   "unknown number \"",
                   name.substr(0, 64),
                   "\"",
                   did_you_mean(name.substr(0, 64), known),
                   "; known: ",
                   joined(known));
  }
  std::erase_if(trials, [&](const Trial& t) {
    return t.status != TrialStatus::Done || t.purpose != purpose ||
           !std::isfinite(number_of(t, x)) || !std::isfinite(number_of(t, y));
  });
  std::vector<std::vector<double>> small;
  for (const Trial& t : trials) {
    small.push_back({larger_is_better(x) ? -number_of(t, x) : number_of(t, x),
                     larger_is_better(y) ? -number_of(t, y) : number_of(t, y)});
  }
  const std::vector<int> fronts = pareto_fronts(small);
  Json points = Json::array();
  for (std::size_t i = 0; i < trials.size(); ++i) {
    points.push_back({{"id", trials[i].id},
                      {"x", number_of(trials[i], x)},
                      {"y", number_of(trials[i], y)},
                      {"front", fronts[i]}});
  }
  return {{"x", x}, {"y", y}, {"known", known}, {"points", std::move(points)}};
}

Json compare_page(const std::vector<TrialOfRun>& trials) {
  Json page = {{"trials", Json::array()}, {"settings", Json::array()}, {"pairs", Json::array()}};
  std::vector<Json> details;
  std::vector<std::map<std::string, Json>> settings;
  for (const TrialOfRun& one : trials) {
    const Trial t =
        one.run->with_database([&](const ResultsDb& db) { return existing_trial(db, one.trial); });
    page["trials"].push_back(
        {{"run", one.number},
         {"id", t.id},
         {"stage", t.stage},
         {"label", t.label},
         {"status", to_text(t.status)},
         {"score", t.status == TrialStatus::Done ? finite(t.evaluation.score) : Json(nullptr)},
         {"params", t.parameters},
         {"macs", t.macs},
         {"network", t.genotype_text},
         {"curves", trial_curves(*one.run, t.id, 500).at("curves")}});
    details.push_back(details_of(t));
    settings.push_back(leaves_of(t.settings));
  }
  std::map<std::string, bool> names;
  for (const auto& one : settings) {
    for (const auto& [name, value] : one) names[name] = true;
  }
  for (const auto& [name, there] : names) {
    Json values = Json::array();
    bool differs = false;
    for (const auto& one : settings) {
      const auto found = one.find(name);
      values.push_back(found == one.end() ? Json(nullptr) : found->second);
      differs |= values.back() != values.front();
    }
    if (differs) page["settings"].push_back({{"name", name}, {"values", std::move(values)}});
  }
  for (std::size_t i = 1; i < trials.size(); ++i) {
    if (!part(details[0], "cases").is_array() || !part(details[i], "cases").is_array()) {
      page["pairs"].push_back(nullptr);
      continue;
    }
    const std::uint64_t seed =
        trials[i].run->with_database([](const ResultsDb& db) { return db.run().seed; });
    page["pairs"].push_back(compare(details[i], details[0], seed));
  }
  return page;
}

std::string trials_csv(LiveRun& run) {
  const std::vector<Trial> trials = run.trials();
  std::vector<const Trial*> all;
  for (const Trial& t : trials) all.push_back(&t);
  const Json columns = trial_columns(all);
  const Json& metrics = columns.at("metrics");
  std::ostringstream out;
  const char* separator = "";
  for (const auto& [name, column] : columns.items()) {
    if (name == "metrics" || name == "genes") continue;
    out << separator << csv_field(name);
    separator = ",";
  }
  for (const auto& [name, column] : metrics.items()) out << ',' << csv_field(name);
  out << '\n';
  const auto field = [](const Json& value) {
    return value.is_null()     ? std::string{}
           : value.is_string() ? csv_field(value.get<std::string>())
                               : value.dump();
  };
  for (std::size_t i = 0; i < trials.size(); ++i) {
    separator = "";
    for (const auto& [name, column] : columns.items()) {
      if (name == "metrics" || name == "genes") continue;
      // A table for other programs has the whole text.
      const Json value = name == "network"   ? Json(trials[i].genotype_text)
                         : name == "message" ? Json(trials[i].evaluation.message)
                                             : column[i];
      out << separator << field(value);
      separator = ",";
    }
    for (const auto& [name, column] : metrics.items()) out << ',' << field(column[i]);
    out << '\n';
  }
  return out.str();
}

}  // namespace nas
