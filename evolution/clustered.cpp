// SPDX-License-Identifier: Apache-2.0
#include "evolution/clustered.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "evolution/clustering.h"
#include "nas/core/error.h"
#include "nas/core/json.h"
#include "nas/search/ledger_strategy.h"
#include "nas/search/pareto.h"

namespace nas {
namespace {

constexpr const char* kWhere = "state of strategy \"clustered\"";
constexpr std::int64_t kMostCandidates = 2048;  // listed; clustering takes their square
constexpr std::int64_t kPool = 256;             // drawn where they cannot be listed
constexpr std::size_t kPicture = 240;           // candidates in the report's picture
constexpr std::int64_t kRounds = 3;             // at least, or there are fewer clusters

class ClusteredEvolution : public LedgerStrategy {
 public:
  explicit ClusteredEvolution(const StrategyContext& context)
      : LedgerStrategy(context, "clustered") {
    planned_ = std::max<std::int64_t>(1, context.budget.trials);
    collect_candidates();
    const auto wanted = std::min(context.stage.count("clusters"), planned_ / kRounds);
    const Clustering clustering =
        k_medoids(distances_between(pool_),
                  pool_.size(),
                  static_cast<std::size_t>(std::clamp<std::int64_t>(
                      wanted, 1, static_cast<std::int64_t>(pool_.size()))));
    medoids_ = clustering.medoids;
    cluster_ = clustering.cluster;
    go_on();
    draws_.check_any();
  }

  std::string story() const override {
    Json medoids = Json::array();
    for (const std::size_t m : medoids_) medoids.push_back(context_.space->to_text(pool_[m]));
    return Json{{"candidates", pool_.size()},
                {"listed", listed_},
                {"clusters", medoids_.size()},
                {"medoids", medoids},
                {"rounds", rounds_to_json()},
                {"points", picture()},
                {"draws", draws_.counts()},
                {"front", pareto_story(context_, ledger_)}}
        .dump();
  }

  std::string save() const override {
    return Json{{"version", 1},
                {"listed", listed_},
                {"pool", genotypes_to_json(pool_)},
                {"medoids", medoids_},
                {"cluster", cluster_},
                {"refused", std::vector<std::size_t>(refused_.begin(), refused_.end())},
                {"rounds", rounds_to_json()},
                {"finished", finished_},
                {"draws", draws_.counts()},
                {"ledger", ledger_.save()}}
        .dump();
  }

  void load(const std::string& state) override {
    const Json value = parse_json(state, kWhere);
    const JsonReader reader(value, kWhere);
    reader.at("version").integer(1, 1);
    listed_ = reader.at("listed").boolean();
    pool_ = genotypes_from_json(reader.at("pool"));
    medoids_ = indices(reader.at("medoids"), pool_.size());
    NAS_CHECK(!medoids_.empty(), kWhere, ": medoids: expected at least one");
    cluster_ = indices(reader.at("cluster"), medoids_.size());
    NAS_CHECK(cluster_.size() == pool_.size(),
              kWhere,
              ": cluster: expected ",
              pool_.size(),
              " values, found ",
              cluster_.size());
    const std::vector<std::size_t> refused = indices(reader.at("refused"), pool_.size());
    refused_ = {refused.begin(), refused.end()};
    rounds_.clear();
    const JsonReader rounds = reader.at("rounds");
    for (std::size_t i = 0; i < rounds.size(); ++i) {
      Round round;
      round.probabilities = rounds.at(i).at("probabilities").numbers();
      const JsonReader best = rounds.at(i).at("best");
      for (std::size_t c = 0; c < best.size(); ++c) {
        round.best.push_back(best.at(c).json().is_null() ? std::nullopt
                                                         : std::optional(best.at(c).number()));
      }
      round.emitted = indices(rounds.at(i).at("emitted"), medoids_.size());
      NAS_CHECK(
          round.probabilities.size() == medoids_.size() && round.best.size() == medoids_.size(),
          rounds.where(),
          "[",
          i,
          "]: expected ",
          medoids_.size(),
          " probabilities and scores");
      rounds_.push_back(std::move(round));
    }
    finished_ = reader.at("finished").boolean();
    ledger_.load(reader.at("ledger"));
    draws_.load(reader.at("draws"), ledger_);
  }

 private:
  struct Round {
    std::vector<double> probabilities;        // of the clusters, as ranked before the round
    std::vector<std::optional<double>> best;  // score of the network that stands for each cluster
    std::vector<std::size_t> emitted;         // cluster of each network of the round
  };

  Json rounds_to_json() const {
    Json rounds = Json::array();
    for (const Round& round : rounds_) {
      Json best = Json::array();
      for (const auto& score : round.best) best.push_back(score_to_json(score));
      rounds.push_back(
          {{"probabilities", round.probabilities}, {"best", best}, {"emitted", round.emitted}});
    }
    return rounds;
  }

