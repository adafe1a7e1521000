// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "nas/cli/command.h"
#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/progress.h"
#include "nas/core/quantity.h"
#include "nas/core/text.h"
#include "nas/jobs/steering/enqueue.h"
#include "nas/jobs/steering/steering.h"
#include "nas/report/text.h"
#include "nas/results/run_database.h"

namespace nas {
namespace {

struct Arguments {
  std::string run, verb, what;
  std::int64_t best = 0;
  bool json = false, now = false;
};

/// What is told, as a table or as JSON.
void show(const Arguments& a, const Table& table, const Json& json) {
  std::cout << (a.json ? json.dump(2) + "\n" : text_table(table));
}

std::string score_text(const Trial& trial) {
  const bool scored = trial.status == TrialStatus::Done || trial.status == TrialStatus::Pruned;
  return scored ? fixed(trial.evaluation.score, 4) : "-";
}

Json trial_json(const Trial& t, const ResultsDb& db, bool whole) {
  Json json{{"id", t.id},
            {"stage", t.stage},
            {"status", to_text(t.status)},
            {"score", t.status == TrialStatus::Done ? finite(t.evaluation.score) : Json(nullptr)},
            {"rung", t.rung},
            {"genotype", t.genotype_text},
            {"label", t.label},
            {"worker", t.owner},
            {"steps", t.steps},
            {"steps_done", t.evaluation.steps},
            {"attempt", t.attempt},
            {"seconds", t.evaluation.seconds},
            {"told_order", t.told_order},
            {"asked_by", t.asked_by},
            {"folder", t.folder_state},
            {"message", t.evaluation.message}};
  if (!whole) return json;
  json["parameters"] = t.parameters;
  json["macs"] = t.macs;
  json["metrics"] = t.evaluation.metrics;
  json["settings"] = t.settings.empty() ? Json(nullptr) : parse_json(t.settings, "settings");
  json["reports"] = Json::array();
  for (const ReportRecord& report : db.reports(t.id)) {
    json["reports"].push_back(
        {{"step", report.step}, {"name", report.name}, {"value", report.value}});
  }
  json["annotations"] = Json::object();
  for (const AnnotationRecord& note : db.annotations(t.id)) {
    json["annotations"][note.key] = note.value;
  }
  return json;
}

void show_trials(const Arguments& a, const ResultsDb& db) {
  std::vector<Trial> trials = db.trials();
  if (a.best > 0) {
    std::erase_if(trials, [](const Trial& t) {
      return t.status != TrialStatus::Done || !std::isfinite(t.evaluation.score);
    });
    std::ranges::stable_sort(trials, [](const Trial& x, const Trial& y) {
      return x.evaluation.score > y.evaluation.score;
    });
    trials.resize(std::min(trials.size(), static_cast<std::size_t>(a.best)));
  }
  Table table{.head = {"trial", "stage", "rung", "status", "score", "steps", "worker", "genotype"},
              .rows = {},
              .columns = "rlrlrrlw",
              .classes = {}};
  Json json = Json::array();
  for (const Trial& t : trials) {
    table.rows.push_back({std::to_string(t.id),
                          t.stage,
                          std::to_string(t.rung),
                          to_text(t.status),
                          score_text(t),
                          concat_text(t.evaluation.steps, "/", t.steps),
                          t.owner,
                          t.genotype_text});
    json.push_back(trial_json(t, db, false));
  }
  show(a, table, json);
}

void show_workers(const Arguments& a, const ResultsDb& db) {
  Table table{.head = {"worker", "host", "device", "state", "wish", "running", "heard"},
              .rows = {},
              .columns = "llllllr",
              .classes = {}};
  Json json = Json::array();
  const std::vector<Trial> trials = db.trials();
  for (const WorkerRecord& w : db.workers()) {
    if (!a.what.empty() && w.name != a.what) continue;
    std::string running;
    std::int64_t done = 0;
    for (const Trial& t : trials) {
      if (t.owner != w.name) continue;
      if (t.status == TrialStatus::Running)
        running += (running.empty() ? "" : " ") + std::to_string(t.id);
      done += t.status == TrialStatus::Done;
    }
    const std::string state = w.alive || w.state == "ended" ? w.state : "died";
    table.rows.push_back({w.name,
                          w.host,
                          w.devices,
                          state,
                          w.wish,
                          running,
                          format_duration(std::max(0.0, w.heard)) + " ago"});
    json.push_back({{"name", w.name},
                    {"host", w.host},
                    {"device", w.devices},
                    {"state", state},
                    {"wish", w.wish},
                    {"running", running},
                    {"done", done},
                    {"heard_seconds", w.heard}});
  }
  NAS_CHECK_KIND(
      Usage, a.what.empty() || !json.empty(), "the run has no worker ", a.what.substr(0, 64));
  show(a, table, json);
}

void show_summary(const Arguments& a, const ResultsDb& db) {
  Table table{.head = {"stage", "state", "queued", "running", "done", "other", "best"},
              .rows = {},
              .columns = "llrrrrr",
              .classes = {}};
  Json json{{"state", db.state()}, {"clock", db.clock()}, {"stages", Json::array()}};
  for (const StageRecord& stage : db.stages()) {
    std::int64_t queued = 0, running = 0, done = 0, other = 0;
    for (const Trial& t : db.trials(stage.name)) {
      queued += t.status == TrialStatus::Queued;
      running += t.status == TrialStatus::Running;
      done += t.status == TrialStatus::Done;
      ++other;
    }
    other -= queued + running + done;
    const auto best = db.best_trial(stage.name);
    table.rows.push_back({stage.name,
                          stage.status,
                          std::to_string(queued),
                          std::to_string(running),
                          std::to_string(done),
                          std::to_string(other),
                          best ? fixed(best->evaluation.score, 4) : "-"});
    json["stages"].push_back({{"name", stage.name},
                              {"state", stage.status},
                              {"queued", queued},
                              {"running", running},
                              {"done", done},
                              {"other", other},
                              {"best", best ? Json(best->id) : Json(nullptr)}});
  }
  if (!a.json) std::cout << "run " << a.run << ": " << db.state() << '\n';
  show(a, table, json);
}

std::int64_t trial_id(const Arguments& a) {
  std::int64_t id = 0;
  const auto [end, error] = std::from_chars(a.what.data(), a.what.data() + a.what.size(), id);
  NAS_CHECK_KIND(Usage,
                 error == std::errc() && end == a.what.data() + a.what.size() && id > 0,
                 "expected the number of a trial, found \"",
                 a.what.substr(0, 64),
                 "\"");
  return id;
}

void show_trial(const Arguments& a, const ResultsDb& db) {
  const Json json = trial_json(existing_trial(db, trial_id(a)), db, true);
  Table table{.head = {"", ""}, .rows = {}, .columns = "lw", .classes = {}};
  for (const auto& [key, value] : json.items()) {
    table.rows.push_back({key, value.is_string() ? value.get<std::string>() : value.dump()});
  }
  show(a, table, json);
}

void done(const Arguments& a, const std::string& text) {
  if (a.json) {
    std::cout << Json{{"done", text}}.dump() << '\n';
  } else {
    std::cout << text << '\n';
  }
}

/// Ends a queued or running trial, or what a worker is busy with.
void abort_one(const Arguments& a, ResultsDb& db) {
  std::vector<std::int64_t> ids;
  for (const WorkerRecord& w : db.workers()) {
    if (w.name != a.what) continue;
    for (const Trial& t : db.trials_in_short(0)) {
      if (t.owner == w.name && t.status == TrialStatus::Running) ids.push_back(t.id);
    }
    NAS_CHECK_KIND(Usage, !ids.empty(), "worker ", w.name, " runs no trial");
  }
  if (ids.empty()) ids.push_back(trial_id(a));
  for (const std::int64_t id : ids) {
    done(a, a.verb == "skip" ? skip_trial(db, id) : abort_trial(db, id));
  }
}

void wish_worker(const Arguments& a, ResultsDb& db) {
  done(a, a.verb == "suspend" ? suspend_worker(db, a.what) : resume_worker(db, a.what));
}

constexpr std::int64_t kLongestFile = 1 << 20;
constexpr const char* kBlank = " \t\r\n";

/// The genotype in words.
std::string text_of(const std::string& what) {
  std::error_code none;
  std::string text = what;
  if (std::filesystem::is_regular_file(what, none)) text = read_file(what, kLongestFile);
  const std::size_t first = text.find_first_not_of(kBlank), last = text.find_last_not_of(kBlank);
  NAS_CHECK_KIND(Usage,
                 first != std::string::npos,
                 "expected a genotype (gene=value ...) or a file that holds one, found "
                 "nothing in \"",
                 what.substr(0, 64),
                 "\"");
  text = text.substr(first, last - first + 1);
  NAS_CHECK_KIND(Usage,
                 text.find('\n') == std::string::npos,
                 what.substr(0, 200),
                 ": expected one genotype in one line, found several lines");
  return text;
}

void enqueue(const Arguments& a, ResultsDb& db) {
  done(a, enqueue_genotype(db, text_of(a.what), kAskedByUser));
}

void stop(const Arguments& a, ResultsDb& db) { done(a, stop_run(db, a.now)); }

struct Action {
  const char* name;
  const char* words;
  bool needs_what, writes;
  std::function<void(const Arguments&, ResultsDb&)> run;
};

const std::vector<Action>& actions() {
  static const std::vector<Action> all = {
      {"summary", "stages and how far they are", false, false, show_summary},
      {"trials", "all trials, or with --best the best ones", false, false, show_trials},
      {"trial", "everything about one trial", true, false, show_trial},
      {"workers", "who works on the run", false, false, show_workers},
      {"worker", "one of them", true, false, show_workers},
      {"abort", "end a trial, or what a worker runs", true, true, abort_one},
      {"skip", "do not begin a queued trial", true, true, abort_one},
      {"suspend", "give a worker no new trials", true, true, wish_worker},
      {"resume", "give it trials again", true, true, wish_worker},
      {"enqueue", "try this genotype next (its text, or a file with it)", true, true, enqueue},
      {"stop", "stop the whole run, to be resumed later", false, true, stop}};
  return all;
}

int run(const Arguments& a) {
  std::vector<std::string> names;
  for (const Action& action : actions()) names.emplace_back(action.name);
  const auto action = std::ranges::find(actions(), a.verb, &Action::name);
  NAS_CHECK_KIND(Usage,
                 action != actions().end(),
                 "ctl: unknown verb ",
                 a.verb.substr(0, 64),
                 did_you_mean(a.verb.substr(0, 64), names, ""),
                 " (",
                 joined(names),
                 ")");
  NAS_CHECK_KIND(Usage,
                 !action->needs_what || !a.what.empty(),
                 "ctl ",
                 a.verb,
                 ": say which (",
                 action->words,
                 ")");
  NAS_CHECK_KIND(Usage,
                 action->needs_what || a.what.empty(),
                 "ctl ",
                 a.verb,
                 ": did not expect \"",
                 a.what.substr(0, 64),
                 "\"");
  const RunFolder folder(a.run);
  NAS_CHECK_KIND(Usage, has_database(folder), a.run, ": expected a run folder, found none");
  ResultsDb db = action->writes ? open_to_write(folder) : open_to_read(folder);
  try {
    action->run(a, db);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::Usage) throw;
    fail(ErrorKind::Usage, "ctl ", a.verb, ": ", error.what());
  }
  return 0;
}

}  // namespace

Command ctl_command() {
  return {.name = "ctl", .setup = [](CLI::App& app) -> std::function<int()> {
            auto a = std::make_shared<Arguments>();
            app.add_option("RUN", a->run, "Run folder of a search")->required();
            std::string words = "What to do:";
            for (const Action& action : actions()) {
              words += concat_text(
                  "\n  ", action.name, action.needs_what ? " WHICH" : "", ": ", action.words);
            }
            app.add_option("VERB", a->verb, words)->required();
            app.add_option("WHICH",
                           a->what,
                           "The number of a trial, the name of a worker, or a genotype or a file "
                           "that holds one");
            app.add_option("--best", a->best, "Of trials: only so many, the best first")
                ->check(CLI::Range(std::int64_t{1}, std::int64_t{1'000'000}));
            app.add_flag("--now", a->now, "Of stop: abort running trials instead of keeping them");
            app.add_flag("--json", a->json, "Print as JSON");
            return [a] { return run(*a); };
          }};
}

}  // namespace nas
