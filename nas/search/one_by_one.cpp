// SPDX-License-Identifier: Apache-2.0
#include "nas/search/one_by_one.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "nas/core/error.h"
#include "nas/search/pareto.h"

namespace nas {

StageOption parallel_option() { return count_option("parallel", 1, 1, 1000); }

OneByOne::OneByOne(StrategyContext context, std::string kind)
    : context_(std::move(context)),
      draws_(context_),
      ledger_(kind),
      planned_(std::max<std::int64_t>(1, context_.budget.trials)),
      kind_(kind),
      where_("state of strategy \"" + kind + "\"") {}

void OneByOne::begin() {
  for (const Genotype& anchor : draws_.anchors()) {
    if (ended() || !draws_.take(anchor)) continue;
    ledger_.add(equal_share(context_, anchor, planned_));
  }
  if (ledger_.size() == 0) add_next();
  draws_.check_any();
}

/// False: there is none.
bool OneByOne::add_next() {
  if (ended()) return false;
  std::optional<Genotype> genotype = next();
  if (!genotype) {
    if (!ended_) end("every genotype that is allowed was tried");
    return false;
  }
  ledger_.add(equal_share(context_, *std::move(genotype), planned_));
  return true;
}

std::vector<Proposal> OneByOne::ask(std::int64_t count) {
  if (!context_.stage.async) {
    if (pending_ > 0) return {};
    count = std::min(count, context_.stage.count("parallel"));
  }
  std::vector<Proposal> proposals;
  while (std::ssize(proposals) < count) {
    if (asked_ == std::ssize(ledger_.rows()) && !add_next()) break;
    const std::vector<Proposal> one = ledger_.ask(1);
    proposals.push_back(one.front());
    ++asked_;
    ++pending_;
  }
  return proposals;
}

void OneByOne::tell(const std::vector<Outcome>& outcomes) {
  ledger_.tell(outcomes);
  for (const Outcome& outcome : outcomes) {
    --pending_;
    learn(outcome);
  }
  // Whether there is a next one must be known when nothing else is waited for.
  if (pending_ == 0 && asked_ == std::ssize(ledger_.rows())) add_next();
}

Adoption OneByOne::adopt(const Genotype& genotype, const std::string& by) {
  Adoption adoption = adopt_next(draws_, ledger_, equal_share(context_, genotype, planned_), by);
  asked_ += adoption.proposal.has_value();
  pending_ += adoption.proposal.has_value();
  return adoption;
}

std::string OneByOne::story() const {
  Json story = {{"best_after", ledger_.best_after()},
                {"draws", draws_.counts()},
                {"front", pareto_story(context_, ledger_)}};
  if (!why_ended_.empty()) story["ended"] = why_ended_;
  tell_more(story);
  return story.dump();
}

std::string OneByOne::save() const {
  return Json{{"version", 1},
              {"ended", ended_},
              {"why_ended", why_ended_},
              {"draws", draws_.counts()},
              {"more", save_more()},
              {"ledger", ledger_.save()}}
      .dump();
}

void OneByOne::load(const std::string& state) {
  const Json value = parse_json(state, where_);
  const JsonReader reader(value, where_);
  reader.at("version").integer(1, 1);
  ended_ = reader.at("ended").boolean();
  why_ended_ = reader.at("why_ended").text();
  ledger_.load(reader.at("ledger"));
  for (const Ledger::Row& row : ledger_.rows()) {
    const std::string reason = context_.space->invalid_reason(row.proposal.genotype);
    NAS_CHECK(reason.empty(), where_, ": ledger: proposal ", row.proposal.number, ": ", reason);
  }
  asked_ = reader.at("ledger").at("asked").integer();
  pending_ = asked_;
  for (const Ledger::Row& row : ledger_.rows()) pending_ -= row.told;
  draws_.load(reader.at("draws"), ledger_);
  load_more(reader.at("more"));
}

}  // namespace nas
