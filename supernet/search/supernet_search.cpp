// SPDX-License-Identifier: Apache-2.0
#include "supernet/search/supernet_search.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/json.h"
#include "nas/search/pareto.h"

namespace nas {

SupernetSearch::SupernetSearch(const StrategyContext& context)
    : LedgerStrategy(context, context.stage.kind->name),
      rank_trials_(std::max<std::int64_t>(0, context.budget.trials)),
      where_(concat_text("state of strategy \"", context.stage.kind->name, "\"")),
      supernet_share_(context.stage.number("supernet_share")),
      rank_share_(context.stage.number("rank_share")),
      on_unranked_(context.stage.word("on_unranked")) {
  check_supernet_shares(context.stage, concat_text("stage \"", context.stage.name, "\""));
}

void SupernetSearch::begin(Json request) {
  request["method"] = context_.stage.kind->name;
  Proposal proposal;
  proposal.genotype = context_.start;
  proposal.share = supernet_share_;
  proposal.purpose = TrialPurpose::SuperNet;
  proposal.request = request.dump();
  ledger_.add(std::move(proposal));
}

std::int64_t SupernetSearch::planned_trials() const {
  return step_ == Step::Over ? static_cast<std::int64_t>(ledger_.size())
                             : 1 + candidates_ + rank_trials_;
}

Winner SupernetSearch::winner() const {
  const auto by_score = ledger_.best(TrialPurpose::Inherited);
  const RankAgreement agreement = rank_agreement_now();
  if (!by_score || (!agreement.ranked() && on_unranked_ == "direct")) {
    Winner best = ledger_.best_training();
    if (best.found) {
      best.how += by_score ? "; " + agreement_text(agreement) : "; the super-network failed";
      return best;
    }
  }
  Winner winner;
  if (!by_score) return winner;
  winner.found = true;
  const Ledger::Row* chosen = &ledger_.row(*by_score);
  winner.how = concat_text("best of ", count_done(TrialPurpose::Inherited), " inherited scores");
  if (const Ledger::Row* row = decoded_row()) {
    chosen = row;
    winner.how = "decoded from the super-network";
  } else if (!decoded().values.empty()) {
    winner.how += " (the decoded architecture is outside the limits, or its scoring failed)";
  }
  winner.genotype = chosen->proposal.genotype;
  winner.score = chosen->outcome.score;
  winner.how += "; " + agreement_text(agreement);
  return winner;
}

std::string SupernetSearch::story() const {
  const RankAgreement agreement = rank_agreement_now();
  const auto number = [](double v) { return std::isfinite(v) ? Json(v) : Json(nullptr); };
  std::map<Genotype, double> own;
  for (const Ledger::Row& row : ledger_.rows()) {
    if (row.done() && row.proposal.purpose == TrialPurpose::Search) {
      own[row.proposal.genotype] = row.outcome.score;
    }
  }
  Json scores = Json::array();
  for (const Ledger::Row& row : ledger_.rows()) {
    if (row.proposal.purpose != TrialPurpose::Inherited) continue;
    Json item = {{"trial", row.outcome.trial},
                 {"genotype", context_.space->to_text(row.proposal.genotype)},
                 {"score", row.done() ? Json(row.outcome.score) : Json(nullptr)}};
    if (!row.proposal.label.empty()) item["label"] = row.proposal.label;
    if (const auto found = own.find(row.proposal.genotype); found != own.end()) {
      item["own"] = found->second;
    }
    scores.push_back(std::move(item));
  }
  const Winner chosen = winner();
  Json story = {
      {"supernet_trial", ledger_.row(0).outcome.trial},
      {"search", search_},
      {"scores", scores},
      {"rank_trials",
       {{"wanted", kWantedRankTrials}, {"planned", rank_trials_}, {"compared", agreement.items}}},
      {"tau", number(agreement.tau)},
      {"interval", {number(agreement.interval.low), number(agreement.interval.high)}},
      {"ranked", agreement.ranked()},
      {"on_unranked", on_unranked_},
      {"decision", chosen.how},
      {"draws", draws_.counts()},
      {"front", pareto_story(context_, ledger_)}};
  if (chosen.found) story["winner"] = context_.space->to_text(chosen.genotype);
  if (!decoded().values.empty()) story["decoded"] = context_.space->to_text(decoded());
  return story.dump();
}

std::string SupernetSearch::save() const {
  return Json{{"version", 1},
              {"step", static_cast<int>(step_)},
              {"search", search_},
              {"candidates", candidates_},
              {"draws", draws_.counts()},
              {"ledger", ledger_.save()}}
      .dump();
}

void SupernetSearch::load(const std::string& state) {
  const Json value = parse_json(state, where_);
  const JsonReader reader(value, where_);
  reader.at("version").integer(1, 1);
  step_ = static_cast<Step>(reader.at("step").integer(0, static_cast<int>(Step::Over)));
  search_ = reader.at("search").text();
  candidates_ = reader.at("candidates").integer(0, std::int64_t{1} << 40);
  ledger_.load(reader.at("ledger"));
  NAS_CHECK(ledger_.size() > 0, where_, ": ledger: expected the super-network's row");
  // Own trainings repeat scored genotypes, so marking the scored ones alone is what was taken;
  // without scores the trainings themselves were.
  draws_.load(reader.at("draws"), ledger_);
}

void SupernetSearch::go_on() {
  switch (step_) {
    case Step::Supernet:
      if (ledger_.row(0).done()) {
        step_ = Step::Scoring;
        std::vector<Genotype> first = first_candidates();
        draws_.check_any();
        score_all(std::move(first));
      } else {
        step_ = Step::Training;
        train_without_scores();
      }
      break;
    case Step::Scoring:
      if (std::vector<Genotype> next = next_candidates(); !next.empty()) {
        score_all(std::move(next));
      } else {
        step_ = Step::Training;
        train_spread();
      }
      break;
    case Step::Training:
    case Step::Over:
      step_ = Step::Over;
      break;
  }
}

const Genotype& SupernetSearch::decoded() const {
  static const Genotype kNone;
  return kNone;
}

std::int64_t SupernetSearch::count_of(TrialPurpose purpose) const {
  return std::ranges::count_if(
      ledger_.rows(), [&](const Ledger::Row& row) { return row.proposal.purpose == purpose; });
}

std::int64_t SupernetSearch::count_done(TrialPurpose purpose) const {
  return std::ranges::count_if(ledger_.rows(), [&](const Ledger::Row& row) {
    return row.done() && row.proposal.purpose == purpose;
  });
}

void SupernetSearch::score_all(std::vector<Genotype> genotypes) {
  std::ranges::sort(genotypes);
  const double left = std::max(0.0, scoring_share(context_.stage));
  for (const Genotype& genotype : genotypes) {
    Proposal proposal;
    proposal.genotype = genotype;
    proposal.share = left / static_cast<double>(candidates_);
    proposal.purpose = TrialPurpose::Inherited;
    proposal.source = 0;
    proposal.label = label_of(genotype);
    ledger_.add(std::move(proposal));
  }
}

std::string SupernetSearch::label_of(const Genotype& genotype) const {
  if (genotype == context_.baseline) return "baseline";
  return genotype == decoded() ? "decoded" : "";
}

void SupernetSearch::fill(std::vector<Genotype>& first, std::int64_t wanted) {
  for (const Genotype& anchor : draws_.anchors()) {
    if (std::ssize(first) < candidates_ && draws_.take(anchor)) first.push_back(anchor);
  }
  Rng rng = context_.rng.split("candidates");
  while (std::ssize(first) < wanted) {
    const auto drawn = draws_.sample(rng);
    if (!drawn) break;
    first.push_back(*drawn);
  }
}

void SupernetSearch::train(const Genotype& genotype) {
  Proposal proposal;
  proposal.genotype = genotype;
  proposal.share = rank_share_ / static_cast<double>(rank_trials_);
  proposal.label = label_of(genotype);
  ledger_.add(std::move(proposal));
}

/// Genotypes at even distances in the ranking by inherited score, the first and the last
/// included.
void SupernetSearch::train_spread() {
  std::vector<const Ledger::Row*> scored;
  for (const Ledger::Row& row : ledger_.rows()) {
    if (row.done() && row.proposal.purpose == TrialPurpose::Inherited) scored.push_back(&row);
  }
  std::ranges::stable_sort(scored, [](const Ledger::Row* a, const Ledger::Row* b) {
    return a->outcome.score > b->outcome.score;
  });
  if (scored.empty()) {
    train_without_scores();
    return;
  }
  const auto n = std::ssize(scored);
  const std::int64_t count = std::min<std::int64_t>(rank_trials_, n);
  std::vector<Genotype> chosen;  // copies: training adds rows
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t place = count == 1 ? 0 : (i * (n - 1) + (count - 1) / 2) / (count - 1);
    chosen.push_back(scored[static_cast<std::size_t>(place)]->proposal.genotype);
  }
  if (decoded_row() && count > 0 && std::ranges::find(chosen, decoded()) == chosen.end()) {
    chosen.back() = decoded();
  }
  for (const Genotype& genotype : chosen) train(genotype);
}

