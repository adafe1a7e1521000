// SPDX-License-Identifier: Apache-2.0
#include "nas/search/random_search.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "nas/core/error.h"
#include "nas/core/json.h"
#include "nas/search/budget.h"
#include "nas/search/draws.h"

namespace nas {
namespace {

constexpr const char* kWhere = "state of strategy \"random\"";

class RandomSearch : public Strategy {
 public:
  explicit RandomSearch(const StrategyContext& context) : baseline_(context.baseline) {
    const std::int64_t wanted = std::max<std::int64_t>(1, context.stage.trials);
    Draws draws(context);
    if (draws.take(context.baseline)) genotypes_.push_back(context.baseline);
    // What the stages before found takes part too, so that this one cannot end below it.
    if (context.start_found && std::ssize(genotypes_) < wanted && draws.take(context.start)) {
      genotypes_.push_back(context.start);
    }
    Rng rng = context.rng.split("sample");
    while (std::ssize(genotypes_) < wanted) {
      const auto drawn = draws.sample(rng);
      if (!drawn) break;
      genotypes_.push_back(*drawn);
    }
    draws.check_any();
    sizes_ = halving_sizes(
        static_cast<std::int64_t>(genotypes_.size()), context.stage.rungs, context.stage.keep);
    start_rung(all_of_rung_0());
  }

  std::vector<Proposal> ask(std::int64_t count) override {
    std::vector<Proposal> result;
    for (; asked_ < members_.size() && count > 0; ++asked_, --count) {
      Proposal p;
      p.number = first_number_ + static_cast<std::int64_t>(asked_);
      p.genotype = genotypes_[members_[asked_]];
      p.rung = static_cast<int>(rung_);
      p.share = 1.0 / static_cast<double>(sizes_.size()) / static_cast<double>(sizes_[rung_]);
      if (p.genotype == baseline_) p.label = "baseline";
      result.push_back(std::move(p));
    }
    return result;
  }

  void tell(const std::vector<Outcome>& outcomes) override {
    for (const Outcome& outcome : outcomes) {
      const std::int64_t place = outcome.number - first_number_;
      NAS_CHECK_KIND(Internal,
                     place >= 0 && place < static_cast<std::int64_t>(asked_) &&
                         !told_[static_cast<std::size_t>(place)],
                     "strategy \"random\": outcome of proposal ",
                     outcome.number,
                     " was not asked for or is told twice");
      told_[static_cast<std::size_t>(place)] = true;
      if (outcome.status == TrialStatus::Done) {
        scores_[static_cast<std::size_t>(place)] = outcome.score;
      }
    }
    if (std::all_of(told_.begin(), told_.end(), [](bool t) { return t; })) promote();
  }

  bool finished() const override { return finished_; }
  std::int64_t planned_trials() const override {
    return std::accumulate(sizes_.begin(), sizes_.end(), std::int64_t{0});
  }

  Winner winner() const override {
    // Scores of one rung compare; `promote` leaves those of the last one in place.
    Winner best;
    for (std::size_t i = 0; i < members_.size(); ++i) {
      if (!scores_[i] || (best.found && *scores_[i] <= best.score)) continue;
      best.found = true;
      best.score = *scores_[i];
      best.genotype = genotypes_[members_[i]];
    }
    if (!best.found) return finished_rung_;  // nothing yet, or everything failed
    best.how = concat_text(
        "best of ", genotypes_.size(), " by own training, rung ", rung_ + 1, " of ", sizes_.size());
    return best;
  }

  std::string save() const override {
    Json genotypes = Json::array(), scores = Json::array();
    for (const Genotype& genotype : genotypes_) genotypes.push_back(genotype.values);
    for (const auto& score : scores_) scores.push_back(score ? Json(*score) : Json(nullptr));
    return Json{{"version", 1},
                {"genotypes", genotypes},
                {"sizes", sizes_},
                {"rung", rung_},
                {"members", members_},
                {"first_number", first_number_},
                {"asked", asked_},
                {"told", told_},
                {"scores", scores},
                {"finished_rung",
                 {{"found", finished_rung_.found},
                  {"genotype", finished_rung_.genotype.values},
                  {"score", finished_rung_.score},
                  {"how", finished_rung_.how}}},
                {"finished", finished_}}
        .dump();
  }

