// SPDX-License-Identifier: Apache-2.0
// Strategies driven by hand over toy spaces: clustering, evolution, searches over a super-network,
// compound scaling; what every strategy must keep.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <stdexcept>

#include "compound_scaling/scaling.h"
#include "evolution/clustered.h"
#include "evolution/clustering.h"
#include "evolution/regularized.h"
#include "nas/core/error.h"
#include "nas/jobs/strategies/strategies.h"
#include "nas/results/results_db.h"
#include "nas/search/draws.h"
#include "nas/search/run_search.h"
#include "nas/search/statistics.h"
#include "search_spaces/spaces.h"
#include "supernet/search/supernet_search.h"
#include "tests/support/support.h"
#include "tests/support/toy_search.h"

namespace nas {
namespace {

using test::error_of;
using test::ToySpace;
using testing::AllOf;
using testing::HasSubstr;

/// Six levels 0 to 3 that change by one at most from 0 on (a walk as in C2FNAS's macro space), four
/// cell operations, and a scale as the papers'.
class WalkSpace : public SearchSpace {
 public:
  WalkSpace() {
    for (int i = 0; i < 6; ++i) {
      genes_.push_back({"level" + std::to_string(i), "topology", {"0", "1", "2", "3"}});
    }
    for (int i = 0; i < 4; ++i) {
      genes_.push_back({"op" + std::to_string(i), "operations", {"2d", "p3d", "3d"}});
    }
    genes_.push_back({"patch", "scale", {"64x96x96", "48x72x72", "80x120x120"}});
    genes_.push_back({"cells", "scale", {"12", "14", "16"}});
    genes_.push_back({"filters", "scale", {"x1", "x0.5", "x0.75", "x1.5"}});
  }
  std::string name() const override { return "walk"; }
  const std::vector<Gene>& genes() const override { return genes_; }
  std::string invalid_reason(const Genotype& g) const override {
    if (std::string reason = malformed_reason(g); !reason.empty()) return reason;
    int before = 0;
    for (std::size_t i = 0; i < 6; ++i) {
      if (std::abs(g.values[i] - before) > 1) return "levels move by one at most";
      before = g.values[i];
    }
    return "";
  }
  Phenotype build(const Genotype&) const override { return {}; }
  Genotype baseline() const override { return {{0, 1, 2, 2, 1, 0, 2, 2, 2, 2, 0, 0, 0}}; }
  Json describe() const override { return {{"name", "walk"}}; }

