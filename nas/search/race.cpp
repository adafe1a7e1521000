// SPDX-License-Identifier: Apache-2.0
#include "nas/search/race.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "nas/core/error.h"
#include "nas/search/curve.h"
#include "nas/search/ledger_strategy.h"
#include "nas/search/pareto.h"
#include "nas/search/race_ladder.h"
#include "nas/search/statistics.h"

namespace nas {
namespace {

constexpr const char* kWhere = "state of strategy \"race\"";
constexpr const char* kPlan = "baseline";  // label of individual 0
// A wave takes the contestants that are best with this probability together.
constexpr double kPromoted = 0.9;
// Of what is left for the race, a wave may take this part (or what two contestants need).
constexpr double kWavePart = 0.5;
// A wave shows about this part of what knowing all curves to their ends would.
constexpr double kShown = 0.1;
// Of so many draws the one of which its cost lets expect most takes part.
constexpr std::ptrdiff_t kDrawsEach = 3;
// A contestant is looked at so often: the error that confidence leaves is divided among the looks.
constexpr double kLooks = 4;

struct Contestant {
  std::string name;
  Genotype genotype;
  double shift = 0;             // known beforehand
  double relative_cost = 1;     // effort of a step
  std::int64_t left_wave = -1;  // when it was dropped
  // What the last comparison says of its score at the horizon, if it took part.
  bool compared = false;
  double mean = 0, sd = 0, best = 0, within = 0;
};

/// One comparison: what it found.
struct Comparison {
  std::int64_t rows = 0;    // of the ledger, until then
  std::int64_t leader = 0;  // contestant
  double gain = 0, price = 0;
};

/// Where a contestant's training stands.
struct Standing {
  int level = -1;                            // last complete one
  std::int64_t number = -1;                  // proposal that reached it
  std::int64_t last = -1;                    // last proposal
  TrialStatus status = TrialStatus::Queued;  // of that
  bool failed() const {
    return last >= 0 && status != TrialStatus::Done && status != TrialStatus::Timeout &&
           status != TrialStatus::Queued;
  }
  bool cut() const { return last >= 0 && status == TrialStatus::Timeout; }
};

class Race : public LedgerStrategy {
 public:
  explicit Race(const StrategyContext& context)
      : LedgerStrategy(context, "race"),
        ladder_(race_ladder(context.budget)),
        goal_(context.stage.word("goal")),
        margin_(context.stage.number("margin")),
        confidence_(context.stage.number("confidence")) {
    choose_contestants();
    const std::vector<std::int64_t> waves = expected_waves(ladder_, std::ssize(contestants_));
    planned_ = std::accumulate(waves.begin(), waves.end(), std::int64_t{0});
    for (std::size_t i = 0; i < contestants_.size(); ++i) propose(i, 0, -1);
  }

  void close() override {
    if (finished_) return;
    compare();
    finished_ = true;
  }

  std::vector<std::int64_t> resting() const override;
  Winner winner() const override;
  std::string story() const override;
  std::string save() const override;
  void load(const std::string& state) override;

 private:
  void choose_contestants();
  void add_contestant(std::string name, const Genotype& genotype, double shift);
  double relative_cost(const Genotype& genotype) const;
  /// Of the score at the horizon, by what is known before any training.
  double expectation(const Genotype& genotype, double shift) const {
    return shift + expected_score(CurvePrior{}, relative_cost(genotype), ladder_.horizon);
  }
  /// What the goal wants little of; for "best" that of "smallest", which breaks ties.
  double price_of(const Genotype& genotype) const;

  void propose(std::size_t contestant, int level, std::int64_t continues) {
    Proposal p;
    p.genotype = contestants_[contestant].genotype;
    p.rung = level;
    p.share = ladder_.share(static_cast<std::size_t>(level));
    p.label = contestants_[contestant].name;
    p.continues = continues;
    spent_ += p.share;
    ledger_.add(std::move(p));
  }

  std::size_t contestant_of(const Genotype& genotype) const {
    for (std::size_t i = 0; i < contestants_.size(); ++i) {
      if (contestants_[i].genotype == genotype) return i;
    }
    return contestants_.size();
  }

