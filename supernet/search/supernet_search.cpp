// SPDX-License-Identifier: Apache-2.0
#include "supernet/search/supernet_search.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "evolution/regularized.h"
#include "nas/core/error.h"
#include "nas/core/json.h"
#include "nas/search/ledger_strategy.h"
#include "nas/search/pareto.h"
#include "nas/search/statistics.h"

namespace nas {
namespace {

constexpr std::int64_t kFewCandidates = 16;  // below: no generations, a random sample
constexpr std::int64_t kDefaultCandidates = 64;

class SupernetSearch : public LedgerStrategy {
 public:
  explicit SupernetSearch(const StrategyContext& context)
      : LedgerStrategy(context, context.stage.kind),
        where_(concat_text("state of strategy \"", context.stage.kind, "\"")),
        differentiable_(context.stage.kind == "differentiable") {
    const StageSpec& stage = context.stage;
    NAS_CHECK_KIND(Usage,
                   stage.supernet_share + stage.rank_share <= 1,
                   "stage \"",
                   stage.name,
                   "\": supernet_share and rank_share: expected a sum of 1 at most, found ",
                   stage.supernet_share + stage.rank_share);
    rank_trials_ = std::max<std::int64_t>(0, stage.rank_trials);
    choose_search();
    Proposal proposal;
    proposal.genotype = context.start;
    proposal.share = stage.supernet_share;
    proposal.purpose = TrialPurpose::SuperNet;
    Json request = {{"method", stage.kind}};
    if (differentiable_) {
      request["merge"] = stage.merge;
      request["order"] = stage.order;
      request["warmup"] = stage.warmup;
      if (context.max_parameters > 0) request["max_parameters"] = context.max_parameters;
    }
    proposal.request = request.dump();
    ledger_.add(std::move(proposal));  // row 0 is the super-network
  }

  bool finished() const override { return step_ == Step::Over; }

  std::int64_t planned_trials() const override {
    return step_ == Step::Over ? static_cast<std::int64_t>(ledger_.size())
                               : 1 + candidates_ + rank_trials_;
  }

  Winner winner() const override {
    const auto by_score = ledger_.best(TrialPurpose::Inherited);
    const RankAgreement agreement = rank_agreement_now();
    if (!by_score || (!agreement.ranked() && context_.stage.on_unranked == "direct")) {
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
    } else if (differentiable_) {
      winner.how += " (the decoded architecture is outside the limits, or its scoring failed)";
    }
    winner.genotype = chosen->proposal.genotype;
    winner.score = chosen->outcome.score;
    winner.how += "; " + agreement_text(agreement);
    return winner;
  }

  std::string story() const override {
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
        {"on_unranked", context_.stage.on_unranked},
        {"decision", chosen.how},
        {"draws", draws_.counts()},
        {"front", pareto_story(context_, ledger_)}};
    if (chosen.found) story["winner"] = context_.space->to_text(chosen.genotype);
    if (!decoded().values.empty()) story["decoded"] = context_.space->to_text(decoded());
    return story.dump();
  }

  std::string save() const override {
    return Json{{"version", 1},
                {"step", static_cast<int>(step_)},
                {"search", search_},
                {"candidates", candidates_},
                {"draws", draws_.counts()},
                {"ledger", ledger_.save()}}
        .dump();
  }