 private:
  std::vector<Gene> genes_;
};

/// Best at levels 1 2 3 3 2 1 and operations 3d p3d 3d p3d.
double walk_quality(const Genotype& g) {
  const int wanted[] = {1, 2, 3, 3, 2, 1, 2, 1, 2, 1};
  double score = 0.9;
  for (std::size_t i = 0; i < 10; ++i) score -= 0.01 * std::abs(g.values[i] - wanted[i]);
  return score;
}

/// MACs d w^2 r^3 as a real network's.
TrialCost walk_cost(const WalkSpace& space, const Genotype& g) {
  const ScaleFactors f = scale_factors(space, space.baseline(), g);
  TrialCost cost;
  cost.parameters = std::llround(1e6 * f.depth * f.width * f.width);
  cost.macs = std::llround(1e9 * f.depth * f.width * f.width * std::pow(f.resolution, 3));
  cost.memory_bytes = std::llround(1e8 * f.depth * f.width * std::pow(f.resolution, 3));
  return cost;
}

struct Walk {
  WalkSpace space;
  StrategyContext context(const std::string& kind,
                          std::vector<std::string> groups,
                          std::int64_t trials,
                          std::uint64_t seed = 3) const {
    StrategyContext c;
    c.space = &space;
    c.stage = make_stage(*find_kind(strategy_kinds(), kind), "the-stage", 1);
    c.stage.groups = std::move(groups);
    c.budget.trials = c.stage.kind->needs_super_network ? kWantedRankTrials : trials;
    c.budget.rungs = 1;
    c.budget.candidates = 24;
    c.rng = Rng(seed);
    c.start = c.baseline = space.baseline();
    c.cost = [this](const Genotype& g) { return walk_cost(space, g); };
    return c;
  }
};

/// What a trial brings: super-networks only decode, the rest scores.
Outcome outcome_of(const Proposal& p, const std::function<double(const Proposal&)>& score) {
  Outcome o;
  o.number = p.number;
  o.status = TrialStatus::Done;
  o.trial = 100 + p.number;
  o.steps = 10;
  o.how = "toy";
  if (p.purpose == TrialPurpose::SuperNet) {
    o.score = 0.1;
    if (parse_json(p.request, "request")["method"] == "differentiable") {
      o.decoded = {{0, 1, 2, 2, 1, 0, 2, 1, 2, 1, 0, 0, 0}};
    }
  } else {
    o.score = score(p);
  }
  return o;
}

double quality_of(const Proposal& p) { return walk_quality(p.genotype); }

/// Runs to the end; the proposals in order.
std::vector<Proposal> drive(Strategy& strategy,
                            const std::function<double(const Proposal&)>& score = quality_of) {
  std::vector<Proposal> all;
  while (!strategy.finished()) {
    const std::vector<Proposal> batch = strategy.ask(1000);
    EXPECT_FALSE(batch.empty()) << "not finished, but nothing to do";
    if (batch.empty()) break;
    std::vector<Outcome> outcomes;
    for (const Proposal& p : batch) outcomes.push_back(outcome_of(p, score));
    strategy.tell(outcomes);
    all.insert(all.end(), batch.begin(), batch.end());
  }
  return all;
}

std::string digits(const Genotype& g, std::size_t from, std::size_t to) {
  std::string text;
  for (std::size_t i = from; i < to; ++i) text += static_cast<char>('0' + g.values[i]);
  return text;
}

std::string transcript(const std::vector<Proposal>& proposals) {
  std::string text;
  for (const Proposal& p : proposals) {
    char line[128];
    std::snprintf(line,
                  sizeof line,
                  "%2d %-9s %s %s %s share %.4f%s%s\n",
                  static_cast<int>(p.number),
                  to_text(p.purpose).c_str(),
                  digits(p.genotype, 0, 6).c_str(),
                  digits(p.genotype, 6, 10).c_str(),
                  digits(p.genotype, 10, 13).c_str(),
                  p.share,
                  p.label.empty() ? "" : " ",
                  p.label.c_str());
    text += line;
  }
  return text;
}

double best_of(const std::vector<Proposal>& proposals) {
  double best = -1;
  for (const Proposal& p : proposals) best = std::max(best, walk_quality(p.genotype));
  return best;
}

// ---- what every strategy must keep ----

/// A controller of a user: draws at random, and remembers where it was.
constexpr const char* kDrawer = R"py(
import json, random, sys
for line in sys.stdin:
    q = json.loads(line)
    a = {"ok": {}}
    if q["do"] == "set_space":
        genes = [g for g in q["space"]["genes"] if g["group"] in q["groups"]]
        seed, n = q["seed"], 0
    if q["do"] == "ask":
        n += 1
        r = random.Random(seed + n)
        a = {"proposals": [{"values": {g["name"]: r.choice(g["values"]) for g in genes}} for _ in range(q["count"])]}
    if q["do"] == "save": a = {"state": [seed, n]}
    if q["do"] == "load": seed, n = q["state"]
    print(json.dumps(a), flush=True)
)py";

class EveryStrategy : public testing::TestWithParam<std::string> {
 protected:
  Walk walk;
  StrategyContext context() const {
    StrategyContext c = walk.context(GetParam(), {"topology"}, 14);
    if (GetParam() == "scaling" || GetParam() == "enum") c.stage.groups = {"scale"};
    if (c.stage.kind->needs_super_network) c.stage.groups = {"operations"};
    if (c.stage.options.contains("search")) c.stage.set("search", "regularized");
    if (c.stage.kind->starts_programs) {
      c.stage.set("command", std::vector<std::string>{"python3", "-S", "-c", kDrawer});
    }
    return c;
  }
};

TEST_P(EveryStrategy, SavedAndLoadedAtEveryPointItGoesOnExactly) {
  auto straight = make_strategy(context());
  auto restored = make_strategy(context());
  const auto reload = [&] {
    auto next = make_strategy(context());
    next->load(restored->save());
    ASSERT_EQ(next->save(), restored->save());
    restored = std::move(next);
  };
  reload();
  Rng rng("told one by one");
  while (!straight->finished()) {
    const std::vector<Proposal> a = straight->ask(3), b = restored->ask(3);
    ASSERT_EQ(a, b);
    reload();
    for (const Proposal& p : a) {
      Outcome outcome = outcome_of(p, quality_of);
      if (p.number > 0 && rng.chance(0.2)) outcome.status = TrialStatus::OutOfMemory;
      straight->tell({outcome});
      restored->tell({outcome});
      reload();
    }
    ASSERT_EQ(straight->finished(), restored->finished());
  }
  EXPECT_EQ(straight->winner(), restored->winner());
  EXPECT_EQ(straight->story(), restored->story());
  EXPECT_EQ(straight->planned_trials(), restored->planned_trials());
}

TEST_P(EveryStrategy, ProposalsAreAdmissibleInItsGroupsAndWithinTheBudget) {
  StrategyContext c = context();
  c.admissible = [&](const Genotype& g) {
    return g.values[3] != 3 && g.values[9] != 1 && g.values[12] != 3;
  };
  auto strategy = make_strategy(c);
  const std::vector<Proposal> all = drive(*strategy);
  EXPECT_EQ(strategy->planned_trials(), std::ssize(all));
  double share = 0;
  std::map<TrialPurpose, std::set<Genotype>> seen;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Proposal& p = all[i];
    EXPECT_EQ(p.number, static_cast<std::int64_t>(i));
    EXPECT_GE(p.share, 0);
    share += p.share;
    EXPECT_TRUE(c.admissible(p.genotype)) << walk.space.to_text(p.genotype);
    EXPECT_EQ(walk.space.invalid_reason(p.genotype), "");
    EXPECT_TRUE(Draws(c).reachable(p.genotype, c.start));
    if (p.continues >= 0) {
      ASSERT_LT(p.continues, p.number);
      EXPECT_EQ(p.genotype, all[static_cast<std::size_t>(p.continues)].genotype);
    } else {
      EXPECT_TRUE(seen[p.purpose].insert(p.genotype).second) << "tried twice";
    }
    if (p.genotype == c.baseline && p.purpose != TrialPurpose::SuperNet) {
      EXPECT_EQ(p.label, "baseline");
    }
  }
  EXPECT_LE(share, 1 + 1e-9);
  if (!c.stage.kind->may_end_early) {
    EXPECT_GT(share, 0.9);
  }
  EXPECT_TRUE(seen[TrialPurpose::Search].contains(c.baseline) ||
              seen[TrialPurpose::Inherited].contains(c.baseline));
  const Winner winner = strategy->winner();
  EXPECT_TRUE(winner.found);
  EXPECT_TRUE(c.admissible(winner.genotype));
  EXPECT_NE(winner.how, "");
  EXPECT_TRUE(parse_json(strategy->story(), "story").is_object());
}

TEST_P(EveryStrategy, WhatGoesOnFindsTheTrainingBeforeIt) {
  StrategyContext c = context();
  if (c.stage.kind->continues) c.budget.rungs = 3;
  auto strategy = make_strategy(c);
  // Checkpoints are removed as the engine does it: after telling, those of what rests no more.
  std::set<std::int64_t> kept;
  std::deque<Proposal> running;
  std::int64_t continued = 0;
  while (!strategy->finished()) {
    for (const Proposal& p : strategy->ask(3)) running.push_back(p);
    ASSERT_FALSE(running.empty());
    const Proposal p = running.front();
    running.pop_front();
    if (p.continues >= 0) {
      ++continued;
      EXPECT_TRUE(kept.contains(p.continues)) << p.number << " of " << p.continues;
    }
    strategy->tell({outcome_of(p, quality_of)});
    kept.insert(p.number);
    const std::vector<std::int64_t> resting = strategy->resting();
    std::erase_if(kept, [&](std::int64_t number) {
      return std::ranges::find(resting, number) == resting.end();
    });
  }
  EXPECT_EQ(continued > 0, c.stage.kind->continues);
}

