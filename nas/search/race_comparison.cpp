// SPDX-License-Identifier: Apache-2.0
#include "nas/search/race_comparison.h"

#include <algorithm>
#include <utility>

#include "nas/search/curve.h"

namespace nas {
namespace {

// A contestant is looked at so often: the error that confidence leaves is divided among the looks.
constexpr double kLooks = 4;

/// How much each contestant's further training may matter for what is chosen.
std::vector<double> weights_of(const RaceBoard& board,
                               const std::function<double(const Genotype&)>& price,
                               const std::vector<std::vector<double>>& draws,
                               const std::vector<std::size_t>& who,
                               const std::vector<double>& best) {
  if (board.goal == "best") return best;
  // Half for knowing the best, half for being the cheapest that is good enough.
  std::vector<double> prices;
  for (const std::size_t i : who) prices.push_back(price(board.contestants[i].genotype));
  std::vector<double> result(who.size());
  for (std::size_t k = 0; k < who.size(); ++k) result[k] = 0.5 * best[k];
  for (const std::vector<double>& scores : draws) {
    const double enough = std::ranges::max(scores) - board.margin;
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

}  // namespace

std::optional<std::vector<double>> compare_contestants(
    RaceBoard& board,
    const Ledger& ledger,
    const std::function<double(const Genotype&)>& price,
    const Rng& rng) {
  const std::vector<Standing> standing = board.standings(ledger);
  std::vector<std::size_t> who;
  std::vector<LearningCurve> curves;
  for (std::size_t i = 0; i < board.contestants.size(); ++i) {
    board.contestants[i].compared = false;
    if (standing[i].number < 0 || standing[i].failed()) continue;
    who.push_back(i);
    LearningCurve curve;
    curve.relative_cost = board.contestants[i].relative_cost;
    curve.shift = board.contestants[i].shift;
    curves.push_back(std::move(curve));
  }
  if (who.empty()) return std::nullopt;
  for (const Ledger::Row& row : ledger.rows()) {
    if (!row.done()) continue;
    const std::size_t i = board.contestant_of(row.proposal.genotype);
    const auto place = std::ranges::find(who, i);
    if (place == who.end()) continue;
    curves[static_cast<std::size_t>(place - who.begin())].points.push_back(
        {board.effort_of(row), row.outcome.score, row.outcome.cases});
  }
  const Extrapolation ahead =
      extrapolate(curves, board.ladder.horizon, board.margin, CurvePrior{}, rng);
  const std::vector<double> weights = weights_of(board, price, ahead.draws, who, ahead.best);
  std::vector<double> result(board.contestants.size(), 0.0);
  const auto wave = std::ssize(board.comparisons);
  for (std::size_t k = 0; k < who.size(); ++k) {
    Contestant& c = board.contestants[who[k]];
    c.compared = true;
    c.mean = ahead.mean[k];
    c.sd = ahead.sd[k];
    c.best = ahead.best[k];
    c.within = ahead.within[k];
    result[who[k]] = c.left_wave < 0 ? weights[k] : 0;
  }
  Comparison comparison;
  comparison.rows = static_cast<std::int64_t>(ledger.size());
  comparison.gain = ahead.gain;
  const std::size_t leader = board.choice(ledger, price).value_or(who.front());
  comparison.leader = static_cast<std::int64_t>(leader);
  // What the same effort would bring the leader's final training, for each unit.
  comparison.price =
      ahead.slope[static_cast<std::size_t>(std::ranges::find(who, leader) - who.begin())] /
      board.ladder.horizon;
  for (const std::size_t i : who) {
    Contestant& c = board.contestants[i];
    if (c.left_wave < 0 && i != leader && c.within < (1 - board.confidence) / kLooks) {
      c.left_wave = wave;
      result[i] = 0;
    }
  }
  board.comparisons.push_back(comparison);
  return result;
}

}  // namespace nas