void SupernetSearch::train_without_scores() {
  std::vector<Genotype> chosen;
  for (const Genotype& anchor : draws_.anchors()) {
    if (std::ssize(chosen) < rank_trials_ && draws_.take(anchor)) chosen.push_back(anchor);
  }
  Rng rng = context_.rng.split("direct");
  while (std::ssize(chosen) < rank_trials_) {
    const auto drawn = draws_.sample(rng);
    if (!drawn) break;
    chosen.push_back(*drawn);
  }
  for (const Genotype& genotype : chosen) train(genotype);
}

/// The scored row of the decoded architecture; null if there is none, or it is not admissible.
const Ledger::Row* SupernetSearch::decoded_row() const {
  for (const Ledger::Row& row : ledger_.rows()) {
    if (row.done() && row.proposal.purpose == TrialPurpose::Inherited &&
        row.proposal.genotype == decoded()) {
      return &row;
    }
  }
  return nullptr;
}

RankAgreement SupernetSearch::rank_agreement_now() const {
  std::map<Genotype, double> inherited;
  for (const Ledger::Row& row : ledger_.rows()) {
    if (row.done() && row.proposal.purpose == TrialPurpose::Inherited) {
      inherited[row.proposal.genotype] = row.outcome.score;
    }
  }
  std::vector<double> x, y;
  for (const Ledger::Row& row : ledger_.rows()) {
    if (!row.done() || row.proposal.purpose != TrialPurpose::Search) continue;
    const auto found = inherited.find(row.proposal.genotype);
    if (found == inherited.end()) continue;
    x.push_back(found->second);
    y.push_back(row.outcome.score);
  }
  return rank_agreement(x, y, context_.rng.split("tau"));
}

