// SPDX-License-Identifier: Apache-2.0
#include "nas/results/results_rows.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/json.h"
#include "nas/core/run_folder.h"
#include "nas/core/text.h"

namespace nas::results {
namespace {

using sqlite::Statement;

constexpr std::size_t kShown = 64;  // of a wrong value in a message
const std::vector<std::string> kFinalRoles = {"best", "baseline", "control"};
constexpr std::size_t kLongestName = 100;  // of a contestant

Genotype genotype_from(const std::string& text, const std::string& where) {
  const Json value = parse_json(text, where);
  Genotype genotype;
  for (const std::int64_t gene : JsonReader(value, where).integers()) {
    NAS_CHECK(gene >= 0 && gene < 1'000'000, where, ": gene value out of range: ", gene);
    genotype.values.push_back(static_cast<int>(gene));
  }
  return genotype;
}

/// Errors of a value name the row that it stands in.
template <class Read>
auto in_row(const std::string& where, Read&& read) {
  try {
    return read();
  } catch (const Error& error) {
    fail(ErrorKind::Input, where, ": ", error.what());
  }
}

Winner winner_from(const std::string& text, const std::string& where) {
  const Json value = parse_json(text, where);
  Winner winner;
  if (value.is_null()) return winner;
  const JsonReader reader(value, where);
  winner.found = true;
  winner.genotype = genotype_from(reader.at("genotype").json().dump(), where);
  winner.score = reader.at("score").number();
  winner.how = reader.at("how").text();
  return winner;
}

}  // namespace

void check_label(const Trial& trial, const std::string& where) {
  const std::vector<std::string>& known = kFinalRoles;
  if (trial.purpose == TrialPurpose::Retrain) {
    if (std::ranges::find(known, trial.label) != known.end()) return;
  } else if (trial.label.size() <= kLongestName && trial.label != "best" &&
             trial.label != "control" &&
             std::ranges::none_of(trial.label, [](unsigned char c) { return c < ' '; })) {
    return;
  }
  fail(ErrorKind::Input,
       where,
       ": label: expected \"",
       joined(known, "\", \""),
       "\"; found \"",
       trial.label.substr(0, kShown),
       "\"");
}

RunRecord read_run(Statement& row) {
  RunRecord run;
  run.folder = row.text();
  run.host = row.text();
  run.command = row.text();
  run.data_folder = row.text();
  run.fold = row.integer();
  run.recipe_json = row.text();
  run.plan_json = row.text();
  run.space_json = row.text();
  run.setup_json = row.text();
  run.budget.seconds = row.real();
  run.budget.steps = row.integer();
  run.seed = row.unsigned_integer();
  run.code_version = row.text();
  run.created_unix = row.integer();
  run.budget.effort = row.real();
  return run;
}

Trial read_trial(Statement& row, const std::filesystem::path& file) {
  Trial t;
  t.id = row.integer();
  const std::string where = concat_text(file.string(), ": trial ", t.id);
  t.stage = row.text();
  t.purpose = in_row(where, [&] { return trial_purpose_from_text(row.text()); });
  t.label = row.text();
  check_label(t, where);
  t.proposal = row.integer();
  t.rung = row.small_integer();
  t.share = row.real();
  t.genotype_text = row.text();
  t.genotype = genotype_from(row.text(), where);
  t.genotype_id = row.text();
  t.graph_id = row.text();
  t.parameters = row.integer();
  t.macs = row.integer();
  t.memory_bytes = row.integer();
  t.request = row.text();
  t.source = row.integer();
  t.steps = row.integer();
  t.seconds_limit = row.real();
  t.settings = row.text();
  t.seed = row.unsigned_integer();
  t.attempt = row.small_integer();
  t.status = in_row(where, [&] { return trial_status_from_text(row.text()); });
  t.evaluation.status = t.status;
  // Done without a score: of the held-out cases none has a class, and none was predicted.
  t.evaluation.score = row.real_or(t.status == TrialStatus::Done ? NAN : 0);
  t.evaluation.how = row.text();
  t.evaluation.steps = row.integer();
  t.evaluation.seconds = row.real();
  const Json metrics = parse_json(row.text(), where);
  const JsonReader reader(metrics, where);
  for (const std::string& key : reader.keys()) t.evaluation.metrics[key] = reader.at(key).number();
  t.evaluation.details = row.text();
  t.evaluation.decoded = genotype_from(row.text(), where);
  t.evaluation.message = row.text();
  t.checkpoint = row.text();
  NAS_CHECK(t.checkpoint == RunFolder::trial_name(t.id),
            where,
            ": checkpoint: expected \"",
            RunFolder::trial_name(t.id),
            "\", found \"",
            t.checkpoint.substr(0, kShown),
            "\"");
  t.created = row.real();
  t.started = row.real();
  t.ended = row.real();
  t.owner = row.text();
  t.token = row.integer();
  t.told_order = row.integer();
  t.asked_by = row.text();
  t.folder_state = row.text();
  t.alone = row.integer() != 0;
  return t;
}

std::string winner_text(const Winner& winner) {
  if (!winner.found) return "null";
  return Json{{"genotype", winner.genotype.values}, {"score", winner.score}, {"how", winner.how}}
      .dump();
}

StageRecord read_stage(Statement& row, const std::filesystem::path& file) {
  StageRecord s;
  s.name = row.text();
  s.status = row.text();
  s.budget.seconds = row.real();
  s.budget.steps = row.integer();
  s.budget.trials = row.integer();
  s.budget.rungs = row.integer();
  s.budget.ends_at = row.real();
  s.budget.cost_limit = row.real();
  s.budget.candidates = row.integer();
  s.started = row.real();
  s.ended = row.real();
  s.winner = winner_from(row.text(), concat_text(file.string(), ": winner of stage ", s.name));
  s.story = row.text();
  s.budget.effort = row.real();
  s.budget.horizon = row.real();
  return s;
}

}  // namespace nas::results
