// SPDX-License-Identifier: Apache-2.0
#include "nas/search/race_story.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "nas/core/error.h"
#include "nas/search/statistics.h"

namespace nas {
namespace {

std::string percent(double probability) {
  return concat_text(std::llround(100 * probability), " %");
}

std::string rounded(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.4f", value);
  return text;
}

std::string why(const RaceBoard& board, std::size_t i, const Standing& s, bool chosen) {
  const Contestant& c = board.contestants[i];
  if (s.failed()) return "failed: " + to_text(s.status);
  if (s.number < 0) return s.cut() ? "cut short by the clock" : "not trained";
  if (c.left_wave >= 0) {
    return concat_text("dropped: worse than the best by more than ",
                       board.margin,
                       " with ",
                       percent(1 - c.within));
  }
  if (chosen) return "chosen";
  return concat_text("rests: at most ", board.margin, " below the best with ", percent(c.within));
}

}  // namespace

Winner race_winner(const RaceBoard& board,
                   const Ledger& ledger,
                   const std::function<double(const Genotype&)>& price) {
  const auto chosen = board.choice(ledger, price);
  if (!chosen) return {};
  const Contestant& c = board.contestants[*chosen];
  const std::vector<Standing> standing = board.standings(ledger);
  std::int64_t dropped = 0, rest = 0;
  for (std::size_t i = 0; i < board.contestants.size(); ++i) {
    dropped += board.contestants[i].left_wave >= 0;
    rest += board.racing(i, standing[i]);
  }
  const Ledger::Row& row = ledger.row(standing[*chosen].number);
  const double effort = board.effort_of(row);
  Winner winner{true, c.genotype, row.outcome.score, ""};
  const char* as = board.goal == "best" ? "best expected score"
                   : c.within < board.confidence
                       ? "best expected score (no cheaper one is good enough)"
                   : board.goal == "smallest" ? "smallest that is good enough"
                                              : "fastest that is good enough";
  winner.how = concat_text(as,
                           " of ",
                           board.contestants.size(),
                           " contestants: after ",
                           std::llround(effort),
                           " of ",
                           std::llround(board.ladder.horizon),
                           " steps' effort its curve leads to ",
                           rounded(c.mean),
                           " +/- ",
                           rounded(c.sd),
                           "; best of all with ",
                           percent(c.best),
                           ", at most ",
                           board.margin,
                           " below the best with ",
                           percent(c.within),
                           "; ",
                           dropped,
                           " dropped, ",
                           rest - 1,
                           " not told apart");
  return winner;
}

Json race_story(const RaceBoard& board,
                const Ledger& ledger,
                const SearchSpace& space,
                const std::function<double(const Genotype&)>& price) {
  const std::vector<Standing> standing = board.standings(ledger);
  const auto chosen = board.choice(ledger, price);
  Json contestants = Json::array(), comparisons = Json::array();
  for (std::size_t i = 0; i < board.contestants.size(); ++i) {
    const Contestant& c = board.contestants[i];
    Json curve = Json::array();
    for (const Ledger::Row& row : ledger.rows()) {
      if (!row.done() || row.proposal.genotype != c.genotype) continue;
      std::vector<double> cases = row.outcome.cases;
      std::erase_if(cases, [](double v) { return !std::isfinite(v); });
      Json point = {{"trial", row.outcome.trial},
                    {"level", row.proposal.rung},
                    {"effort", board.effort_of(row)},
                    {"score", row.outcome.score},
                    {"cases", cases.size()}};
      if (!cases.empty()) point["cases_sd"] = standard_deviation(cases);
      curve.push_back(std::move(point));
    }
    Json item = {{"name", c.name},
                 {"genotype", space.to_text(c.genotype)},
                 {"relative_cost", c.relative_cost},
                 {"curve", std::move(curve)},
                 {"why", why(board, i, standing[i], chosen == i)},
                 {"racing", board.racing(i, standing[i])}};
    if (c.left_wave >= 0) item["dropped_after"] = c.left_wave;
    if (c.compared) {
      item["expected"] = {
          {"mean", c.mean}, {"sd", c.sd}, {"best", c.best}, {"within_margin", c.within}};
    }
    contestants.push_back(std::move(item));
  }
  for (const Comparison& c : board.comparisons) {
    comparisons.push_back(
        {{"trials", c.rows}, {"leader", c.leader}, {"gain", c.gain}, {"price", c.price}});
  }
  return Json{{"goal", board.goal},
              {"margin", board.margin},
              {"confidence", board.confidence},
              {"effort", board.ladder.effort},
              {"spent", board.spent * board.ladder.effort},
              {"horizon", board.ladder.horizon},
              {"levels", board.ladder.levels},
              {"contestants", std::move(contestants)},
              {"comparisons", std::move(comparisons)}};
}

}  // namespace nas
