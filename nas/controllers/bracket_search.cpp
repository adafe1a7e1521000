// SPDX-License-Identifier: Apache-2.0
#include "nas/controllers/bracket_search.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "nas/controllers/brackets.h"
#include "nas/controllers/prior_sampling.h"
#include "nas/core/error.h"
#include "nas/search/draws.h"
#include "nas/search/ledger.h"
#include "nas/search/pareto.h"
#include "nas/search/race_ladder.h"
#include "nas/search/unit_space.h"

namespace nas {
namespace {

constexpr int kPriorAttempts = 64;  // at a new genotype of one distribution

BracketPlan uncapped_plan(const StageSpec& stage, std::int64_t trials, int rungs) {
  const std::int64_t eta = stage.count("eta");
  if (stage.kind->name == "asha") return halving_plan(trials, rungs, eta);
  BracketPlan plan = hyperband_plan(trials, rungs, eta);
  if (stage.kind->name == "priorband" && stage.word("first") == "top") {
    plan.brackets.insert(plan.brackets.begin(), {plan.rungs - 1, {1}});
  }
  return plan;
}

/// The plan of a stage; fewer rungs where the highest would train longer than the winner's final
/// training, which goes on from it.
BracketPlan plan_of(const StageSpec& stage, const StageBudget& budget) {
  std::int64_t trials = std::max<std::int64_t>(1, budget.trials);
  // The budget rule fixed them, if there was one; else they follow from the trials.
  const bool fixed = budget.effort > 0 || budget.steps > 0;
  const auto asked = static_cast<int>(stage.count("rungs") > 0 ? stage.count("rungs")
                                      : fixed                  ? budget.rungs
                                                               : 0);
  BracketPlan plan = uncapped_plan(stage, trials, asked);
  while (stage.kind->name == "asha" && trials > 1 &&
         plan.share(-1, 0) < stage.number("min_share")) {
    plan = uncapped_plan(stage, --trials, asked);
  }
  while (plan.rungs > 1 && budget.horizon > 0 && budget.effort > 0 &&
         plan.share(-1, plan.rungs - 1) * budget.effort > budget.horizon * (1 + 1e-9)) {
    plan = uncapped_plan(stage, trials, plan.rungs - 1);
  }
  return plan;
}

class BracketSearch : public Strategy {
 public:
  explicit BracketSearch(const StrategyContext& context)
      : context_(context),
        draws_(context_),
        ledger_(context.stage.kind->name),
        plan_(plan_of(context.stage, context.budget)),
        space_(*context_.space, draws_.groups(), context_.start),
        sampling_(space_),
        prior_(context.stage.kind->name == "priorband"),
        asynchronous_(context.stage.kind->name == "asha" ||
                      context.stage.word("promote") == "async"),
        where_("state of strategy \"" + context.stage.kind->name + "\"") {
    add_next(true);
    draws_.check_any();
  }

  std::vector<Proposal> ask(std::int64_t count) override {
    // Not asynchronous: everything at once is asked for. What can go on now, else one bracket.
    const bool batch = !context_.stage.async;
    if (batch && pending() > 0) return {};
    std::vector<Proposal> proposals;
    const auto size = [&] { return std::ssize(ledger_.rows()); };
    const std::size_t only = batch ? open_bracket() : plan_.brackets.size();
    while (std::ssize(proposals) < count) {
      if (asked_ == size()) {
        const bool begin = !batch || (open_bracket() == only && proposals_begin(proposals));
        if (!add_next(begin)) break;
      }
      proposals.push_back(ledger_.ask(1).front());
      ++asked_;
    }
    return proposals;
  }

  void tell(const std::vector<Outcome>& outcomes) override {
    ledger_.tell(outcomes);
    told_ += std::ssize(outcomes);
    // Whether anything comes must be known when nothing else is waited for.
    if (pending() == 0 && asked_ == std::ssize(ledger_.rows()) && !ended_) ended_ = !add_next(true);
  }

