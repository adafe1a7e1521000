// SPDX-License-Identifier: Apache-2.0
#include "nas/search/race_board.h"

#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "nas/core/error.h"

namespace nas {

std::size_t RaceBoard::contestant_of(const Genotype& genotype) const {
  for (std::size_t i = 0; i < contestants.size(); ++i) {
    if (contestants[i].genotype == genotype) return i;
  }
  return contestants.size();
}

std::vector<Standing> RaceBoard::standings(const Ledger& ledger) const {
  std::map<Genotype, std::size_t> places;
  for (std::size_t i = 0; i < contestants.size(); ++i) places[contestants[i].genotype] = i;
  std::vector<Standing> result(contestants.size());
  for (const Ledger::Row& row : ledger.rows()) {
    Standing& s = result[places.at(row.proposal.genotype)];
    s.last = row.proposal.number;
    s.status = row.told ? row.outcome.status : TrialStatus::Queued;
    if (!row.done()) continue;
    s.level = row.proposal.rung;
    s.number = row.proposal.number;
  }
  return result;
}

std::optional<std::size_t> RaceBoard::choice(
    const Ledger& ledger, const std::function<double(const Genotype&)>& price) const {
  const std::vector<Standing> standing = standings(ledger);
  std::optional<std::size_t> best, cheapest;
  for (std::size_t i = 0; i < contestants.size(); ++i) {
    const Contestant& c = contestants[i];
    if (!c.compared || !racing(i, standing[i])) continue;
    if (!best || c.mean > contestants[*best].mean) best = i;
    if (c.within < confidence) continue;
    if (!cheapest || price(c.genotype) < price(contestants[*cheapest].genotype)) cheapest = i;
  }
  return goal != "best" && cheapest ? cheapest : best;
}

double RaceBoard::effort_of(const Ledger::Row& row) const {
  return row.outcome.effort > 0 ? row.outcome.effort
                                : ladder.levels[static_cast<std::size_t>(row.proposal.rung)];
}

void RaceBoard::save_into(Json& state) const {
  Json saved = Json::array(), compared = Json::array();
  for (const Contestant& c : contestants) {
    saved.push_back({{"name", c.name},
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
  for (const Comparison& c : comparisons) {
    compared.push_back(
        {{"rows", c.rows}, {"leader", c.leader}, {"gain", c.gain}, {"price", c.price}});
  }
  state["spent"] = spent;
  state["contestants"] = std::move(saved);
  state["comparisons"] = std::move(compared);
}

void RaceBoard::load_from(const JsonReader& state) {
  constexpr std::int64_t kMany = 1 << 20;
  spent = state.at("spent").number();
  contestants.clear();
  comparisons.clear();
  const JsonReader saved = state.at("contestants");
  for (std::size_t i = 0; i < saved.size(); ++i) {
    const JsonReader item = saved.at(i);
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
    contestants.push_back(std::move(c));
  }
  const auto most = std::ssize(contestants);
  NAS_CHECK(most > 0, state.where(), ": contestants: expected at least one");
  const JsonReader compared = state.at("comparisons");
  for (std::size_t i = 0; i < compared.size(); ++i) {
    const JsonReader item = compared.at(i);
    comparisons.push_back({item.at("rows").integer(0, kMany),
                           item.at("leader").integer(0, most - 1),
                           item.at("gain").number(),
                           item.at("price").number()});
  }
}

void RaceBoard::check(const Ledger& ledger, const std::string& where) const {
  for (const Ledger::Row& row : ledger.rows()) {
    NAS_CHECK(contestant_of(row.proposal.genotype) < contestants.size(),
              where,
              ": ledger: proposal ",
              row.proposal.number,
              " is of no contestant");
    NAS_CHECK(row.proposal.rung < std::ssize(ladder.levels),
              where,
              ": ledger: proposal ",
              row.proposal.number,
              ": expected a level below ",
              ladder.levels.size());
  }
}

}  // namespace nas