TEST_P(EveryStrategy, NothingAdmissibleIsAUsageErrorWithTheSmallestNetworkSeen) {
  StrategyContext c = context();
  c.admissible = [](const Genotype&) { return false; };
  ErrorKind kind{};
  // A super-network is trained before anything is scored.
  const std::string message = error_of([&] { drive(*make_strategy(c)); }, &kind);
  EXPECT_EQ(kind, ErrorKind::Usage);
  EXPECT_THAT(message, AllOf(HasSubstr("the-stage"), HasSubstr("limits")));
  EXPECT_THAT(message, AllOf(HasSubstr("smallest"), HasSubstr("parameters")));
}

TEST_P(EveryStrategy, EverythingMayFail) {
  auto strategy = make_strategy(context());
  int asked = 0;
  while (!strategy->finished()) {
    const auto batch = strategy->ask(1000);
    ASSERT_FALSE(batch.empty());
    for (const Proposal& p : batch) {
      Outcome failed;
      failed.number = p.number;
      failed.status = TrialStatus::Nan;
      strategy->tell({failed});
      ASSERT_LT(++asked, 200);
    }
  }
  EXPECT_FALSE(strategy->winner().found);
  EXPECT_TRUE(parse_json(strategy->story(), "story").is_object());
}

TEST_P(EveryStrategy, DamagedStatesNeverDoMoreThanThrowAnError) {
  auto strategy = make_strategy(context());
  for (const Proposal& p : strategy->ask(1000)) strategy->tell({outcome_of(p, quality_of)});
  strategy->ask(2);
  const Json whole = Json::parse(strategy->save());
  std::vector<std::string> keys;
  const Json flat = whole.flatten();
  for (const auto& [key, value] : flat.items()) keys.push_back(key);
  const Json values[] = {-1, 99999, 0.5, "x", nullptr, true, Json::array(), Json::object()};
  Rng rng("state-fuzz");
  const int rounds = context().stage.kind->starts_programs ? 20 : 150;  // a process each
  for (int i = 0; i < rounds; ++i) {
    Json bad = whole;
    bad[Json::json_pointer(
        keys[static_cast<std::size_t>(rng.integer(0, static_cast<std::int64_t>(keys.size())))])] =
        values[rng.integer(0, 8)];
    try {
      auto other = make_strategy(context());
      other->load(bad.dump());
      other->ask(1);
    } catch (const Error&) {
    }
  }
}

std::vector<std::string> search_kinds() {
  std::vector<std::string> names;
  for (const StrategyKind* kind : strategy_kinds()) {
    if (!kind->final) names.push_back(kind->name);
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(Table, EveryStrategy, testing::ValuesIn(search_kinds()));

// ---- whole recipes, killed and resumed ----

/// Scores without training. `calls_left` evaluations from now it falls over like a killed process.
class WalkEvaluator : public Evaluator {
 public:
  explicit WalkEvaluator(const WalkSpace& space) : space_(space) {}
  std::int64_t calls_left = -1;

  TrialCost describe(const Genotype& g) override { return walk_cost(space_, g); }
  Probe probe(const Genotype&, TrialPurpose) override { return {}; }
  TrialPlan plan(const Trial& trial) override { return {trial.steps, "{}"}; }
  Evaluation evaluate(const Trial& trial, const TrialContext&) override {
    if (calls_left == 0) throw std::runtime_error("killed");
    --calls_left;
    Proposal p;
    p.genotype = trial.genotype;
    p.purpose = trial.purpose;
    p.request = trial.request;
    const Outcome outcome = outcome_of(p, quality_of);
    Evaluation e;
    e.status = TrialStatus::Done;
    e.score = outcome.score;
    e.decoded = outcome.decoded;
    e.steps = trial.steps;
    e.how = "toy";
    return e;
  }

 private:
  const WalkSpace& space_;
};

class EveryRecipe : public testing::TestWithParam<std::string> {
 protected:
  WalkSpace space;
  WalkEvaluator evaluator{space};
  Recipe recipe = [] {
    Recipe r = load_recipe(GetParam(), strategy_kinds());
    r.limits = {};
    // The walk has no such genes.
    for (StageSpec& stage : r.stages) std::erase(stage.groups, "training");
    return r;
  }();

  void run(const std::filesystem::path& folder) {
    const auto file = folder / "results.sqlite";
    const Budget budget{.steps = 100};
    if (!std::filesystem::exists(file)) {
      RunRecord record;
      record.recipe_json = to_json(recipe).dump();
      record.plan_json = record.space_json = record.setup_json = "{}";
      record.budget = budget;
      ResultsDb::create(file, record);
    }
    ResultsDb db = ResultsDb::open(file);
    SearchSetup setup;
    setup.database = &db;
    setup.space = &space;
    setup.evaluator = &evaluator;
    setup.recipe = recipe;
    setup.budget = budget;
    setup.seed = 5;
    setup.clock = [] { return 0.0; };
    setup.folder = folder;
    EXPECT_EQ(run_search(setup), SearchEnd::Finished);
  }
};

TEST_P(EveryRecipe, KilledEveryFewEvaluationsItEndsAsTheStraightRun) {
  test::TempFolder a, b;
  run(a.path());
  int kills = 0;
  for (bool finished = false; !finished;) {
    evaluator.calls_left = 3;
    try {
      run(b.path());
      finished = true;
    } catch (const std::runtime_error& error) {
      ASSERT_STREQ(error.what(), "killed");
      ASSERT_LT(++kills, 100) << "no progress";
    }
  }
  const ResultsDb straight = ResultsDb::open(a / "results.sqlite");
  const ResultsDb killed = ResultsDb::open(b / "results.sqlite");
  EXPECT_EQ(results_table(straight.trials()), results_table(killed.trials()));
  EXPECT_GE(kills, recipe.stages.size() > 1 ? 2 : 0);
  const auto stages = straight.stages(), others = killed.stages();
  ASSERT_EQ(stages.size(), recipe.stages.size());
  for (std::size_t i = 0; i < stages.size(); ++i) {
    EXPECT_EQ(stages[i].winner, others[i].winner);
    EXPECT_EQ(stages[i].story, others[i].story);
    EXPECT_EQ(stages[i].winner.found, i + 1 < stages.size()) << stages[i].name;
  }
}

INSTANTIATE_TEST_SUITE_P(BuiltIn, EveryRecipe, testing::ValuesIn(recipe_names()));

// ---- draws ----

TEST(Draws, EnumeratesAllValidGenotypesOfTheGroupsOnce) {
  ToySpace toy;
  StrategyContext context;
  context.space = &toy;
  context.start = context.baseline = toy.baseline();
  EXPECT_EQ(Draws(context).enumerate(1000)->size(), 72u);  // 5 * 5 * 3 less the three invalid ones
  EXPECT_FALSE(Draws(context).enumerate(71));
  const Walk walk;
  const Draws draws(walk.context("random", {"topology"}, 1));
  std::set<Genotype> unique;
  const StrategyContext c = walk.context("random", {"topology"}, 1);
  const auto all = Draws(c).enumerate(100000);
  for (const Genotype& g : *all) {
    EXPECT_EQ(walk.space.invalid_reason(g), "");
    EXPECT_TRUE(unique.insert(g).second);
    EXPECT_TRUE(Draws(c).reachable(g, c.start));
  }
  Rng rng("enumerate");
  for (int i = 0; i < 200; ++i) {
    EXPECT_TRUE(unique.contains(walk.space.sample(rng, {"topology"}, &c.start)));
  }
}

TEST(Draws, CountEveryAttemptAndEnd) {
  ToySpace toy;
  StrategyContext context;
  context.space = &toy;
  context.start = context.baseline = toy.baseline();
  context.admissible = [](const Genotype& g) { return g.values[0] == 0; };
  Draws draws(context);
  Rng rng(1);
  int taken = 0;
  while (draws.sample(rng)) ++taken;
  EXPECT_EQ(taken, 15);  // 5 depths, 3 kinds
  const Json counts = draws.counts();
  EXPECT_EQ(counts["attempts"],
            taken + counts["repeated"].get<int>() + counts["inadmissible"].get<int>());
  EXPECT_GE(counts["attempts"], Draws::kRejections);
}

// ---- clustering ----

struct Points {
  std::size_t n;
  std::vector<double> distances;
};

Points random_points(std::size_t n, Rng& rng, const std::vector<double>& centres = {0}) {
  std::vector<std::array<double, 2>> places;
  for (std::size_t i = 0; i < n; ++i) {
    places.push_back({centres[i % centres.size()] + rng.normal(), rng.normal()});
  }
  Points points{n, std::vector<double>(n * n)};
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      points.distances[i * n + j] =
          std::hypot(places[i][0] - places[j][0], places[i][1] - places[j][1]);
    }
  }
  return points;
}