  bool finished() const override { return closed_ || (ended_ && ledger_.complete()); }
  void close() override { closed_ = true; }
  std::int64_t planned_trials() const override {
    return finished() ? std::ssize(ledger_.rows()) : plan_.trials();
  }

  std::vector<std::int64_t> resting() const override {
    std::vector<std::int64_t> numbers;
    const auto best = best_row();
    const bool over = finished();
    for (const Ledger::Row& row : ledger_.rows()) {
      // What goes on from a training needs it until it has ended, also before it was asked for.
      if (row.proposal.continues >= 0 && !row.told && !over) {
        numbers.push_back(row.proposal.continues);
      }
      if (!row.done() || went_on(row.proposal.number)) continue;
      // At the end the winner's training goes on, and the plan's may, for comparison.
      const bool kept = row.proposal.number == best || row.proposal.label == "baseline";
      if (kept || (!over && may_go_on(row))) numbers.push_back(row.proposal.number);
    }
    return numbers;
  }

  Winner winner() const override {
    const auto best = best_row();
    if (!best) return {};
    const Ledger::Row& row = ledger_.row(*best);
    std::int64_t begun = 0;
    for (const Ledger::Row& each : ledger_.rows()) begun += each.proposal.continues < 0;
    return {true,
            row.proposal.genotype,
            row.outcome.score,
            concat_text("best of ",
                        begun,
                        " by own training, rung ",
                        row.proposal.rung + 1,
                        " of ",
                        plan_.rungs)};
  }

  std::string story() const override;
  std::string save() const override;
  void load(const std::string& state) override;

 private:
  std::int64_t pending() const { return asked_ - told_; }
  std::size_t place(std::int64_t number) const { return static_cast<std::size_t>(number); }

  /// In a batch new trainings begin only where none goes on.
  bool proposals_begin(const std::vector<Proposal>& proposals) const {
    return std::ranges::all_of(proposals, [](const Proposal& p) { return p.continues < 0; });
  }

  /// The first bracket in which trainings may begin; the number of brackets if there is none.
  std::size_t open_bracket() const {
    std::vector<std::int64_t> begun(plan_.brackets.size(), 0);
    for (const Ledger::Row& row : ledger_.rows()) {
      if (row.proposal.continues < 0) ++begun[bracket_[place(row.proposal.number)]];
    }
    for (std::size_t b = 0; b < begun.size(); ++b) {
      if (begun[b] < plan_.brackets[b].sizes[0]) return b;
    }
    return begun.size();
  }

  bool went_on(std::int64_t number) const { return went_on_[place(number)]; }

  /// What a rung of a bracket holds.
  struct Rung {
    std::vector<const Ledger::Row*> done;  // best first
    std::int64_t rows = 0, told = 0, promoted = 0;
  };
  Rung rung_of(std::size_t bracket, int rung) const {
    Rung result;
    for (const Ledger::Row& row : ledger_.rows()) {
      if (bracket_[place(row.proposal.number)] != bracket || row.proposal.rung != rung) continue;
      ++result.rows;
      result.told += row.told;
      result.promoted += went_on(row.proposal.number);
      if (row.done()) result.done.push_back(&row);
    }
    std::ranges::stable_sort(result.done, [](const Ledger::Row* a, const Ledger::Row* b) {
      return a->outcome.score > b->outcome.score;
    });
    return result;
  }

  /// Everything that will ever be at the rung is there and told.
  bool complete(std::size_t bracket, int rung) const {
    const Bracket& b = plan_.brackets[bracket];
    const Rung here = rung_of(bracket, rung);
    if (here.told < here.rows) return false;
    if (rung == b.first) return here.rows == b.sizes[0] || exhausted_;
    if (!complete(bracket, rung - 1)) return false;
    const auto size = b.sizes[static_cast<std::size_t>(rung - b.first)];
    return here.rows >= std::min(size, std::ssize(rung_of(bracket, rung - 1).done));
  }