  static std::vector<std::size_t> indices(const JsonReader& reader, std::size_t size) {
    std::vector<std::size_t> result;
    for (std::size_t i = 0; i < reader.size(); ++i) {
      result.push_back(
          static_cast<std::size_t>(reader.at(i).integer(0, static_cast<std::int64_t>(size) - 1)));
    }
    return result;
  }

  /// All candidates if they can be listed, else random ones; the anchors are among them.
  void collect_candidates() {
    std::set<Genotype> unique;
    if (const auto all = draws_.enumerate(kMostCandidates)) {
      listed_ = true;
      unique = {all->begin(), all->end()};
    } else {
      Rng rng = context_.rng.split("pool");
      for (int repeated = 0;
           static_cast<std::int64_t>(unique.size()) < kPool && repeated < Draws::kRejections;) {
        const bool fresh =
            unique.insert(context_.space->sample(rng, draws_.groups(), &context_.start)).second;
        repeated = fresh ? 0 : repeated + 1;
      }
    }
    for (const Genotype& anchor : draws_.anchors()) unique.insert(anchor);
    pool_.assign(unique.begin(), unique.end());
  }

  std::vector<double> distances_between(const std::vector<Genotype>& items) const {
    const std::size_t n = items.size();
    std::vector<double> distances(n * n, 0.0);
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        // Candidates agree outside the stage's groups: only those count.
        distances[i * n + j] = distances[j * n + i] =
            context_.space->steps_between(items[i], items[j]);
      }
    }
    return distances;
  }

  std::size_t place_of(const Genotype& genotype) const {
    return static_cast<std::size_t>(std::ranges::lower_bound(pool_, genotype) - pool_.begin());
  }

  /// Score of the best network of each cluster's history.
  std::vector<std::optional<double>> best_of_clusters() const {
    std::vector<std::optional<double>> best(medoids_.size());
    for (const Ledger::Row& row : ledger_.rows()) {
      if (!row.done()) continue;
      auto& score = best[cluster_[place_of(row.proposal.genotype)]];
      if (!score || row.outcome.score > *score) score = row.outcome.score;
    }
    return best;
  }

  /// Untried candidates of each cluster that were not refused yet.
  std::vector<std::vector<std::size_t>> open_candidates() const {
    std::vector<char> closed(pool_.size(), 0);
    for (const std::size_t place : refused_) closed[place] = 1;
    for (const Ledger::Row& row : ledger_.rows()) closed[place_of(row.proposal.genotype)] = 1;
    std::vector<std::vector<std::size_t>> open(medoids_.size());
    for (std::size_t i = 0; i < pool_.size(); ++i) {
      if (!closed[i]) open[cluster_[i]].push_back(i);
    }
    return open;
  }

  void propose(std::size_t place) {
    Proposal proposal;
    proposal.genotype = pool_[place];
    proposal.share = 1.0 / static_cast<double>(planned_);
    if (proposal.genotype == context_.baseline) proposal.label = "baseline";
    ledger_.add(std::move(proposal));
    rounds_.back().emitted.push_back(cluster_[place]);
  }

  /// A random admissible network of `open`, which shrinks. False if there is none left.
  bool emit_from(std::vector<std::size_t>& open, Rng& rng) {
    while (!open.empty()) {
      const auto drawn =
          static_cast<std::size_t>(rng.integer(0, static_cast<std::int64_t>(open.size())));
      const std::size_t place = open[drawn];
      open.erase(open.begin() + static_cast<std::ptrdiff_t>(drawn));
      if (draws_.take(pool_[place])) {
        propose(place);
        return true;
      }
      refused_.insert(place);
    }
    return false;
  }

  void go_on() override {  // a round
    std::int64_t left = planned_ - static_cast<std::int64_t>(ledger_.size());
    if (left <= 0) {
      finished_ = true;
      return;
    }
    const std::size_t index = rounds_.size();
    const auto clusters = static_cast<std::int64_t>(medoids_.size());
    const std::size_t before = ledger_.size();
    const std::vector<std::optional<double>> best = best_of_clusters();
    rounds_.push_back(
        {cluster_probabilities(best, 0.25 / static_cast<double>(clusters)), best, {}});
    std::vector<std::vector<std::size_t>> open = open_candidates();
    Rng rng = context_.rng.split("round", index);
    if (index == 0) {
      std::set<std::size_t> seen;
      for (const Genotype& anchor : draws_.anchors()) {
        const std::size_t place = place_of(anchor);
        std::erase(open[cluster_[place]], place);
        if (left == 0) continue;
        if (!draws_.take(anchor)) {
          refused_.insert(place);
          continue;
        }
        propose(place);
        seen.insert(cluster_[place]);
        --left;
      }
      for (std::size_t c = 0; c < medoids_.size() && left > 0; ++c) {
        if (!seen.contains(c) && emit_from(open[c], rng)) --left;
      }
    } else {
      for (std::int64_t wanted = std::min(clusters, left); wanted > 0;) {
        const auto c = draw_cluster(open, rounds_.back().probabilities, rng);
        if (!c) break;
        if (emit_from(open[*c], rng)) --wanted;
      }
    }
    if (ledger_.size() == before) {  // nothing is left to try
      rounds_.pop_back();
      finished_ = true;
    }
  }

