// SPDX-License-Identifier: Apache-2.0
#include "nas/search/ledger.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"

namespace nas {
namespace {

Genotype genotype_from_json(const JsonReader& reader) {
  Genotype genotype;
  for (const std::int64_t value : reader.integers()) {
    NAS_CHECK(
        value >= 0 && value < (1 << 20), reader.where(), ": expected a value index, found ", value);
    genotype.values.push_back(static_cast<int>(value));
  }
  return genotype;
}

/// NaN is null.
Json numbers_to_json(const std::vector<double>& numbers) {
  Json list = Json::array();
  for (const double number : numbers) {
    list.push_back(std::isfinite(number) ? Json(number) : Json(nullptr));
  }
  return list;
}

std::vector<double> numbers_from_json(const JsonReader& reader) {
  std::vector<double> numbers;
  for (std::size_t i = 0; i < reader.size(); ++i) {
    const JsonReader item = reader.at(i);
    numbers.push_back(item.json().is_null() ? NAN : item.number());
  }
  return numbers;
}

}  // namespace

std::int64_t Ledger::add(Proposal proposal) {
  proposal.number = static_cast<std::int64_t>(rows_.size());
  rows_.push_back({std::move(proposal), false, {}});
  return rows_.back().proposal.number;
}

std::int64_t Ledger::adopt(Proposal proposal) {
  const auto place = rows_.begin() + static_cast<std::ptrdiff_t>(asked_);
  rows_.insert(place, {std::move(proposal), false, {}});
  for (std::size_t i = asked_; i < rows_.size(); ++i) {
    rows_[i].proposal.number = static_cast<std::int64_t>(i);
  }
  ++adopted_;
  return static_cast<std::int64_t>(asked_++);
}

std::vector<Proposal> Ledger::ask(std::int64_t count) {
  std::vector<Proposal> result;
  for (; asked_ < rows_.size() && count > 0; ++asked_, --count) {
    result.push_back(rows_[asked_].proposal);
  }
  return result;
}

void Ledger::tell(const std::vector<Outcome>& outcomes) {
  for (const Outcome& outcome : outcomes) {
    const auto place = static_cast<std::size_t>(outcome.number);
    NAS_CHECK_KIND(Internal,
                   outcome.number >= 0 && place < asked_ && !rows_[place].told,
                   "strategy \"",
                   kind_,
                   "\": outcome of proposal ",
                   outcome.number,
                   " was not asked for or is told twice");
    rows_[place].told = true;
    rows_[place].outcome = outcome;
    ++told_;
  }
}

std::optional<std::int64_t> Ledger::best(TrialPurpose purpose) const {
  std::optional<std::int64_t> best;
  for (const Row& r : rows_) {
    if (!r.done() || r.proposal.purpose != purpose) continue;
    if (!best || r.outcome.score > row(*best).outcome.score) best = r.proposal.number;
  }
  return best;
}

Json Ledger::best_after() const {
  Json best = Json::array();
  std::optional<double> top;
  for (const Row& row : rows_) {
    if (row.done() && (!top || row.outcome.score > *top)) top = row.outcome.score;
    if (row.told) best.push_back(score_to_json(top));
  }
  return best;
}

Proposal equal_share(const StrategyContext& context, Genotype genotype, std::int64_t trials) {
  Proposal proposal;
  if (genotype == context.baseline) proposal.label = "baseline";
  proposal.genotype = std::move(genotype);
  proposal.share = 1.0 / static_cast<double>(trials);
  return proposal;
}

Winner Ledger::best_training() const {
  Winner winner;
  const auto number = best();
  if (!number) return winner;
  std::int64_t finished = 0;
  for (const Row& r : rows_) finished += r.done() && r.proposal.purpose == TrialPurpose::Search;
  winner.found = true;
  winner.genotype = row(*number).proposal.genotype;
  winner.score = row(*number).outcome.score;
  winner.how = concat_text("best of ", finished, " own training(s)");
  return winner;
}

Json Ledger::save() const {
  Json rows = Json::array();
  for (const Row& r : rows_) {
    const Proposal& p = r.proposal;
    // What is as usual is left out: a state is written after every batch, and grows with it.
    Json item = {{"genotype", p.genotype.values}, {"share", p.share}};
    if (p.rung != 0) item["rung"] = p.rung;
    if (!p.label.empty()) item["label"] = p.label;
    if (p.purpose != TrialPurpose::Search) item["purpose"] = to_text(p.purpose);
    if (!p.request.empty()) item["request"] = p.request;
    if (p.source >= 0) item["source"] = p.source;
    if (p.warm_start) item["warm_start"] = true;
    if (p.continues >= 0) item["continues"] = p.continues;
    if (!p.asked_by.empty()) item["asked_by"] = p.asked_by;
    if (r.told) {
      const Outcome& o = r.outcome;
      item["outcome"] = {{"score", o.score}, {"trial", o.trial}, {"steps", o.steps}};
      if (o.status != TrialStatus::Done) item["outcome"]["status"] = to_text(o.status);
      if (!o.decoded.values.empty()) item["outcome"]["decoded"] = o.decoded.values;
      if (!o.how.empty()) item["outcome"]["how"] = o.how;
      if (o.effort > 0) item["outcome"]["effort"] = o.effort;
      if (!o.cases.empty()) item["outcome"]["cases"] = numbers_to_json(o.cases);
    }
    rows.push_back(std::move(item));
  }
  return {{"rows", std::move(rows)}, {"asked", asked_}};
}

void Ledger::load(const JsonReader& reader) {
  const JsonReader rows = reader.at("rows");
  rows_.clear();
  told_ = 0;
  adopted_ = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const JsonReader item = rows.at(i);
    Proposal p;
    p.number = static_cast<std::int64_t>(i);
    p.genotype = genotype_from_json(item.at("genotype"));
    p.share = item.at("share").number();
    if (item.has("rung")) p.rung = static_cast<int>(item.at("rung").integer(0, 1 << 20));
    if (item.has("label")) p.label = item.at("label").text();
    if (item.has("purpose")) p.purpose = trial_purpose_from_text(item.at("purpose").text());
    if (item.has("request")) p.request = item.at("request").text();
    if (item.has("source")) {
      p.source = item.at("source").integer(-1, static_cast<std::int64_t>(i) - 1);
    }
    if (item.has("warm_start")) p.warm_start = item.at("warm_start").boolean();
    if (item.has("continues")) {
      p.continues = item.at("continues").integer(0, static_cast<std::int64_t>(i) - 1);
    }
    if (item.has("asked_by")) {
      p.asked_by = item.at("asked_by").text();
      ++adopted_;
    }
    Row row{std::move(p), false, {}};
    if (item.has("outcome")) {
      const JsonReader told = item.at("outcome");
      row.told = true;
      ++told_;
      row.outcome.number = row.proposal.number;
      row.outcome.status = TrialStatus::Done;
      if (told.has("status")) {
        row.outcome.status = trial_status_from_text(told.at("status").text());
      }
      row.outcome.score = told.at("score").number();
      row.outcome.trial = told.at("trial").integer();
      if (told.has("decoded")) row.outcome.decoded = genotype_from_json(told.at("decoded"));
      row.outcome.steps = told.at("steps").integer();
      if (told.has("how")) row.outcome.how = told.at("how").text();
      if (told.has("effort")) row.outcome.effort = told.at("effort").number();
      if (told.has("cases")) row.outcome.cases = numbers_from_json(told.at("cases"));
    }
    rows_.push_back(std::move(row));
  }
  asked_ = static_cast<std::size_t>(
      reader.at("asked").integer(0, static_cast<std::int64_t>(rows_.size())));
  for (std::size_t i = asked_; i < rows_.size(); ++i) {
    NAS_CHECK(!rows_[i].told, rows.where(), "[", i, "]: has an outcome but was never asked for");
  }
}

Json genotypes_to_json(const std::vector<Genotype>& genotypes) {
  Json list = Json::array();
  for (const Genotype& genotype : genotypes) list.push_back(genotype.values);
  return list;
}

std::vector<Genotype> genotypes_from_json(const JsonReader& reader) {
  std::vector<Genotype> genotypes;
  for (std::size_t i = 0; i < reader.size(); ++i) {
    genotypes.push_back(genotype_from_json(reader.at(i)));
  }
  return genotypes;
}

Json score_to_json(const std::optional<double>& score) {
  return score ? Json(*score) : Json(nullptr);
}

}  // namespace nas