std::string SupernetSearch::agreement_text(const RankAgreement& agreement) const {
  std::string text;
  if (!std::isfinite(agreement.tau)) {
    text = concat_text("Kendall's tau cannot be told from ", agreement.items, " pair(s)");
  } else {
    const auto rounded = [](double v) { return std::round(v * 100) / 100; };
    text = concat_text(
        "Kendall's tau ", rounded(agreement.tau), " over ", agreement.items, " own trainings");
    if (std::isfinite(agreement.interval.low)) {
      text += concat_text(
          ", interval ", rounded(agreement.interval.low), " to ", rounded(agreement.interval.high));
    }
  }
  text += agreement.ranked()                ? ": the super-network ranks"
          : agreement.items < kFewestRanked ? ": too few to tell whether the super-network ranks"
                                            : ": no sign that the super-network ranks";
  if (rank_trials_ < kWantedRankTrials) {
    text +=
        concat_text(" (", rank_trials_, " trainings planned instead of ", kWantedRankTrials, ")");
  }
  return text;
}

std::vector<StageOption> supernet_options() {
  return {number_option("supernet_share", 0.55, {.low_open = true, .high_open = true}),
          number_option("rank_share", 0.3, {.high_open = true}),
          // At most; fewer where the budget cannot pay.
          count_option("rank_trials", kWantedRankTrials, 0, 1000),
          // Where the interval of Kendall's tau includes 0.
          word_option("on_unranked", "direct", {"direct", "continue"}),
          // Left out where its ranking could not be checked (optional_stages.h).
          flag_option("optional", false)};
}

double scoring_share(const StageSpec& stage) {
  return 1 - stage.number("supernet_share") - stage.number("rank_share");
}

void check_supernet_shares(const StageSpec& stage, const std::string& where) {
  const double taken = stage.number("supernet_share") + stage.number("rank_share");
  NAS_CHECK_KIND(Usage,
                 taken < 1,
                 where,
                 ": supernet_share + rank_share: expected less than 1, so that candidates can be "
                 "scored; found ",
                 taken);
}

StageBudget supernet_budget(const BudgetQuestion& question) {
  const double rank_share = question.stage.number("rank_share");
  const std::int64_t most = question.stage.count("rank_trials");
  StageBudget result = question.means;
  if (!question.has_clock) {
    result.trials = trials_in_steps(static_cast<double>(result.steps) * rank_share, most);
    return result;
  }
  result.cost_limit = usual_cost_limit(question.final_steps);
  // A super-network step costs about as much as one of the largest closed network.
  const double training = result.seconds * question.stage.number("supernet_share");
  if (training < question.smallest_seconds) question.refuse(1);
  result.trials = std::min(
      most, static_cast<std::int64_t>(result.seconds * rank_share / question.smallest_seconds));
  if (result.trials > 0) {
    const double each = rank_share / static_cast<double>(result.trials);
    result.effort = static_cast<double>(steps_in(result.seconds * each, question.baseline)) / each;
  }
  return result;
}

double least_supernet(const StageSpec& stage, std::int64_t /*finals*/) {
  return 1 / stage.number("supernet_share");
}

double tau_half_width(std::int64_t trials) {
  if (trials < kFewestRanked) return INFINITY;
  const auto n = static_cast<double>(trials);
  return 1.96 * std::sqrt(2 * (2 * n + 5) / (9 * n * (n - 1)));
}

std::string checked_to(std::int64_t trials) {
  const double half = tau_half_width(trials);
  if (!std::isfinite(half)) return " (too few to tell)";
  return concat_text(" (Kendall's tau +/- ", std::round(half * 100) / 100, ")");
}

std::vector<TrialForecast> supernet_forecast(const StageSpec& stage,
                                             const StageBudget& budget,
                                             const StepsOfShare& steps,
                                             std::int64_t candidates) {
  std::vector<TrialForecast> trials{{"super-network", 1, steps(stage.number("supernet_share"))},
                                    {"candidates scored with inherited weights", candidates, 0}};
  if (budget.trials > 0) {
    trials.push_back(
        {"own trainings that check the ranking" + checked_to(budget.trials),
         budget.trials,
         steps(stage.number("rank_share") * (1.0 / static_cast<double>(budget.trials)))});
  }
  return trials;
}

}  // namespace nas