  /// A cluster by its probability among those with candidates left.
  static std::optional<std::size_t> draw_cluster(const std::vector<std::vector<std::size_t>>& open,
                                                 const std::vector<double>& probabilities,
                                                 Rng& rng) {
    double total = 0;
    std::optional<std::size_t> last;
    for (std::size_t c = 0; c < open.size(); ++c) {
      if (open[c].empty()) continue;
      total += probabilities[c];
      last = c;
    }
    double place = rng.uniform() * total;
    for (std::size_t c = 0; c < open.size(); ++c) {
      if (open[c].empty()) continue;
      place -= probabilities[c];
      if (place < 0) return c;
    }
    return last;  // rounding, or nothing
  }

  /// Candidates in the plane: at most kPicture of them evenly, and all that were tried.
  Json picture() const {
    std::set<std::size_t> shown(medoids_.begin(), medoids_.end());
    const std::size_t drawn = std::min(kPicture, pool_.size());
    for (std::size_t i = 0; i < drawn; ++i) shown.insert(i * pool_.size() / drawn);
    std::vector<const Ledger::Row*> tried(pool_.size(), nullptr);
    for (const Ledger::Row& row : ledger_.rows()) {
      const std::size_t place = place_of(row.proposal.genotype);
      tried[place] = &row;
      shown.insert(place);
    }
    std::vector<Genotype> items;
    for (const std::size_t place : shown) items.push_back(pool_[place]);
    const auto places = classical_scaling(distances_between(items), items.size());
    Json points = Json::array();
    std::size_t i = 0;
    for (const std::size_t place : shown) {
      Json point = {{"x", places[i][0]},
                    {"y", places[i][1]},
                    {"cluster", cluster_[place]},
                    {"medoid", medoids_[cluster_[place]] == place}};
      if (const Ledger::Row* row = tried[place]) {
        point["trial"] = row->outcome.trial;
        point["score"] = row->done() ? Json(row->outcome.score) : Json(nullptr);
        if (!row->proposal.label.empty()) point["label"] = row->proposal.label;
      }
      points.push_back(std::move(point));
      ++i;
    }
    return points;
  }

  bool listed_ = false;               // pool_ holds every candidate
  std::vector<Genotype> pool_;        // ascending
  std::vector<std::size_t> medoids_;  // of the clusters: places in pool_
  std::vector<std::size_t> cluster_;  // of each place
  std::set<std::size_t> refused_;     // places that are not admissible
  std::vector<Round> rounds_;
};

}  // namespace

std::vector<double> cluster_probabilities(const std::vector<std::optional<double>>& scores,
                                          double least) {
  const std::size_t n = scores.size();
  std::vector<double> probabilities(n, 1.0 / static_cast<double>(std::max<std::size_t>(n, 1)));
  if (std::ranges::none_of(scores, [](const auto& score) { return score.has_value(); })) {
    return probabilities;
  }
  std::vector<std::size_t> order(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    if (!scores[a] || !scores[b]) return scores[a].has_value() && !scores[b].has_value();
    return *scores[a] > *scores[b];
  });
  for (std::size_t r = 0; r < n; ++r) probabilities[order[r]] = 1.0 / static_cast<double>(r + 1);
  // Ranks fall, so the ones below `least` are the last `raised` of the order.
  double sum = std::accumulate(probabilities.begin(), probabilities.end(), 0.0);
  std::size_t raised = 0;
  auto scale = [&] { return (1 - least * static_cast<double>(raised)) / sum; };
  while (raised < n && probabilities[order[n - 1 - raised]] * scale() < least) {
    sum -= probabilities[order[n - 1 - raised]];
    ++raised;
  }
  const double factor = scale();
  for (std::size_t r = 0; r < n; ++r) {
    double& p = probabilities[order[r]];
    p = r + raised < n ? p * factor : least;
  }
  return probabilities;
}

const StrategyKind& clustered_kind() {
  static const StrategyKind kind{
      .name = "clustered",
      .words = "clustered evolution (C2FNAS, macro)",
      .options = {trials_option(), count_option("clusters", 8, 1, 1000)},
      .budget = trained_once_budget,
      .least_trainings = least_trained_once,
      .forecast = trained_once_forecast,
      .make = [](const StrategyContext& context) -> std::unique_ptr<Strategy> {
        return std::make_unique<ClusteredEvolution>(context);
      }};
  return kind;
}

}  // namespace nas