  /// The training of a bracket that goes on from a rung next.
  const Ledger::Row* promotable(std::size_t bracket, int rung) const {
    const Bracket& b = plan_.brackets[bracket];
    const auto next = static_cast<std::size_t>(rung + 1 - b.first);
    if (next >= b.sizes.size()) return nullptr;
    const Rung here = rung_of(bracket, rung);
    if (here.promoted >= b.sizes[next]) return nullptr;
    std::int64_t allowed = asynchronous_ ? std::ssize(here.done) / plan_.eta : 0;
    if (complete(bracket, rung)) allowed = b.sizes[next];
    for (std::int64_t i = 0; i < std::min(allowed, std::ssize(here.done)); ++i) {
      const Ledger::Row* row = here.done[static_cast<std::size_t>(i)];
      if (!went_on(row->proposal.number)) return row;
    }
    return nullptr;
  }

  bool may_go_on(const Ledger::Row& row) const {
    const std::size_t bracket = bracket_[place(row.proposal.number)];
    const Bracket& b = plan_.brackets[bracket];
    const auto next = static_cast<std::size_t>(row.proposal.rung + 1 - b.first);
    return next < b.sizes.size() && rung_of(bracket, row.proposal.rung).promoted < b.sizes[next];
  }

  void propose(std::size_t bracket, int rung, const Genotype& genotype, std::int64_t continues) {
    Proposal p;
    p.genotype = genotype;
    p.rung = rung;
    p.share = plan_.share(continues >= 0 ? rung - 1 : -1, rung);
    p.continues = continues;
    if (genotype == context_.baseline) p.label = "baseline";
    ledger_.add(std::move(p));
    bracket_.push_back(bracket);
    went_on_.push_back(0);
    if (continues >= 0) went_on_[place(continues)] = 1;
  }

  /// The next proposal. \param begin whether a training may begin. False: there is none now.
  bool add_next(bool begin) {
    if (ended_) return false;
    for (std::size_t b = 0; b < plan_.brackets.size(); ++b) {
      const Bracket& bracket = plan_.brackets[b];
      for (int rung = bracket.first + static_cast<int>(bracket.sizes.size()) - 1;
           rung-- > bracket.first;) {
        if (const Ledger::Row* row = promotable(b, rung)) {
          const Proposal from = row->proposal;  // the ledger grows
          propose(b, rung + 1, from.genotype, from.number);
          return true;
        }
      }
    }
    const std::size_t open = open_bracket();
    if (!begin || open == plan_.brackets.size() || exhausted_) return false;
    const int rung = plan_.brackets[open].first;
    const auto genotype = next(rung);
    if (genotype) {
      propose(open, rung, *genotype, -1);
      return true;
    }
    // No more can begin: rungs may be complete now.
    exhausted_ = true;
    return add_next(false);
  }

  std::optional<Genotype> next(int rung) {
    const std::vector<Genotype> anchors = draws_.anchors();
    while (anchors_ < std::ssize(anchors)) {
      const Genotype& anchor = anchors[static_cast<std::size_t>(anchors_++)];
      if (draws_.take(anchor)) return anchor;
    }
    Rng rng = context_.rng.split("next", ledger_.size());
    if (prior_) {
      if (auto genotype = next_by_prior(rung, rng)) return genotype;
    }
    return draws_.sample(rng);
  }

  std::optional<Genotype> next_by_prior(int rung, Rng& rng);
  std::optional<std::int64_t> best_row() const;
  /// Everything done at the highest rung with at least so many results, best first.
  std::vector<const Ledger::Row*> highest(std::int64_t least) const;
  double spent_units() const;

