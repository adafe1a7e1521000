// SPDX-License-Identifier: Apache-2.0
#include "nas/search/race.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "nas/core/error.h"
#include "nas/search/curve.h"
#include "nas/search/ledger_strategy.h"
#include "nas/search/pareto.h"
#include "nas/search/race_board.h"
#include "nas/search/race_comparison.h"
#include "nas/search/race_ladder.h"
#include "nas/search/race_story.h"

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

class Race : public LedgerStrategy {
 public:
  explicit Race(const StrategyContext& context)
      : LedgerStrategy(context, "race"),
        board_{.ladder = race_ladder(context.budget),
               .goal = context.stage.word("goal"),
               .margin = context.stage.number("margin"),
               .confidence = context.stage.number("confidence"),
               .contestants = {},
               .comparisons = {}} {
    choose_contestants();
    const std::vector<std::int64_t> waves =
        expected_waves(board_.ladder, std::ssize(board_.contestants));
    planned_ = std::accumulate(waves.begin(), waves.end(), std::int64_t{0});
    for (std::size_t i = 0; i < board_.contestants.size(); ++i) propose(i, 0, -1);
  }

  void close() override {
    if (finished_) return;
    compare();
    finished_ = true;
  }

  std::vector<std::int64_t> resting() const override;
  Winner winner() const override { return race_winner(board_, ledger_, price_); }
  std::string story() const override;
  std::string save() const override;
  void load(const std::string& state) override;

 private:
  void choose_contestants();
  void add_contestant(std::string name, const Genotype& genotype, double shift);
  double relative_cost(const Genotype& genotype) const;
  /// Of the score at the horizon, by what is known before any training.
  double expectation(const Genotype& genotype, double shift) const {
    return shift + expected_score(CurvePrior{}, relative_cost(genotype), board_.ladder.horizon);
  }
  /// What the goal wants little of; for "best" that of "smallest", which breaks ties.
  double price_of(const Genotype& genotype) const;

  void propose(std::size_t contestant, int level, std::int64_t continues) {
    Proposal p;
    p.genotype = board_.contestants[contestant].genotype;
    p.rung = level;
    p.share = board_.ladder.share(static_cast<std::size_t>(level));
    p.label = board_.contestants[contestant].name;
    p.continues = continues;
    board_.spent += p.share;
    ledger_.add(std::move(p));
  }

  /// False: nobody has a score.
  bool compare() {
    const auto weights =
        compare_contestants(board_, ledger_, price_, context_.rng.split("curves", ledger_.size()));
    if (weights) weights_ = *weights;
    return weights.has_value();
  }
  void go_on() override;

  RaceBoard board_;
  const std::function<double(const Genotype&)> price_ = [this](const Genotype& genotype) {
    return price_of(genotype);
  };
  std::vector<double> weights_;  // of the last comparison; follows from the ledger
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
    if (board_.goal != "fastest") return static_cast<double>(cost.parameters);
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
  board_.contestants.push_back(std::move(c));
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
  if (board_.contestants.empty() && draws_.take(context_.baseline)) {
    add_contestant(kPlan, context_.baseline, 0);
  }
  std::erase_if(starters, [](const Starter& s) { return !s.missing.empty(); });
  std::ranges::stable_sort(starters, [&](const Starter& a, const Starter& b) {
    return expectation(a.genotype, a.shift) > expectation(b.genotype, b.shift);
  });
  for (const Starter& starter : starters) {
    if (std::ssize(board_.contestants) == wanted) break;
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
  while (std::ssize(board_.contestants) < wanted) {
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

/// Who may yet be chosen goes on by a level, those that are behind first.
void Race::go_on() {
  finished_ = true;
  if (!compare()) return;
  const std::vector<Standing> standing = board_.standings(ledger_);
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < board_.contestants.size(); ++i) {
    if (board_.racing(i, standing[i])) order.push_back(i);
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
    return standing[i].cut() || standing[i].level + 1 >= std::ssize(board_.ladder.levels);
  });
  if (wanted.empty()) return;
  int lowest = static_cast<int>(board_.ladder.levels.size());
  for (const std::size_t i : wanted) lowest = std::min(lowest, standing[i].level);
  std::erase_if(wanted, [&](std::size_t i) { return standing[i].level > lowest; });
  const double share = board_.ladder.share(static_cast<std::size_t>(lowest) + 1);
  const double left = 1 - board_.spent + 1e-9;
  const auto affordable =
      static_cast<std::size_t>(std::max(kWavePart * left, std::min(left, 2 * share)) / share);
  if (wanted.size() > affordable) wanted.resize(affordable);
  // The leader's own training is not lost: it is the beginning of the final one.
  const Comparison& now = board_.comparisons.back();
  const auto leader = static_cast<std::size_t>(now.leader);
  const auto paid = std::ranges::count_if(wanted, [&](std::size_t i) { return i != leader; });
  if (wanted.empty()) return;
  const double price = static_cast<double>(paid) * share * board_.ladder.effort * now.price;
  if (board_.goal == "best" && kShown * now.gain < price) return;
  for (const std::size_t i : wanted) propose(i, lowest + 1, standing[i].number);
  planned_ = std::max(planned_, static_cast<std::int64_t>(ledger_.size()));
  finished_ = false;
}

std::vector<std::int64_t> Race::resting() const {
  const std::vector<Standing> standing = board_.standings(ledger_);
  const auto chosen = finished_ ? board_.choice(ledger_, price_) : std::nullopt;
  std::vector<std::int64_t> numbers;
  for (std::size_t i = 0; i < board_.contestants.size(); ++i) {
    // At the end the winner's training goes on, and the plan's may, for comparison.
    const bool wanted = !finished_ || chosen == i || board_.contestants[i].name == kPlan;
    if (wanted && board_.racing(i, standing[i])) numbers.push_back(standing[i].number);
  }
  return numbers;
}

std::string Race::story() const {
  Json story = race_story(board_, ledger_, *context_.space, price_);
  story["draws"] = draws_.counts();
  story["front"] = pareto_story(context_, ledger_);
  return story.dump();
}

std::string Race::save() const {
  Json state{{"version", 1},
             {"finished", finished_},
             {"planned", planned_},
             {"draws", draws_.counts()},
             {"ledger", ledger_.save()}};
  board_.save_into(state);
  return state.dump();
}

void Race::load(const std::string& state) {
  const Json value = parse_json(state, kWhere);
  const JsonReader reader(value, kWhere);
  reader.at("version").integer(1, 1);
  finished_ = reader.at("finished").boolean();
  planned_ = reader.at("planned").integer(1, 1 << 20);
  ledger_.load(reader.at("ledger"));
  board_.load_from(reader);
  board_.check(ledger_, kWhere);
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
      .compares_cases = [](const StageSpec&) { return true; },
      .budget = race_budget,
      .least_trainings = [](const StageSpec&, std::int64_t) { return 1.0; },
      .forecast = race_forecast,
      .make = [](const StrategyContext& context) -> std::unique_ptr<Strategy> {
        return std::make_unique<Race>(context);
      }};
  return kind;
}

}  // namespace nas
