// SPDX-License-Identifier: Apache-2.0
#include "nas/dashboard/live_run.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <utility>

#include "nas/core/error.h"
#include "nas/dashboard/http_rules.h"
#include "nas/report/report.h"
#include "nas/report/text.h"

namespace nas {
namespace {

constexpr std::size_t kShownText = 120;  // bytes of a genotype or message in a table
constexpr auto kReportEvery = std::chrono::seconds(5);

std::string short_text(const std::string& text) {
  if (text.size() <= kShownText) return text;
  std::size_t end = kShownText;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  return text.substr(0, end) + "…";
}

/// Six digits: metrics in tables are for the eye; the page of a trial has them all.
Json rounded(double value) {
  if (!std::isfinite(value)) return nullptr;
  if (value == 0) return 0;
  const double scale = std::pow(10.0, 5 - std::floor(std::log10(std::abs(value))));
  return std::isfinite(scale) && scale > 0 ? Json(std::round(value * scale) / scale) : Json(value);
}

}  // namespace

Json trial_columns(const std::vector<const Trial*>& trials) {
  Json columns = Json::object();
  std::set<std::string> metrics;
  for (const Trial* t : trials) {
    for (const auto& [name, value] : t->evaluation.metrics) metrics.insert(name);
  }
  for (const char* name :
       {"id",      "stage",    "purpose", "label",   "rung",    "status",  "score", "params",
        "macs",    "memory",   "steps",   "done",    "seconds", "started", "ended", "worker",
        "network", "asked_by", "genes",   "message", "source",  "folder"}) {
    columns[name] = Json::array();
  }
  columns["metrics"] = Json::object();
  for (const std::string& name : metrics) columns["metrics"][name] = Json::array();
  for (const Trial* t : trials) {
    const bool scored = t->status == TrialStatus::Done || t->status == TrialStatus::Pruned;
    columns["id"].push_back(t->id);
    columns["stage"].push_back(t->stage);
    columns["purpose"].push_back(to_text(t->purpose));
    columns["label"].push_back(t->label);
    columns["rung"].push_back(t->rung);
    columns["status"].push_back(to_text(t->status));
    columns["score"].push_back(scored ? finite(t->evaluation.score) : Json(nullptr));
    columns["params"].push_back(t->parameters);
    columns["macs"].push_back(t->macs);
    columns["memory"].push_back(t->memory_bytes);
    columns["steps"].push_back(t->steps);
    columns["done"].push_back(t->evaluation.steps);
    columns["seconds"].push_back(rounded(t->evaluation.seconds));
    columns["started"].push_back(rounded(t->started));
    columns["ended"].push_back(rounded(t->ended));
    columns["worker"].push_back(t->owner);
    columns["network"].push_back(short_text(t->genotype_text));
    columns["asked_by"].push_back(t->asked_by);
    columns["genes"].push_back(t->genotype.values);
    columns["message"].push_back(short_text(t->evaluation.message));
    columns["source"].push_back(t->source);
    columns["folder"].push_back(t->folder_state);
    for (const std::string& name : metrics) {
      const auto found = t->evaluation.metrics.find(name);
      columns["metrics"][name].push_back(
          found == t->evaluation.metrics.end() ? Json(nullptr) : rounded(found->second));
    }
  }
  return columns;
}

LiveRun::LiveRun(std::filesystem::path file, std::int64_t run, std::string folder)
    : file_(std::move(file)),
      run_(run),
      folder_(std::move(folder)),
      watch_(file_, run),
      epoch_(new_token().substr(0, 8)) {}

std::string LiveRun::rev_text() const { return concat_text(epoch_, '-', number_); }

void LiveRun::read_changes() {
  const ResultsDb& db = watch_.database();
  const std::int64_t next = number_ + 1;
  bool changed = !loaded_;
  std::vector<std::int64_t> open;
  for (const Row& row : rows_) {
    if (is_open(row.trial.status)) open.push_back(row.trial.id);
  }
  const std::int64_t last = rows_.empty() ? 0 : rows_.back().trial.id;
  for (Trial& trial : db.trials_in_short(last, open)) {
    if (trial.id > last) {
      rows_.push_back({std::move(trial), next});
      changed = true;
      continue;
    }
    const auto row = std::ranges::lower_bound(
        rows_, trial.id, {}, [](const Row& other) { return other.trial.id; });
    const Trial& old = row->trial;
    const bool same = old.status == trial.status && old.token == trial.token &&
                      old.steps == trial.steps && old.owner == trial.owner &&
                      old.evaluation == trial.evaluation && old.started == trial.started;
    if (same) continue;
    *row = {std::move(trial), next};
    changed = true;
  }
  for (EventRecord& event : db.events_after(events_.empty() ? 0 : events_.back().id)) {
    events_.push_back(std::move(event));
    event_revs_.push_back(next);
    changed = true;
  }
  const std::string state = db.state();
  const double clock = db.clock();
  changed |= state != state_ || clock != clock_ || !problem_.empty();
  state_ = state;
  clock_ = clock;
  problem_.clear();
  loaded_ = true;
  if (changed) number_ = next;
}

Json LiveRun::refresh() {
  const std::lock_guard lock(mutex_);
  const std::int64_t before = number_;
  try {
    if (watch_.changed() || !loaded_) {
      opened_ = true;
      read_changes();
    } else if (!problem_.empty()) {
      problem_.clear();
      ++number_;
    }
  } catch (const Error& error) {
    if (problem_ != error.what()) {
      problem_ = error.what();
      ++number_;
    }
    opened_ = false;
  }
  return number_ == before ? Json(nullptr) : changes_after(before);
}

Json LiveRun::changes_after(std::int64_t number) {
  std::vector<const Trial*> changed;
  for (const Row& row : rows_) {
    if (row.rev > number) changed.push_back(&row.trial);
  }
  Json events = Json::array();
  for (std::size_t i = 0; i < events_.size(); ++i) {
    if (event_revs_[i] <= number) continue;
    const EventRecord& e = events_[i];
    events.push_back(
        {{"id", e.id}, {"at", e.at}, {"trial", e.trial}, {"kind", e.kind}, {"text", e.text}});
  }
  return {{"rev", rev_text()},
          {"problem", problem_},
          {"state", state_},
          {"clock", clock_},
          {"total", rows_.size()},
          {"whole", number == 0},
          {"trials", trial_columns(changed)},
          {"events", std::move(events)}};
}

Json LiveRun::changes(const std::string& rev) {
  refresh();
  const std::lock_guard lock(mutex_);
  std::int64_t number = 0;
  const std::string ours = epoch_ + "-";
  if (rev.starts_with(ours)) {
    const auto [end, error] =
        std::from_chars(rev.data() + ours.size(), rev.data() + rev.size(), number);
    if (error != std::errc() || end != rev.data() + rev.size() || number > number_) number = 0;
  }
  return changes_after(number);
}

std::string LiveRun::rev() {
  const std::lock_guard lock(mutex_);
  return rev_text();
}

Json LiveRun::report() {
  refresh();
  const std::lock_guard lock(mutex_);
  if (!opened_) fail(ErrorKind::Io, problem_);
  const auto now = std::chrono::steady_clock::now();
  const bool fresh = report_number_ == number_ || (state_ == "running" && report_number_ >= 0 &&
                                                   now - report_time_ < kReportEvery);
  if (!fresh) {
    report_ = report_data(watch_.database());
    report_number_ = number_;
    report_time_ = now;
  }
  return report_;
}

std::vector<Trial> LiveRun::trials() {
  refresh();
  const std::lock_guard lock(mutex_);
  std::vector<Trial> all;
  all.reserve(rows_.size());
  for (const Row& row : rows_) all.push_back(row.trial);
  return all;
}

}  // namespace nas