  const StrategyContext context_;
  Draws draws_;  // looks at context_
  Ledger ledger_;
  const BracketPlan plan_;
  const UnitSpace space_;
  const PriorSampling sampling_;
  const bool prior_, asynchronous_;
  const std::string where_;
  std::vector<std::size_t> bracket_;  // of each row
  std::vector<char> went_on_;         // each row; follows from the ledger
  std::int64_t asked_ = 0, told_ = 0;
  std::int64_t anchors_ = 0;  // that were looked at
  bool ended_ = false, closed_ = false;
  bool exhausted_ = false;                                          // no new genotype is left
  std::int64_t uniform_ = 0, from_prior_ = 0, from_incumbent_ = 0;  // genotypes
};

std::vector<const Ledger::Row*> BracketSearch::highest(std::int64_t least) const {
  for (int rung = plan_.rungs - 1; rung >= 0; --rung) {
    std::vector<const Ledger::Row*> rows;
    for (const Ledger::Row& row : ledger_.rows()) {
      if (row.done() && row.proposal.rung == rung) rows.push_back(&row);
    }
    if (std::ssize(rows) < least) continue;
    std::ranges::stable_sort(rows, [](const Ledger::Row* a, const Ledger::Row* b) {
      return a->outcome.score > b->outcome.score;
    });
    return rows;
  }
  return {};
}

std::optional<std::int64_t> BracketSearch::best_row() const {
  const auto rows = highest(1);
  if (rows.empty()) return std::nullopt;
  return rows.front()->proposal.number;
}

double BracketSearch::spent_units() const {
  double sum = 0;
  for (const Ledger::Row& row : ledger_.rows()) {
    const Proposal& p = row.proposal;
    if (row.told) sum += plan_.units(p.continues >= 0 ? p.rung - 1 : -1, p.rung);
  }
  return sum;
}

std::optional<Genotype> BracketSearch::next_by_prior(int rung, Rng& rng) {
  const std::vector<double> center = space_.point(context_.start);
  const std::vector<const Ledger::Row*> rows = highest(plan_.eta);
  const auto best = best_row();
  const bool top = std::ranges::any_of(ledger_.rows(), [&](const Ledger::Row& row) {
    return row.done() && row.proposal.rung == plan_.rungs - 1;
  });
  std::size_t first = 0;  // bracket that is a whole one
  while (first + 1 < plan_.brackets.size() && plan_.brackets[first].first > 0) ++first;
  const bool ready =
      top && !rows.empty() && spent_units() >= plan_.bracket_units(plan_.brackets[first]);
  std::vector<std::vector<double>> points;
  for (const Ledger::Row* row : rows) points.push_back(space_.point(row->proposal.genotype));
  const std::vector<double> incumbent =
      best ? space_.point(ledger_.row(*best).proposal.genotype) : center;
  const PriorMix mix = prior_mix(sampling_, rung, plan_.eta, ready, center, incumbent, points);
  const double u = rng.uniform();
  if (u < mix.uniform) {
    auto genotype = draws_.sample(rng);
    uniform_ += genotype.has_value();
    return genotype;
  }
  const bool by_prior = u < mix.uniform + mix.prior;
  for (int attempt = 0; attempt < kPriorAttempts; ++attempt) {
    const Genotype genotype =
        space_.genotype(by_prior ? sampling_.draw(center, rng) : sampling_.mutate(incumbent, rng));
    if (!context_.space->invalid_reason(genotype).empty() || !draws_.take(genotype)) continue;
    ++(by_prior ? from_prior_ : from_incumbent_);
    return genotype;
  }
  return std::nullopt;
}

std::string BracketSearch::story() const {
  Json rungs = Json::array(), brackets = Json::array();
  for (int rung = 0; rung < plan_.rungs; ++rung) {
    std::vector<const Ledger::Row*> done;
    std::int64_t trials = 0, promoted = 0;
    for (const Ledger::Row& row : ledger_.rows()) {
      if (row.proposal.rung != rung) continue;
      ++trials;
      promoted += went_on(row.proposal.number);
      if (row.done()) done.push_back(&row);
    }
    if (trials == 0) continue;
    std::ranges::stable_sort(done, [](const Ledger::Row* a, const Ledger::Row* b) {
      return a->outcome.score > b->outcome.score;
    });
    Json scores = Json::array();
    for (const Ledger::Row* row : done) scores.push_back(row->outcome.score);
    rungs.push_back({{"trials", trials},
                     {"scores", scores},
                     {"steps", done.empty() ? 0 : done.front()->outcome.steps},
                     {"promoted", promoted}});
  }
  for (const Bracket& bracket : plan_.brackets) {
    brackets.push_back({{"first", bracket.first}, {"sizes", bracket.sizes}});
  }
  Json story = {{"eta", plan_.eta},
                {"rungs", rungs},
                {"brackets", brackets},
                {"draws", draws_.counts()},
                {"front", pareto_story(context_, ledger_)}};
  if (prior_) {
    story["drawn_from"] = {
        {"anywhere", uniform_}, {"plan", from_prior_}, {"best", from_incumbent_}};
  }
  return story.dump();
}

std::string BracketSearch::save() const {
  return Json{{"version", 1},
              {"ended", ended_},
              {"closed", closed_},
              {"exhausted", exhausted_},
              {"anchors", anchors_},
              {"drawn", {uniform_, from_prior_, from_incumbent_}},
              {"brackets", bracket_},
              {"draws", draws_.counts()},
              {"ledger", ledger_.save()}}
      .dump();
}

void BracketSearch::load(const std::string& state) {
  const Json value = parse_json(state, where_);
  const JsonReader reader(value, where_);
  reader.at("version").integer(1, 1);
  ended_ = reader.at("ended").boolean();
  closed_ = reader.at("closed").boolean();
  exhausted_ = reader.at("exhausted").boolean();
  anchors_ = reader.at("anchors").integer(0, 2);
  constexpr std::int64_t kMany = 1 << 30;
  uniform_ = reader.at("drawn").at(std::size_t{0}).integer(0, kMany);
  from_prior_ = reader.at("drawn").at(1).integer(0, kMany);
  from_incumbent_ = reader.at("drawn").at(2).integer(0, kMany);
  ledger_.load(reader.at("ledger"));
  const std::vector<Ledger::Row>& rows = ledger_.rows();
  const JsonReader brackets = reader.at("brackets");
  NAS_CHECK(brackets.size() == rows.size(),
            brackets.where(),
            ": expected ",
            rows.size(),
            " numbers, found ",
            brackets.size());
  bracket_.clear();
  went_on_.assign(rows.size(), 0);
  told_ = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Proposal& p = rows[i].proposal;
    bracket_.push_back(place(brackets.at(i).integer(0, std::ssize(plan_.brackets) - 1)));
    const Bracket& bracket = plan_.brackets[bracket_.back()];
    const bool begins = p.continues < 0;
    const auto most = bracket.first + static_cast<int>(bracket.sizes.size()) - 1;
    const std::string reason = context_.space->invalid_reason(p.genotype);
    NAS_CHECK(reason.empty(), where_, ": ledger: proposal ", i, ": ", reason);
    NAS_CHECK(begins ? p.rung == bracket.first : p.rung > bracket.first && p.rung <= most,
              where_,
              ": ledger: proposal ",
              i,
              ": rung ",
              p.rung,
              " is none of its bracket");
    if (!begins) went_on_[place(p.continues)] = 1;
    told_ += rows[i].told;
  }
  asked_ = reader.at("ledger").at("asked").integer();
  draws_.load(reader.at("draws"), ledger_);
}

// ---- what the engine knows of the kinds

constexpr int kMostRungs = 5;  // where the recipe does not say; 1 to 81 times the first training
constexpr std::int64_t kMostBegun = 1000;

/// Where the recipe leaves the number of trials open: as many rungs as leave the first one trainings
/// that say something, and as many trainings as one round of brackets has, or as many more as it
/// takes for the highest rung to be no longer than the winner's final training.
StageBudget bracket_budget(const BudgetQuestion& question) {
  const StageSpec& stage = question.stage;
  StageBudget budget = race_budget(question);
  const double effort = budget.effort > 0 ? budget.effort : static_cast<double>(budget.steps);
  budget.rungs = 0;
  if (stage.count("trials") == 0 && effort > 0) {
    // With a clock beginning and scoring cost time too.
    const std::int64_t most = question.has_clock ? 2 * budget.trials : kMostBegun;
    const std::int64_t eta = stage.count("eta");
    const auto asked = static_cast<int>(stage.count("rungs"));
    for (int rungs = asked > 0 ? asked : kMostRungs; rungs >= 1; --rungs) {
      budget.trials =
          stage.kind->name == "asha" ? halving_trials(rungs, eta) : hyperband_round(rungs, eta);
      while (budget.trials < most && budget.horizon > 0 &&
             uncapped_plan(stage, budget.trials, rungs).share(-1, rungs - 1) * effort >
                 budget.horizon) {
        ++budget.trials;
      }
      budget.rungs = rungs;
      const BracketPlan plan = uncapped_plan(stage, budget.trials, rungs);
      const bool says_something = plan.share(-1, 0) * effort >= kSmallestTraining;
      if (asked > 0 || (says_something && budget.trials <= most)) break;
    }
    budget.trials = std::clamp(budget.trials, std::min(kFewestTrials, most), most);
  }
  budget.rungs = plan_of(question.stage, budget).rungs;
  return budget;
}

std::vector<TrialForecast> bracket_forecast(const StageSpec& stage,
                                            const StageBudget& budget,
                                            const StepsOfShare& steps) {
  const BracketPlan plan = plan_of(stage, budget);
  std::vector<std::int64_t> begin(static_cast<std::size_t>(plan.rungs), 0);
  std::vector<std::int64_t> go_on = begin;
  for (const Bracket& bracket : plan.brackets) {
    for (std::size_t i = 0; i < bracket.sizes.size(); ++i) {
      (i == 0 ? begin : go_on)[static_cast<std::size_t>(bracket.first) + i] += bracket.sizes[i];
    }
  }
  std::vector<TrialForecast> trials;
  for (int rung = 0; rung < plan.rungs; ++rung) {
    const auto r = static_cast<std::size_t>(rung);
    if (begin[r] > 0) trials.push_back({"trainings", begin[r], steps(plan.share(-1, rung))});
    if (go_on[r] > 0) {
      trials.push_back({"continuations", go_on[r], steps(plan.share(rung - 1, rung))});
    }
  }
  return trials;
}

StrategyKind bracket_kind(const char* name, const char* words, std::vector<StageOption> options) {
  StrategyKind kind;
  kind.name = name;
  kind.words = words;
  kind.options = {trials_option(),
                  count_option("rungs", 0, 0, 16),  // 0: from the number of trials
                  count_option("eta", 3, 2, 16)};
  kind.options.insert(kind.options.end(), options.begin(), options.end());
  kind.continues = true;
  kind.async = true;
  kind.may_end_early = true;
  kind.counts_with_baseline = true;
  kind.budget = bracket_budget;
  kind.least_trainings = [](const StageSpec&, std::int64_t) { return 1.0; };
  kind.forecast = bracket_forecast;
  kind.make = [](const StrategyContext& context) -> std::unique_ptr<Strategy> {
    return std::make_unique<BracketSearch>(context);
  };
  return kind;
}

StageOption promote_option() { return word_option("promote", "rung", {"rung", "async"}); }

}  // namespace

const StrategyKind& asha_kind() {
  static const StrategyKind kind =
      bracket_kind("asha",
                   "asynchronous successive halving",
                   // Least part of the stage that a training at rung 0 gets.
                   {number_option("min_share", 0, {.low = 0, .high = 1})});
  return kind;
}

const StrategyKind& hyperband_kind() {
  static const StrategyKind kind = bracket_kind("hyperband", "Hyperband", {promote_option()});
  return kind;
}

const StrategyKind& priorband_kind() {
  static const StrategyKind kind =
      bracket_kind("priorband",
                   "PriorBand: Hyperband around the plan",
                   {promote_option(), word_option("first", "rung", {"rung", "top"})});
  return kind;
}

}  // namespace nas