  std::vector<Standing> standings() const;
  bool racing(std::size_t i, const Standing& s) const {
    return s.number >= 0 && !s.failed() && contestants_[i].left_wave < 0;
  }
  std::optional<std::size_t> choice() const;
  /// Continues all curves to the horizon, drops who is worse. False: nobody has a score.
  bool compare();
  /// How much each contestant's further training may matter for what is chosen.
  std::vector<double> weights(const std::vector<std::vector<double>>& draws,
                              const std::vector<std::size_t>& who,
                              const std::vector<double>& best) const;
  void go_on() override;
  std::string why(std::size_t i, const Standing& s) const;

  const RaceLadder ladder_;
  const std::string goal_;
  const double margin_, confidence_;
  std::vector<Contestant> contestants_;
  std::vector<Comparison> comparisons_;
  std::vector<double> weights_;  // of the last comparison; follows from the ledger
  double spent_ = 0;             // shares
};

double Race::relative_cost(const Genotype& genotype) const {
  if (!context_.cost) return 1;
  try {
    const TrialCost cost = context_.cost(genotype);
    if (cost.relative_cost > 0) return cost.relative_cost;
    const TrialCost plan = context_.cost(context_.baseline);
    if (cost.macs > 0 && plan.macs > 0) {
      return static_cast<double>(cost.macs) / static_cast<double>(plan.macs);
    }
  } catch (const Error&) {  // cannot be built: becomes a row that says so
  }
  return 1;
}

double Race::price_of(const Genotype& genotype) const {
  if (!context_.cost) return 0;
  try {
    const TrialCost cost = context_.cost(genotype);
    if (goal_ != "fastest") return static_cast<double>(cost.parameters);
    return cost.step_seconds > 0 ? cost.step_seconds : static_cast<double>(cost.macs);
  } catch (const Error&) {
    return INFINITY;
  }
}

void Race::add_contestant(std::string name, const Genotype& genotype, double shift) {
  Contestant c;
  c.name = std::move(name);
  c.genotype = genotype;
  c.shift = shift;
  c.relative_cost = relative_cost(genotype);
  contestants_.push_back(std::move(c));
}

void Race::choose_contestants() {
  const std::int64_t wanted = std::max<std::int64_t>(1, context_.budget.trials);
  std::vector<Starter> starters =
      context_.portfolio.empty() ? context_.space->portfolio() : context_.portfolio;
  // What the stages before found takes part too, so that this one cannot end below it.
  if (context_.start_found) starters.insert(starters.begin(), {"found before", context_.start});
  for (const Starter& starter : starters) {
    if (starter.genotype == context_.baseline) {
      if (draws_.take(context_.baseline)) add_contestant(kPlan, context_.baseline, starter.shift);
      break;
    }
  }
  if (contestants_.empty() && draws_.take(context_.baseline)) {
    add_contestant(kPlan, context_.baseline, 0);
  }
  std::erase_if(starters, [](const Starter& s) { return !s.missing.empty(); });
  std::ranges::stable_sort(starters, [&](const Starter& a, const Starter& b) {
    return expectation(a.genotype, a.shift) > expectation(b.genotype, b.shift);
  });
  for (const Starter& starter : starters) {
    if (std::ssize(contestants_) == wanted) break;
    if (starter.genotype == context_.baseline) continue;
    if (!draws_.reachable(starter.genotype, context_.start)) continue;
    if (draws_.take(starter.genotype)) {
      add_contestant(starter.name, starter.genotype, starter.shift);
    }
  }
  // Of equal expectation are the first drawn.
  Rng rng = context_.rng.split("sample");
  std::vector<std::pair<double, Genotype>> drawn;
  bool more = true;
  while (std::ssize(contestants_) < wanted) {
    while (more && std::ssize(drawn) < kDrawsEach) {
      const auto next = draws_.sample(rng);
      more = next.has_value();
      if (more) drawn.emplace_back(expectation(*next, 0), *next);
    }
    if (drawn.empty()) break;
    const auto best = std::ranges::max_element(drawn, {}, &std::pair<double, Genotype>::first);
    add_contestant("", best->second, 0);
    drawn.erase(best);
  }
  draws_.check_any();
}

std::vector<Standing> Race::standings() const {
  std::map<Genotype, std::size_t> places;
  for (std::size_t i = 0; i < contestants_.size(); ++i) places[contestants_[i].genotype] = i;
  std::vector<Standing> result(contestants_.size());
  for (const Ledger::Row& row : ledger_.rows()) {
    Standing& s = result[places.at(row.proposal.genotype)];
    s.last = row.proposal.number;
    s.status = row.told ? row.outcome.status : TrialStatus::Queued;
    if (!row.done()) continue;
    s.level = row.proposal.rung;
    s.number = row.proposal.number;
  }
  return result;
}

std::vector<double> Race::weights(const std::vector<std::vector<double>>& draws,
                                  const std::vector<std::size_t>& who,
                                  const std::vector<double>& best) const {
  if (goal_ == "best") return best;
  // Half for knowing the best, half for being the cheapest that is good enough.
  std::vector<double> prices;
  for (const std::size_t i : who) prices.push_back(price_of(contestants_[i].genotype));
  std::vector<double> result(who.size());
  for (std::size_t k = 0; k < who.size(); ++k) result[k] = 0.5 * best[k];
  for (const std::vector<double>& scores : draws) {
    const double enough = std::ranges::max(scores) - margin_;
    std::size_t cheapest = who.size();
    for (std::size_t k = 0; k < who.size(); ++k) {
      if (scores[k] >= enough && (cheapest == who.size() || prices[k] < prices[cheapest])) {
        cheapest = k;
      }
    }
    result[cheapest] += 0.5 / static_cast<double>(draws.size());
  }
  return result;
}

bool Race::compare() {
  const std::vector<Standing> standing = standings();
  std::vector<std::size_t> who;
  std::vector<LearningCurve> curves;
  for (std::size_t i = 0; i < contestants_.size(); ++i) {
    contestants_[i].compared = false;
    if (standing[i].number < 0 || standing[i].failed()) continue;
    who.push_back(i);
    LearningCurve curve;
    curve.relative_cost = contestants_[i].relative_cost;
    curve.shift = contestants_[i].shift;
    curves.push_back(std::move(curve));
  }
  if (who.empty()) return false;
  for (const Ledger::Row& row : ledger_.rows()) {
    if (!row.done()) continue;
    const std::size_t i = contestant_of(row.proposal.genotype);
    const auto place = std::ranges::find(who, i);
    if (place == who.end()) continue;
    const double planned = ladder_.levels[static_cast<std::size_t>(row.proposal.rung)];
    const double effort = row.outcome.effort > 0 ? row.outcome.effort : planned;
    curves[static_cast<std::size_t>(place - who.begin())].points.push_back(
        {effort, row.outcome.score, row.outcome.cases});
  }
  const Extrapolation ahead = extrapolate(
      curves, ladder_.horizon, margin_, CurvePrior{}, context_.rng.split("curves", ledger_.size()));
  const std::vector<double> weights = this->weights(ahead.draws, who, ahead.best);
  weights_.assign(contestants_.size(), 0);
  const auto wave = std::ssize(comparisons_);
  for (std::size_t k = 0; k < who.size(); ++k) {
    Contestant& c = contestants_[who[k]];
    c.compared = true;
    c.mean = ahead.mean[k];
    c.sd = ahead.sd[k];
    c.best = ahead.best[k];
    c.within = ahead.within[k];
    weights_[who[k]] = c.left_wave < 0 ? weights[k] : 0;
  }
  Comparison comparison;
  comparison.rows = static_cast<std::int64_t>(ledger_.size());
  comparison.gain = ahead.gain;
  const std::size_t leader = choice().value_or(who.front());
  comparison.leader = static_cast<std::int64_t>(leader);
  // What the same effort would bring the leader's final training, for each unit.
  comparison.price =
      ahead.slope[static_cast<std::size_t>(std::ranges::find(who, leader) - who.begin())] /
      ladder_.horizon;
  for (const std::size_t i : who) {
    Contestant& c = contestants_[i];
    if (c.left_wave < 0 && i != leader && c.within < (1 - confidence_) / kLooks) {
      c.left_wave = wave;
      weights_[i] = 0;
    }
  }
  comparisons_.push_back(comparison);
  return true;
}

/// Of those that still race: what would be chosen now.
std::optional<std::size_t> Race::choice() const {
  const std::vector<Standing> standing = standings();
  std::optional<std::size_t> best, cheapest;
  for (std::size_t i = 0; i < contestants_.size(); ++i) {
    const Contestant& c = contestants_[i];
    if (!c.compared || !racing(i, standing[i])) continue;
    if (!best || c.mean > contestants_[*best].mean) best = i;
    if (c.within < confidence_) continue;
    if (!cheapest || price_of(c.genotype) < price_of(contestants_[*cheapest].genotype)) {
      cheapest = i;
    }
  }
  return goal_ != "best" && cheapest ? cheapest : best;
}

/// Who may yet be chosen goes on by a level, those that are behind first.
void Race::go_on() {
  finished_ = true;
  if (!compare()) return;
  const std::vector<Standing> standing = standings();
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < contestants_.size(); ++i) {
    if (racing(i, standing[i])) order.push_back(i);
  }
  if (order.size() < 2) return;
  std::ranges::stable_sort(order,
                           [&](std::size_t a, std::size_t b) { return weights_[a] > weights_[b]; });
  std::vector<std::size_t> wanted;
  double sum = 0;
  for (const std::size_t i : order) {
    if (wanted.size() >= 2 && sum >= kPromoted) break;
    sum += weights_[i];
    wanted.push_back(i);
  }
  // Who cannot go on says no more than it has.
  std::erase_if(wanted, [&](std::size_t i) {
    return standing[i].cut() || standing[i].level + 1 >= std::ssize(ladder_.levels);
  });
  if (wanted.empty()) return;
  int lowest = static_cast<int>(ladder_.levels.size());
  for (const std::size_t i : wanted) lowest = std::min(lowest, standing[i].level);
  std::erase_if(wanted, [&](std::size_t i) { return standing[i].level > lowest; });
  const double share = ladder_.share(static_cast<std::size_t>(lowest) + 1);
  const double left = 1 - spent_ + 1e-9;
  const auto affordable =
      static_cast<std::size_t>(std::max(kWavePart * left, std::min(left, 2 * share)) / share);
  if (wanted.size() > affordable) wanted.resize(affordable);
  // The leader's own training is not lost: it is the beginning of the final one.
  const Comparison& now = comparisons_.back();
  const auto leader = static_cast<std::size_t>(now.leader);
  const auto paid = std::ranges::count_if(wanted, [&](std::size_t i) { return i != leader; });
  if (wanted.empty()) return;
  const double price = static_cast<double>(paid) * share * ladder_.effort * now.price;
  if (goal_ == "best" && kShown * now.gain < price) return;
  for (const std::size_t i : wanted) propose(i, lowest + 1, standing[i].number);
  planned_ = std::max(planned_, static_cast<std::int64_t>(ledger_.size()));
  finished_ = false;
}

std::vector<std::int64_t> Race::resting() const {
  const std::vector<Standing> standing = standings();
  const auto chosen = finished_ ? choice() : std::nullopt;
  std::vector<std::int64_t> numbers;
  for (std::size_t i = 0; i < contestants_.size(); ++i) {
    // At the end the winner's training goes on, and the plan's may, for comparison.
    const bool wanted = !finished_ || chosen == i || contestants_[i].name == kPlan;
    if (wanted && racing(i, standing[i])) numbers.push_back(standing[i].number);
  }
  return numbers;
}

std::string percent(double probability) {
  return concat_text(std::llround(100 * probability), " %");
}

std::string rounded(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4f", value);
  return text;
}

Winner Race::winner() const {
  const auto chosen = choice();
  if (!chosen) return {};
  const Contestant& c = contestants_[*chosen];
  const std::vector<Standing> standing = standings();
  std::int64_t dropped = 0, rest = 0;
  double effort = 0;
  for (std::size_t i = 0; i < contestants_.size(); ++i) {
    dropped += contestants_[i].left_wave >= 0;
    rest += racing(i, standing[i]);
  }
  const Ledger::Row& row = ledger_.row(standing[*chosen].number);
  effort = row.outcome.effort > 0 ? row.outcome.effort
                                  : ladder_.levels[static_cast<std::size_t>(row.proposal.rung)];
  Winner winner{true, c.genotype, row.outcome.score, ""};
  const char* as = goal_ == "best"          ? "best expected score"
                   : c.within < confidence_ ? "best expected score (no cheaper one is good enough)"
                   : goal_ == "smallest"    ? "smallest that is good enough"
                                            : "fastest that is good enough";
  winner.how = concat_text(as,
                           " of ",
                           contestants_.size(),
                           " contestants: after ",
                           std::llround(effort),
                           " of ",
                           std::llround(ladder_.horizon),
                           " steps' effort its curve leads to ",
                           rounded(c.mean),
                           " +/- ",
                           rounded(c.sd),
                           "; best of all with ",
                           percent(c.best),
                           ", at most ",
                           margin_,
                           " below the best with ",
                           percent(c.within),
                           "; ",
                           dropped,
                           " dropped, ",
                           rest - 1,
                           " not told apart");
  return winner;
}

std::string Race::why(std::size_t i, const Standing& s) const {
  const Contestant& c = contestants_[i];
  if (s.failed()) return "failed: " + to_text(s.status);
  if (s.number < 0) return s.cut() ? "cut short by the clock" : "not trained";
  if (c.left_wave >= 0) {
    return concat_text(
        "dropped: worse than the best by more than ", margin_, " with ", percent(1 - c.within));
  }
  if (choice() == i) return "chosen";
  return concat_text("rests: at most ", margin_, " below the best with ", percent(c.within));
}

std::string Race::story() const {
  const std::vector<Standing> standing = standings();
  Json contestants = Json::array(), comparisons = Json::array();
  for (std::size_t i = 0; i < contestants_.size(); ++i) {
    const Contestant& c = contestants_[i];
    Json curve = Json::array();
    for (const Ledger::Row& row : ledger_.rows()) {
      if (!row.done() || row.proposal.genotype != c.genotype) continue;
      std::vector<double> cases = row.outcome.cases;
      std::erase_if(cases, [](double v) { return !std::isfinite(v); });
      Json point = {
          {"trial", row.outcome.trial},
          {"level", row.proposal.rung},
          {"effort",
           row.outcome.effort > 0 ? row.outcome.effort
                                  : ladder_.levels[static_cast<std::size_t>(row.proposal.rung)]},
          {"score", row.outcome.score},
          {"cases", cases.size()}};
      if (!cases.empty()) point["cases_sd"] = standard_deviation(cases);
      curve.push_back(std::move(point));
    }
    Json item = {{"name", c.name},
                 {"genotype", context_.space->to_text(c.genotype)},
                 {"relative_cost", c.relative_cost},
                 {"curve", std::move(curve)},
                 {"why", why(i, standing[i])},
                 {"racing", racing(i, standing[i])}};
    if (c.left_wave >= 0) item["dropped_after"] = c.left_wave;
    if (c.compared) {
      item["expected"] = {
          {"mean", c.mean}, {"sd", c.sd}, {"best", c.best}, {"within_margin", c.within}};
    }
    contestants.push_back(std::move(item));
  }
  for (const Comparison& c : comparisons_) {
    comparisons.push_back(
        {{"trials", c.rows}, {"leader", c.leader}, {"gain", c.gain}, {"price", c.price}});
  }
  return Json{{"goal", goal_},
              {"margin", margin_},
              {"confidence", confidence_},
              {"effort", ladder_.effort},
              {"spent", spent_ * ladder_.effort},
              {"horizon", ladder_.horizon},
              {"levels", ladder_.levels},
              {"contestants", std::move(contestants)},
              {"comparisons", std::move(comparisons)},
              {"draws", draws_.counts()},
              {"front", pareto_story(context_, ledger_)}}
      .dump();
}

std::string Race::save() const {
  Json contestants = Json::array(), comparisons = Json::array();
  for (const Contestant& c : contestants_) {
    contestants.push_back({{"name", c.name},
                           {"genotype", c.genotype.values},
                           {"shift", c.shift},
                           {"relative_cost", c.relative_cost},
                           {"left", c.left_wave},
                           {"compared", c.compared},
                           {"mean", c.mean},
                           {"sd", c.sd},
                           {"best", c.best},
                           {"within", c.within}});
  }
  for (const Comparison& c : comparisons_) {
    comparisons.push_back(
        {{"rows", c.rows}, {"leader", c.leader}, {"gain", c.gain}, {"price", c.price}});
  }
  return Json{{"version", 1},
              {"finished", finished_},
              {"planned", planned_},
              {"spent", spent_},
              {"contestants", std::move(contestants)},
              {"comparisons", std::move(comparisons)},
              {"draws", draws_.counts()},
              {"ledger", ledger_.save()}}
      .dump();
}

void Race::load(const std::string& state) {
  const Json value = parse_json(state, kWhere);
  const JsonReader reader(value, kWhere);
  constexpr std::int64_t kMany = 1 << 20;
  reader.at("version").integer(1, 1);
  finished_ = reader.at("finished").boolean();
  planned_ = reader.at("planned").integer(1, kMany);
  spent_ = reader.at("spent").number();
  ledger_.load(reader.at("ledger"));
  contestants_.clear();
  comparisons_.clear();
  const JsonReader contestants = reader.at("contestants");
  for (std::size_t i = 0; i < contestants.size(); ++i) {
    const JsonReader item = contestants.at(i);
    Contestant c;
    c.name = item.at("name").text();
    for (std::size_t g = 0; g < item.at("genotype").size(); ++g) {
      c.genotype.values.push_back(static_cast<int>(item.at("genotype").at(g).integer(0, kMany)));
    }
    c.shift = item.at("shift").number();
    c.relative_cost =
        number_in(item.at("relative_cost"), {.low = 0, .high = 1e9, .low_open = true});
    c.left_wave = item.at("left").integer(-1, kMany);
    c.compared = item.at("compared").boolean();
    c.mean = item.at("mean").number();
    c.sd = item.at("sd").number();
    c.best = item.at("best").number();
    c.within = item.at("within").number();
    contestants_.push_back(std::move(c));
  }
  const auto most = std::ssize(contestants_);
  NAS_CHECK(most > 0, kWhere, ": contestants: expected at least one");
  const JsonReader comparisons = reader.at("comparisons");
  for (std::size_t i = 0; i < comparisons.size(); ++i) {
    const JsonReader item = comparisons.at(i);
    comparisons_.push_back({item.at("rows").integer(0, kMany),
                            item.at("leader").integer(0, most - 1),
                            item.at("gain").number(),
                            item.at("price").number()});
  }
  for (const Ledger::Row& row : ledger_.rows()) {
    NAS_CHECK(std::cmp_less(contestant_of(row.proposal.genotype), most),
              kWhere,
              ": ledger: proposal ",
              row.proposal.number,
              " is of no contestant");
    NAS_CHECK(row.proposal.rung < std::ssize(ladder_.levels),
              kWhere,
              ": ledger: proposal ",
              row.proposal.number,
              ": expected a level below ",
              ladder_.levels.size());
  }
  draws_.load(reader.at("draws"), ledger_);
}

}  // namespace

const StrategyKind& race_kind() {
  static const StrategyKind kind{
      .name = "race",
      .words = "race of trainings that are continued, by where their curves lead",
      .options = {trials_option(),
                  word_option("goal", "best", {"best", "smallest", "fastest"}),
                  number_option("margin", 0.005, {.low = 0, .high = 1}),
                  number_option("confidence", 0.9, {.low = 0.5, .high = 1, .high_open = true})},
      .continues = true,
      .may_end_early = true,
      .counts_with_baseline = true,
      .measures_step_time = [](const StageSpec& stage) { return stage.word("goal") == "fastest"; },
      .budget = race_budget,
      .least_trainings = [](const StageSpec&, std::int64_t) { return 1.0; },
      .forecast = race_forecast,
      .make = [](const StrategyContext& context) -> std::unique_ptr<Strategy> {
        return std::make_unique<Race>(context);
      }};
  return kind;
}

}  // namespace nas