double naive_cost(const Points& p, const std::vector<std::size_t>& medoids) {
  double sum = 0;
  for (std::size_t i = 0; i < p.n; ++i) {
    double nearest = 1e300;
    for (const std::size_t m : medoids) nearest = std::min(nearest, p.distances[i * p.n + m]);
    sum += nearest;
  }
  return sum;
}

double brute_force_cost(const Points& p, std::size_t k) {
  std::vector<char> chosen(p.n, 0);
  std::fill(chosen.end() - static_cast<std::ptrdiff_t>(k), chosen.end(), 1);
  double least = 1e300;
  do {
    std::vector<std::size_t> medoids;
    for (std::size_t i = 0; i < p.n; ++i) {
      if (chosen[i]) medoids.push_back(i);
    }
    least = std::min(least, naive_cost(p, medoids));
  } while (std::next_permutation(chosen.begin(), chosen.end()));
  return least;
}

TEST(KMedoids, NoSingleExchangeImprovesItAndMostlyItIsTheOptimum) {
  Rng rng("pam");
  int optimal = 0;
  const int sets = 100;
  for (int s = 0; s < sets; ++s) {
    const Points p = random_points(9, rng);
    const std::size_t k = 1 + static_cast<std::size_t>(s % 4);
    const Clustering c = k_medoids(p.distances, p.n, k);
    ASSERT_EQ(c.medoids.size(), k);
    EXPECT_TRUE(std::ranges::is_sorted(c.medoids));
    EXPECT_NEAR(c.cost, naive_cost(p, c.medoids), 1e-9);
    for (std::size_t i = 0; i < p.n; ++i) {
      const double own = p.distances[i * p.n + c.medoids[c.cluster[i]]];
      for (const std::size_t m : c.medoids) EXPECT_LE(own, p.distances[i * p.n + m]);
    }
    for (std::size_t m = 0; m < k; ++m) {
      for (std::size_t h = 0; h < p.n; ++h) {
        std::vector<std::size_t> other = c.medoids;
        other[m] = h;
        EXPECT_GE(naive_cost(p, other), c.cost - 1e-9);
      }
    }
    const double least = brute_force_cost(p, k);
    EXPECT_GE(c.cost, least - 1e-9);
    optimal += c.cost < least + 1e-9;
  }
  EXPECT_GE(optimal, 0.9 * sets);
}

TEST(KMedoids, FindsSeparatedGroups) {
  Rng rng("groups");
  const Points p = random_points(60, rng, {0, 100, 200});
  const Clustering c = k_medoids(p.distances, p.n, 3);
  for (std::size_t i = 0; i < p.n; ++i) EXPECT_EQ(c.cluster[i], c.cluster[i % 3]);
  const Clustering all = k_medoids(p.distances, p.n, p.n);
  EXPECT_EQ(all.cost, 0);
}

TEST(ClassicalScaling, BringsBackPlacesInThePlane) {
  Rng rng("mds");
  const Points p = random_points(20, rng);
  const auto places = classical_scaling(p.distances, p.n);
  for (std::size_t i = 0; i < p.n; ++i) {
    for (std::size_t j = 0; j < p.n; ++j) {
      EXPECT_NEAR(std::hypot(places[i][0] - places[j][0], places[i][1] - places[j][1]),
                  p.distances[i * p.n + j],
                  1e-9);
    }
  }
  EXPECT_EQ(classical_scaling(std::vector<double>{0}, 1).size(), 1u);
}