  void load(const std::string& state) override {
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

 private:
  enum class Step { Supernet, Scoring, Training, Over };

  /// Turns "auto" and 0 into a way to search and a number.
  void choose_search() {
    const StageSpec& stage = context_.stage;
    if (differentiable_) {
      search_ = "decoded";
      candidates_ = std::max<std::int64_t>(1, rank_trials_);
      return;
    }
    candidates_ = stage.candidates > 0 ? stage.candidates : kDefaultCandidates;
    search_ = stage.search;
    if (search_ == "random" || search_ == "regularized") return;
    const auto all = admissible_genotypes();
    if (all && static_cast<std::int64_t>(all->size()) <= candidates_) {
      search_ = "exhaustive";
      candidates_ = static_cast<std::int64_t>(all->size());
      return;
    }
    NAS_CHECK_KIND(
        Usage,
        search_ != "exhaustive",
        "stage \"",
        stage.name,
        "\": search: \"exhaustive\" has to score every genotype of its groups, but there "
        "are more than the ",
        candidates_,
        " that it may score; take \"auto\", or raise candidates or the budget");
    search_ = candidates_ < kFewCandidates ? "random" : "regularized";
  }

  /// Nothing if there are more than could be scored anyway.
  std::optional<std::vector<Genotype>> admissible_genotypes() const {
    // Limits turn genotypes away, so a few more than can be scored are worth looking at.
    auto all = draws_.enumerate(8 * candidates_);
    if (all && context_.admissible) {
      std::erase_if(*all, [&](const Genotype& g) { return !context_.admissible(g); });
    }
    return all;
  }

  void go_on() override {
    switch (step_) {
      case Step::Supernet:
        if (ledger_.row(0).done()) {
          step_ = Step::Scoring;
          first_candidates();
        } else {
          step_ = Step::Training;
          train_without_scores();
        }
        break;
      case Step::Scoring:
        if (search_ != "regularized" || !add_generation()) {
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

  /// The architecture that a differentiable super-network chose; else empty.
  const Genotype& decoded() const {
    static const Genotype kNone;
    return differentiable_ ? ledger_.row(0).outcome.decoded : kNone;
  }

  std::int64_t count_of(TrialPurpose purpose) const {
    return std::ranges::count_if(
        ledger_.rows(), [&](const Ledger::Row& row) { return row.proposal.purpose == purpose; });
  }
  std::int64_t count_done(TrialPurpose purpose) const {
    return std::ranges::count_if(ledger_.rows(), [&](const Ledger::Row& row) {
      return row.done() && row.proposal.purpose == purpose;
    });
  }

  void score_all(std::vector<Genotype> genotypes) {
    std::ranges::sort(genotypes);
    const double left =
        std::max(0.0, 1 - context_.stage.supernet_share - context_.stage.rank_share);
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

  std::string label_of(const Genotype& genotype) const {
    if (genotype == context_.baseline) return "baseline";
    return genotype == decoded() ? "decoded" : "";
  }

  void first_candidates() {
    std::vector<Genotype> first;
    if (search_ == "exhaustive") {
      for (const Genotype& genotype : admissible_genotypes().value_or(std::vector<Genotype>{})) {
        if (draws_.take(genotype)) first.push_back(genotype);
      }
    } else {
      if (differentiable_) {
        NAS_CHECK_KIND(Internal,
                       !decoded().values.empty(),
                       "stage \"",
                       context_.stage.name,
                       "\": the differentiable super-network decoded nothing");
        if (draws_.take(decoded())) first.push_back(decoded());
      }
      for (const Genotype& anchor : draws_.anchors()) {
        if (std::ssize(first) < candidates_ && draws_.take(anchor)) first.push_back(anchor);
      }
      const std::int64_t wanted =
          search_ == "regularized" ? aging_sizes(candidates_).population : candidates_;
      Rng rng = context_.rng.split("candidates");
      while (std::ssize(first) < wanted) {
        const auto drawn = draws_.sample(rng);
        if (!drawn) break;
        first.push_back(*drawn);
      }
    }
    draws_.check_any();
    score_all(std::move(first));
  }

  /// The next generation of the evolution over inherited scores; false if there is none.
  bool add_generation() {
    AgingSizes sizes = aging_sizes(candidates_);
    // Scores are cheap and come in batches that share prefixes: large generations.
    sizes.batch = std::max<std::int64_t>(1, sizes.population / 2);
    std::vector<Genotype> next = next_generation(context_,
                                                 ledger_,
                                                 TrialPurpose::Inherited,
                                                 sizes,
                                                 candidates_ - count_of(TrialPurpose::Inherited),
                                                 {},
                                                 draws_);
    if (next.empty()) return false;
    score_all(std::move(next));
    return true;
  }

  void train(const Genotype& genotype) {
    Proposal proposal;
    proposal.genotype = genotype;
    proposal.share = context_.stage.rank_share / static_cast<double>(rank_trials_);
    proposal.label = label_of(genotype);
    ledger_.add(std::move(proposal));
  }

  /// Genotypes at even distances in the ranking by inherited score, the first and the last
  /// included.
  void train_spread() {
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

  void train_without_scores() {
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
  const Ledger::Row* decoded_row() const {
    for (const Ledger::Row& row : ledger_.rows()) {
      if (row.done() && row.proposal.purpose == TrialPurpose::Inherited &&
          row.proposal.genotype == decoded()) {
        return &row;
      }
    }
    return nullptr;
  }

  RankAgreement rank_agreement_now() const {
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

  std::string agreement_text(const RankAgreement& agreement) const {
    std::string text;
    if (!std::isfinite(agreement.tau)) {
      text = concat_text("Kendall's tau cannot be told from ", agreement.items, " pair(s)");
    } else {
      const auto rounded = [](double v) { return std::round(v * 100) / 100; };
      text = concat_text(
          "Kendall's tau ", rounded(agreement.tau), " over ", agreement.items, " own trainings");
      if (std::isfinite(agreement.interval.low)) {
        text += concat_text(", interval ",
                            rounded(agreement.interval.low),
                            " to ",
                            rounded(agreement.interval.high));
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

  std::string where_;
  bool differentiable_ = false;
  std::string search_;
  std::int64_t candidates_ = 0, rank_trials_ = 0;
  Step step_ = Step::Supernet;
};

}  // namespace

std::unique_ptr<Strategy> make_supernet_search(const StrategyContext& context) {
  return std::make_unique<SupernetSearch>(context);
}

}  // namespace nas