  void load(const std::string& state) override {
    const Json value = parse_json(state, kWhere);
    const JsonReader reader(value, kWhere);
    reader.at("version").integer(1, 1);
    genotypes_.clear();
    const JsonReader genotypes = reader.at("genotypes");
    for (std::size_t i = 0; i < genotypes.size(); ++i) {
      Genotype genotype;
      for (const std::int64_t v : genotypes.at(i).integers()) {
        genotype.values.push_back(static_cast<int>(v));
      }
      genotypes_.push_back(std::move(genotype));
    }
    sizes_ = reader.at("sizes").integers();
    NAS_CHECK(!sizes_.empty(), kWhere, ": sizes: expected at least one rung");
    rung_ = static_cast<std::size_t>(
        reader.at("rung").integer(0, static_cast<std::int64_t>(sizes_.size()) - 1));
    members_.clear();
    for (const std::int64_t member : reader.at("members").integers()) {
      NAS_CHECK(member >= 0 && member < static_cast<std::int64_t>(genotypes_.size()),
                kWhere,
                ": members: there is no genotype ",
                member);
      members_.push_back(static_cast<std::size_t>(member));
    }
    first_number_ = reader.at("first_number").integer();
    const auto size = static_cast<std::int64_t>(members_.size());
    asked_ = static_cast<std::size_t>(reader.at("asked").integer(0, size));
    const JsonReader told = reader.at("told"), scores = reader.at("scores");
    NAS_CHECK(told.size() == members_.size() && scores.size() == members_.size(),
              kWhere,
              ": told and scores: expected ",
              members_.size(),
              " values each, found ",
              told.size(),
              " and ",
              scores.size());
    told_.clear();
    scores_.clear();
    for (std::size_t i = 0; i < members_.size(); ++i) {
      told_.push_back(told.at(i).boolean());
      scores_.push_back(scores.at(i).json().is_null() ? std::nullopt
                                                      : std::optional(scores.at(i).number()));
    }
    finished_ = reader.at("finished").boolean();
    const JsonReader rung = reader.at("finished_rung");
    finished_rung_ = {};
    finished_rung_.found = rung.at("found").boolean();
    for (const std::int64_t v : rung.at("genotype").integers()) {
      finished_rung_.genotype.values.push_back(static_cast<int>(v));
    }
    finished_rung_.score = rung.at("score").number();
    finished_rung_.how = rung.at("how").text();
  }

 private:
  std::vector<std::size_t> all_of_rung_0() const {
    std::vector<std::size_t> members(genotypes_.size());
    std::iota(members.begin(), members.end(), std::size_t{0});
    return members;
  }

  void start_rung(std::vector<std::size_t> members) {
    members_ = std::move(members);
    asked_ = 0;
    told_.assign(members_.size(), false);
    scores_.assign(members_.size(), std::nullopt);
  }

  /// The best of this rung go on, equal scores in the order of their index.
  void promote() {
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < members_.size(); ++i) {
      if (scores_[i]) order.push_back(i);
    }
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return *scores_[a] > *scores_[b];
    });
    if (rung_ + 1 == sizes_.size() || order.empty()) {
      finished_ = true;
      return;
    }
    finished_rung_ = winner();
    ++rung_;
    first_number_ += static_cast<std::int64_t>(members_.size());
    order.resize(std::min(order.size(), static_cast<std::size_t>(sizes_[rung_])));
    std::vector<std::size_t> promoted;
    for (const std::size_t i : order) promoted.push_back(members_[i]);
    start_rung(std::move(promoted));
  }

  Genotype baseline_;
  std::vector<Genotype> genotypes_;  // the baseline first, where it is admissible
  std::vector<std::int64_t> sizes_;  // trials per rung
  std::size_t rung_ = 0;
  std::vector<std::size_t> members_;  // indices into genotypes_
  std::int64_t first_number_ = 0;     // proposal number of members_[0]
  std::size_t asked_ = 0;
  std::vector<bool> told_;
  std::vector<std::optional<double>> scores_;  // of members_; empty: not told or failed
  Winner finished_rung_;                       // of the rung before
  bool finished_ = false;
};

}  // namespace

std::unique_ptr<Strategy> make_random_search(const StrategyContext& context) {
  return std::make_unique<RandomSearch>(context);
}

}  // namespace nas