// ---- clustered evolution ----

TEST(ClusterProbabilities, AreInverseRanksWithAFloor) {
  using Scores = std::vector<std::optional<double>>;
  for (const double p : cluster_probabilities(Scores(5), 0.05)) EXPECT_DOUBLE_EQ(p, 0.2);
  // Ranks 2, 4 (no score), 1, 3: 1/2, 1/4, 1, 1/3 of 25/12.
  const auto p = cluster_probabilities(Scores{0.5, std::nullopt, 0.9, 0.1}, 1.0 / 16);
  EXPECT_DOUBLE_EQ(p[0], 6.0 / 25);
  EXPECT_DOUBLE_EQ(p[1], 3.0 / 25);
  EXPECT_DOUBLE_EQ(p[2], 12.0 / 25);
  EXPECT_DOUBLE_EQ(p[3], 4.0 / 25);
  Scores many;
  for (int i = 0; i < 60; ++i) many.emplace_back(-i);
  const auto q = cluster_probabilities(many, 1.0 / 240);
  EXPECT_NEAR(std::accumulate(q.begin(), q.end(), 0.0), 1, 1e-12);
  EXPECT_TRUE(std::ranges::is_sorted(q, std::greater<>()));
  EXPECT_DOUBLE_EQ(q.back(), 1.0 / 240) << "1/60 of the harmonic sum is less";
  EXPECT_DOUBLE_EQ(q[0] / q[1], 2);
}

TEST(ClusteredEvolution, GoldenTranscript) {
  const Walk walk;
  auto strategy = make_strategy(walk.context("clustered", {"topology"}, 12));
  EXPECT_EQ(transcript(drive(*strategy)), R"( 0 search    012210 2222 000 share 0.0833 baseline
 1 search    000111 2222 000 share 0.0833
 2 search    110111 2222 000 share 0.0833
 3 search    112122 2222 000 share 0.0833
 4 search    122321 2222 000 share 0.0833
 5 search    012232 2222 000 share 0.0833
 6 search    123323 2222 000 share 0.0833
 7 search    012212 2222 000 share 0.0833
 8 search    100010 2222 000 share 0.0833
 9 search    111122 2222 000 share 0.0833
10 search    122112 2222 000 share 0.0833
11 search    112321 2222 000 share 0.0833
)");
}

TEST(ClusteredEvolution, TheFirstRoundVisitsEveryClusterAndLaterOnesTheGoodOnes) {
  const Walk walk;
  double in_best = 0, later = 0, clusters = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    auto strategy = make_strategy(walk.context("clustered", {"topology"}, 40, seed));
    drive(*strategy);
    const Json story = Json::parse(strategy->story());
    clusters = story["clusters"];
    EXPECT_EQ(story["listed"], true);
    const auto first = story["rounds"][0]["emitted"].get<std::set<std::size_t>>();
    EXPECT_EQ(first.size(), clusters);
    for (std::size_t r = 1; r < story["rounds"].size(); ++r) {
      const auto p = story["rounds"][r]["probabilities"].get<std::vector<double>>();
      const auto best = static_cast<std::size_t>(std::ranges::max_element(p) - p.begin());
      for (const std::size_t c : story["rounds"][r]["emitted"].get<std::vector<std::size_t>>()) {
        in_best += c == best;
        ++later;
      }
    }
    // Every tried network is in the picture with its score.
    std::size_t scored = 0;
    for (const Json& point : story["points"]) scored += point.contains("score");
    EXPECT_EQ(scored, 40u);
  }
  EXPECT_EQ(clusters, 8);
  // Probability of the first rank: 1 / (1 + 1/2 + ... + 1/8) = 0.37; uniform would be 0.125.
  EXPECT_NEAR(in_best / later, 0.37, 0.06);
}

TEST(ClusteredEvolution, FindsBetterTopologiesThanRandomSearchWithAsManyTrials) {
  const Walk walk;
  double clustered = 0, random = 0;
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    clustered += best_of(drive(*make_strategy(walk.context("clustered", {"topology"}, 40, seed))));
    random += best_of(drive(*make_strategy(walk.context("random", {"topology"}, 40, seed))));
  }
  EXPECT_GT(clustered, random);
}

TEST(ClusteredEvolution, LargeSpacesAreSampledAndSmallOnesUsedUp) {
  const Walk walk;
  auto large = make_strategy(walk.context("clustered", {}, 12));
  drive(*large);
  const Json story = Json::parse(large->story());
  EXPECT_EQ(story["listed"], false);
  EXPECT_GE(story["candidates"], 256);
  auto small = make_strategy(walk.context("clustered", {"scale"}, 100));
  EXPECT_EQ(drive(*small).size(), 36u) << "3 * 3 * 4 combinations";
  EXPECT_EQ(small->planned_trials(), 36);
}

TEST(ClusteredEvolution, ListsTheMacroCandidatesOfC2fnas) {
  const auto space = make_space(example_description("c2fnas"));
  StrategyContext context;
  context.space = space.get();
  context.stage = make_stage(clustered_kind(), "macro", 1);
  context.stage.groups = {"topology"};
  context.budget.trials = 30;
  context.start = space->start();
  context.baseline = space->baseline();
  auto strategy = make_strategy(context);
  const Json story = Json::parse(strategy->story());
  EXPECT_EQ(story["candidates"], 957);
  EXPECT_EQ(story["listed"], true);
  EXPECT_EQ(story["clusters"], 8);
  const std::vector<Proposal> first = strategy->ask(100);
  EXPECT_EQ(first.size(), 8u);
  EXPECT_EQ(first[0].genotype, context.start);
  for (const Proposal& p : first) EXPECT_NE(p.genotype, context.baseline) << "of another kind";
}

// ---- regularized evolution ----

TEST(RegularizedEvolution, GoldenTranscript) {
  const Walk walk;
  auto strategy = make_strategy(walk.context("regularized", {"topology", "operations"}, 14));
  EXPECT_EQ(transcript(drive(*strategy)), R"( 0 search    012210 2222 000 share 0.0714 baseline
 1 search    112223 2000 000 share 0.0714
 2 search    121122 2210 000 share 0.0714
 3 search    112111 0202 000 share 0.0714
 4 search    012210 1222 000 share 0.0714
 5 search    121222 2210 000 share 0.0714
 6 search    121122 2212 000 share 0.0714
 7 search    121222 2212 000 share 0.0714
 8 search    111222 2212 000 share 0.0714
 9 search    111222 2211 000 share 0.0714
10 search    121222 0212 000 share 0.0714
11 search    121222 2202 000 share 0.0714
12 search    011222 2212 000 share 0.0714
13 search    111222 2201 000 share 0.0714
)");
}

TEST(RegularizedEvolution, TheOldestDieWhateverTheirScore) {
  const Walk walk;
  const StrategyContext context = walk.context("regularized", {"operations"}, 100);
  Ledger ledger("test");
  const auto add = [&](std::vector<int> operations, double score) {
    Proposal p;
    p.genotype = context.start;
    std::ranges::copy(operations, p.genotype.values.begin() + 6);
    ledger.add(p);
    ledger.ask(1);
    ledger.tell({{static_cast<std::int64_t>(ledger.size()) - 1, TrialStatus::Done, score}});
  };
  add({0, 0, 0, 0}, 0.99);  // the best, but too old
  add({1, 1, 1, 1}, 0.1);
  add({2, 2, 2, 2}, 0.5);
  add({0, 0, 1, 1}, 0.2);
  Draws draws(context);
  // A sample this large holds the best of the three youngest.
  const auto children =
      next_generation(context, ledger, TrialPurpose::Search, {3, 200, 5}, 100, {}, draws);
  ASSERT_EQ(children.size(), 5u);
  for (const Genotype& child : children) {
    int different = 0;
    for (std::size_t i = 6; i < 10; ++i) different += child.values[i] != 2;
    EXPECT_EQ(different, 1) << "a child of 2 2 2 2";
  }
}

TEST(RegularizedEvolution, WithObjectivesCheapParentsCountToo) {
  const Walk walk;
  const StrategyContext context = walk.context("regularized", {"scale"}, 100);
  Ledger ledger("test");
  const auto add = [&](int filters, double score) {
    Proposal p;
    p.genotype = context.start;
    p.genotype.values[12] = filters;
    ledger.add(p);
    ledger.ask(1);
    ledger.tell({{static_cast<std::int64_t>(ledger.size()) - 1, TrialStatus::Done, score}});
  };
  add(0, 0.8);   // x1
  add(1, 0.7);   // x0.5: worse but cheaper, on the front
  add(3, 0.75);  // x1.5: costlier and worse than x1, dominated
  std::map<int, int> parents;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    StrategyContext c = context;
    c.rng = Rng(seed);
    Draws draws(c);
    const auto child =
        next_generation(c, ledger, TrialPurpose::Search, {3, 20, 1}, 1, {"parameters"}, draws);
    // Mutations of other genes keep the parent's filters.
    if (child[0].values[10] != 0 || child[0].values[11] != 0) ++parents[child[0].values[12]];
  }
  EXPECT_GT(parents[0], 0);
  EXPECT_GT(parents[1], 0);
  EXPECT_EQ(parents[3], 0);
}

TEST(RegularizedEvolution, FindsBetterNetworksThanRandomSearchWithAsManyTrials) {
  const Walk walk;
  double evolved = 0, random = 0;
  const std::vector<std::string> groups{"topology", "operations"};
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    evolved += best_of(drive(*make_strategy(walk.context("regularized", groups, 40, seed))));
    random += best_of(drive(*make_strategy(walk.context("random", groups, 40, seed))));
  }
  EXPECT_GT(evolved, random);
}

// ---- searches over a super-network ----

/// Inherited scores agree with own ones up to `noise`.
std::function<double(const Proposal&)> inherited_with(double noise) {
  return [noise](const Proposal& p) {
    if (p.purpose != TrialPurpose::Inherited) return walk_quality(p.genotype);
    Rng rng = Rng("inherited")
                  .split("g",
                         p.genotype.values[6],
                         p.genotype.values[7],
                         p.genotype.values[8],
                         p.genotype.values[9]);
    return 0.5 * walk_quality(p.genotype) + noise * rng.normal();
  };
}

TEST(SupernetSearch, GoldenTranscriptOfASinglePath) {
  const Walk walk;
  StrategyContext context = walk.context("single_path", {"operations"}, 0);
  context.budget.candidates = 12;
  context.budget.trials = 4;
  context.stage.set("search", "regularized");
  auto strategy = make_strategy(context);
  EXPECT_EQ(transcript(drive(*strategy)), R"( 0 super-net 012210 2222 000 share 0.5500
 1 inherited 012210 0021 000 share 0.0125
 2 inherited 012210 0100 000 share 0.0125
 3 inherited 012210 1022 000 share 0.0125
 4 inherited 012210 2222 000 share 0.0125 baseline
 5 inherited 012210 0222 000 share 0.0125
 6 inherited 012210 2022 000 share 0.0125
 7 inherited 012210 2220 000 share 0.0125
 8 inherited 012210 2221 000 share 0.0125
 9 inherited 012210 2121 000 share 0.0125
10 inherited 012210 2201 000 share 0.0125
11 inherited 012210 1121 000 share 0.0125
12 inherited 012210 2021 000 share 0.0125
13 search    012210 2121 000 share 0.0750
14 search    012210 2222 000 share 0.0750 baseline
15 search    012210 0021 000 share 0.0750
16 search    012210 0100 000 share 0.0750
)");
}

TEST(SupernetSearch, RequestAndSourceTellTheEvaluatorWhatToDo) {
  const Walk walk;
  StrategyContext context = walk.context("differentiable", {"operations"}, 0);
  context.stage.set("merge", "exact");
  context.stage.set("order", 2);
  context.stage.set("warmup", 0.25);
  context.budget.trials = 5;
  auto strategy = make_strategy(context);
  const std::vector<Proposal> all = drive(*strategy);
  EXPECT_EQ(
      Json::parse(all[0].request),
      (Json{{"method", "differentiable"}, {"merge", "exact"}, {"order", 2}, {"warmup", 0.25}}));
  EXPECT_EQ(all[0].purpose, TrialPurpose::SuperNet);
  EXPECT_EQ(all[0].genotype, context.start);
  ASSERT_EQ(all.size(), 11u);
  for (std::size_t i = 1; i < 11; ++i) {
    EXPECT_EQ(all[i].purpose, i < 6 ? TrialPurpose::Inherited : TrialPurpose::Search);
    EXPECT_EQ(all[i].source, i < 6 ? 0 : -1);
  }
  // The decoded one is scored, trained and wins: toy scores rank perfectly.
  const Genotype decoded{{0, 1, 2, 2, 1, 0, 2, 1, 2, 1, 0, 0, 0}};
  EXPECT_EQ(std::ranges::count(all, decoded, &Proposal::genotype), 2);
  EXPECT_EQ(strategy->winner().genotype, decoded);
  EXPECT_THAT(strategy->winner().how, HasSubstr("decoded"));
  const Json story = Json::parse(strategy->story());
  EXPECT_EQ(story["decoded"], walk.space.to_text(decoded));
  EXPECT_EQ(story["rank_trials"]["compared"], 5);
  EXPECT_THAT(strategy->winner().how, HasSubstr("5 trainings planned instead of 8"));
}

TEST(SupernetSearch, SmallSpacesAreScoredWholeAndLargeOnesRefuseThat) {
  const Walk walk;
  StrategyContext context = walk.context("single_path", {"operations"}, 0);
  context.budget.candidates = 100;
  context.stage.set("search", "auto");
  auto strategy = make_strategy(context);
  EXPECT_EQ(drive(*strategy).size(), 1u + 81 + 8);
  EXPECT_EQ(Json::parse(strategy->story())["search"], "exhaustive");
  // The best of all, exactly.
  EXPECT_EQ(strategy->winner().genotype, (Genotype{{0, 1, 2, 2, 1, 0, 2, 1, 2, 1, 0, 0, 0}}));
  context.budget.candidates = 80;
  EXPECT_EQ(Json::parse(make_strategy(context)->story())["search"], "regularized");
  context.budget.candidates = 10;
  EXPECT_EQ(Json::parse(make_strategy(context)->story())["search"], "random");
  context.stage.set("search", "exhaustive");
  ErrorKind kind{};
  EXPECT_THAT(error_of([&] { make_strategy(context); }, &kind), HasSubstr("exhaustive"));
  EXPECT_EQ(kind, ErrorKind::Usage);
}

TEST(SupernetSearch, OwnTrainingsSpanTheRankingAndGiveTau) {
  const Walk walk;
  StrategyContext context = walk.context("single_path", {"operations"}, 0);
  context.budget.candidates = 100;
  auto strategy = make_strategy(context);
  const std::vector<Proposal> all = drive(*strategy, inherited_with(0.004));
  std::vector<double> inherited, own;
  for (const Proposal& p : all) {
    if (p.purpose != TrialPurpose::Search) continue;
    EXPECT_DOUBLE_EQ(p.share, context.stage.number("rank_share") / 8);
    Proposal scored = p;
    scored.purpose = TrialPurpose::Inherited;
    inherited.push_back(inherited_with(0.004)(scored));
    own.push_back(walk_quality(p.genotype));
  }
  ASSERT_EQ(own.size(), 8u);
  EXPECT_TRUE(std::ranges::is_sorted(inherited, std::greater<>())) << "from the best to the worst";
  double best = -1, worst = 2;
  for (const Proposal& p : all) {
    if (p.purpose != TrialPurpose::Inherited) continue;
    best = std::max(best, inherited_with(0.004)(p));
    worst = std::min(worst, inherited_with(0.004)(p));
  }
  EXPECT_EQ(inherited.front(), best);
  EXPECT_EQ(inherited.back(), worst);
  const Json story = Json::parse(strategy->story());
  EXPECT_NEAR(story["tau"], kendall_tau_b(inherited, own), 1e-12);
  EXPECT_EQ(story["ranked"], true);
  EXPECT_DOUBLE_EQ(strategy->winner().score, best);
}

TEST(SupernetSearch, WithoutRankQualityTheRecipeDecides) {
  const Walk walk;
  StrategyContext context = walk.context("single_path", {"operations"}, 0);
  context.budget.candidates = 40;
  context.stage.set("search", "random");
  const auto nonsense = inherited_with(10);
  context.stage.set("on_unranked", "direct");
  auto direct = make_strategy(context);
  const auto all = drive(*direct, nonsense);
  const Json story = Json::parse(direct->story());
  ASSERT_EQ(story["ranked"], false) << story.dump(1);
  double best = -1;
  for (const Proposal& p : all) {
    if (p.purpose == TrialPurpose::Search) best = std::max(best, walk_quality(p.genotype));
  }
  EXPECT_EQ(direct->winner().score, best);
  EXPECT_THAT(direct->winner().how, AllOf(HasSubstr("own training"), HasSubstr("no sign")));
  context.stage.set("on_unranked", "continue");
  auto on = make_strategy(context);
  drive(*on, nonsense);
  EXPECT_THAT(on->winner().how, AllOf(HasSubstr("inherited"), HasSubstr("no sign")));
  EXPECT_NE(on->winner().genotype, direct->winner().genotype);
}

TEST(SupernetSearch, AFailedSuperNetworkLeavesOwnTrainings) {
  const Walk walk;
  auto strategy = make_strategy(walk.context("single_path", {"operations"}, 0));
  const auto first = strategy->ask(10);
  ASSERT_EQ(first.size(), 1u);
  strategy->tell({{0, TrialStatus::OutOfMemory, 0}});
  const auto rest = drive(*strategy);
  ASSERT_EQ(rest.size(), 8u);
  EXPECT_EQ(rest[0].label, "baseline");
  for (const Proposal& p : rest) EXPECT_EQ(p.purpose, TrialPurpose::Search);
  EXPECT_THAT(strategy->winner().how, HasSubstr("super-network failed"));
}

TEST(SupernetSearch, SharesThatDoNotAddUpAreAnError) {
  const Walk walk;
  StrategyContext context = walk.context("single_path", {"operations"}, 0);
  context.stage.set("supernet_share", 0.8);
  EXPECT_THAT(error_of([&] { make_strategy(context); }), HasSubstr("supernet_share"));
}

// ---- compound scaling ----

TEST(CompoundScaling, FactorsAreReadFromTheGenes) {
  const WalkSpace space;
  Genotype g = space.baseline();
  EXPECT_EQ(scale_factors(space, g, g), ScaleFactors{});
  g.values[10] = 1;
  g.values[11] = 2;
  g.values[12] = 3;
  const ScaleFactors f = scale_factors(space, space.baseline(), g);
  EXPECT_NEAR(f.resolution, 0.75, 1e-12);
  EXPECT_NEAR(f.depth, 16.0 / 12, 1e-12);
  EXPECT_NEAR(f.width, 1.5, 1e-12);
  class Worded : public WalkSpace {
    std::vector<Gene> worded_{{"filters", "scale", {"1", "many"}}};
    const std::vector<Gene>& genes() const override { return worded_; }
  };
  EXPECT_THAT(error_of([] { scale_factors(Worded(), {{0}}, {{1}}); }),
              AllOf(HasSubstr("filters"), HasSubstr("many")));
}

TEST(CompoundScaling, EveryScaleGeneOfC2fnasCounts) {
  const auto space = make_space(example_description("c2fnas"));
  for (std::size_t g = 0; g < space->genes().size(); ++g) {
    if (space->genes()[g].group != "scale" || space->genes()[g].count() < 2) continue;
    Genotype other = space->start();
    other.values[g] = 1;
    EXPECT_NE(scale_factors(*space, space->start(), other), ScaleFactors{})
        << space->genes()[g].name;
  }
}

TEST(CompoundScaling, TheRuleItselfIsAtDistanceZero) {
  for (const double phi : {-2.0, 0.0, 0.5, 3.0}) {
    EXPECT_NEAR(
        distance_to_rule({std::pow(1.2, phi), std::pow(1.1, phi), std::pow(1.15, phi)}), 0, 1e-12);
  }
  // One axis alone: what is left of it across the line.
  const double a = std::log(1.2), b = std::log(1.1), c = std::log(1.15), x = std::log(2.0);
  EXPECT_NEAR(
      distance_to_rule({2, 1, 1}), x * std::sqrt((b * b + c * c) / (a * a + b * b + c * c)), 1e-12);
}

TEST(CompoundScaling, TrainsTheStartThenSingleStepsThenWhatLiesNearestToTheRule) {
  const Walk walk;
  StrategyContext context = walk.context("scaling", {}, 36);
  context.stage.set("warm_start", true);
  auto strategy = make_strategy(context);
  const std::vector<Proposal> all = drive(*strategy);
  ASSERT_EQ(all.size(), 36u);
  EXPECT_EQ(all[0].genotype, context.start);
  const std::vector<ScaleFactors> steps = {
      {14.0 / 12, 1, 1}, {1, 1, 1.25}, {1, 1.5, 1}, {1, 0.75, 1}, {1, 1, 0.75}};
  double before = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_TRUE(all[i].warm_start);
    const ScaleFactors factors = scale_factors(walk.space, context.start, all[i].genotype);
    if (i >= 1 && i <= steps.size()) {
      EXPECT_NEAR(factors.depth, steps[i - 1].depth, 1e-9) << i;
      EXPECT_NEAR(factors.width, steps[i - 1].width, 1e-9) << i;
      EXPECT_NEAR(factors.resolution, steps[i - 1].resolution, 1e-9) << i;
      continue;
    }
    const double distance = distance_to_rule(factors);
    EXPECT_GE(distance, before - 1e-8);
    before = distance;
  }
  context.budget.trials = 5;
  auto few = make_strategy(context);
  const std::vector<Proposal> first = drive(*few);
  ASSERT_EQ(first.size(), 5u);
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(first[i].genotype, all[i].genotype);
  context.stage.groups = {"topology", "operations", "scale"};
  EXPECT_THAT(error_of([&] { make_strategy(context); }), HasSubstr("more than"));
}

TEST(CompoundScaling, TheFittedRuleIsTheOneThatMadeThePoints) {
  // Networks on a rule of their own get better with cost; others cost as much and are worse.
  const ScalingRule rule{1.3, 1.2, 1.05};
  std::vector<ScaledPoint> points;
  for (const double phi : {-1.0, 0.0, 0.5, 1.0, 2.0}) {
    const ScaleFactors on{
        std::pow(rule.alpha, phi), std::pow(rule.beta, phi), std::pow(rule.gamma, phi)};
    points.push_back({on, std::exp2(phi), 0.8 + 0.02 * phi});
    points.push_back({{std::exp2(phi), 1, 1}, std::exp2(phi), 0.7 + 0.02 * phi});
  }
  const auto fitted = fit_scaling_rule(points);
  ASSERT_TRUE(fitted);
  EXPECT_NEAR(fitted->alpha, rule.alpha, 1e-12);
  EXPECT_NEAR(fitted->beta, rule.beta, 1e-12);
  EXPECT_NEAR(fitted->gamma, rule.gamma, 1e-12);
  EXPECT_EQ(fitted->points, 4) << "those on the rule but the start";
  EXPECT_FALSE(fit_scaling_rule({{{1, 1, 1}, 1, 0.8}})) << "nothing but the start";
  EXPECT_FALSE(fit_scaling_rule({{{1, 1, 1}, 1, 0.8}, {{1.2, 1, 1}, 1.2, 0.9}}))
      << "one network alone lies on any rule";
  EXPECT_FALSE(fit_scaling_rule({}));

  const Walk walk;
  auto strategy = make_strategy(walk.context("scaling", {"scale"}, 36));
  drive(*strategy, [&](const Proposal& p) {  // wider is better, and nothing else
    return 0.5 + 0.1 * scale_factors(walk.space, walk.space.baseline(), p.genotype).width;
  });
  const Json story = Json::parse(strategy->story());
  EXPECT_NEAR(story["rule"]["depth"], 1.2, 1e-12);
  EXPECT_EQ(story["fitted"]["depth"], 1);
  EXPECT_GT(story["fitted"]["width"], 1.1) << story["fitted"].dump();
  EXPECT_EQ(story["points"].size(), 36u);
}

}  // namespace
}  // namespace nas
