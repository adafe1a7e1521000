// SPDX-License-Identifier: Apache-2.0
// What strategies share: rank correlation, Pareto fronts, the ledger of proposals.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "nas/core/error.h"
#include "nas/search/ledger.h"
#include "nas/search/pareto.h"
#include "nas/search/statistics.h"

namespace nas {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// ---- Kendall's tau ----

/// By the definition with tie groups: (C - D) / sqrt((n0 - n1) (n0 - n2)).
double naive_tau_b(const std::vector<double>& x, const std::vector<double>& y) {
  const auto pairs = [](double n) { return n * (n - 1) / 2; };
  const auto tied = [&](const std::vector<double>& values) {
    std::map<double, int> groups;
    for (const double v : values) ++groups[v];
    double sum = 0;
    for (const auto& [value, count] : groups) sum += pairs(count);
    return sum;
  };
  double concordant = 0, discordant = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    for (std::size_t j = i + 1; j < x.size(); ++j) {
      const double product = (x[i] - x[j]) * (y[i] - y[j]);
      concordant += product > 0;
      discordant += product < 0;
    }
  }
  const double all = pairs(static_cast<double>(x.size()));
  return (concordant - discordant) / std::sqrt((all - tied(x)) * (all - tied(y)));
}

TEST(KendallTau, EqualsPublishedAndNaiveValues) {
  // The example of scipy.stats.kendalltau.
  EXPECT_NEAR(
      kendall_tau_b(std::vector<double>{12, 2, 1, 12, 2}, std::vector<double>{1, 4, 7, 1, 0}),
      -0.47140452079103173,
      1e-15);
  Rng rng("tau");
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<double> x, y;
    for (std::int64_t n = rng.integer(3, 20); n > 0; --n) {
      x.push_back(static_cast<double>(rng.integer(0, 6)));
      y.push_back(static_cast<double>(rng.integer(0, 6)));
    }
    const double expected = naive_tau_b(x, y);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(kendall_tau_b(x, y)));
    } else {
      EXPECT_NEAR(kendall_tau_b(x, y), expected, 1e-12);
    }
  }
  EXPECT_TRUE(std::isnan(kendall_tau_b(std::vector<double>{1, 1}, std::vector<double>{1, 2})));
  EXPECT_TRUE(std::isnan(kendall_tau_b({}, {})));
}

TEST(KendallTau, TheIntervalTellsAgreementFromChance) {
  std::vector<double> x, same, noise;
  Rng rng("agreement");
  for (int i = 0; i < 8; ++i) {
    x.push_back(i);
    same.push_back(0.5 * i + 3);
    noise.push_back(rng.uniform());
  }
  const RankAgreement perfect = rank_agreement(x, same, Rng(1));
  EXPECT_EQ(perfect.tau, 1);
  EXPECT_EQ(perfect.interval.low, 1);
  EXPECT_TRUE(perfect.ranked());
  const RankAgreement none = rank_agreement(x, noise, Rng(1));
  EXPECT_LT(none.interval.low, none.tau);
  EXPECT_GT(none.interval.high, none.tau);
  EXPECT_FALSE(none.ranked());
  EXPECT_EQ(rank_agreement(x, noise, Rng(1)).interval.low, none.interval.low);
  const RankAgreement few =
      rank_agreement(std::vector<double>{1, 2, 3}, std::vector<double>{1, 2, 3}, Rng(1));
  EXPECT_EQ(few.tau, 1);
  EXPECT_FALSE(few.ranked()) << "three are in order by chance once in six";
  const RankAgreement nothing =
      rank_agreement(std::vector<double>{1}, std::vector<double>{1}, Rng(1));
  EXPECT_TRUE(std::isnan(nothing.tau));
  EXPECT_FALSE(nothing.ranked());
}

TEST(KendallTau, TheIntervalCoversTheTrueValueAboutAsOftenAsItSays) {
  // Pairs with a known rank correlation: of a bivariate normal, tau = 2 / pi asin(rho).
  const double rho = 0.6, tau = 2 / M_PI * std::asin(rho);
  Rng rng("coverage");
  int covered = 0;
  const int experiments = 200;
  for (int e = 0; e < experiments; ++e) {
    std::vector<double> x, y;
    for (int i = 0; i < 30; ++i) {
      const double a = rng.normal(), b = rng.normal();
      x.push_back(a);
      y.push_back(rho * a + std::sqrt(1 - rho * rho) * b);
    }
    const Interval interval = rank_agreement(x, y, rng.split("b", e), 0.95, 400).interval;
    covered += interval.low <= tau && tau <= interval.high;
  }
  // The percentile bootstrap of so few pairs is a little narrow: 0.87 to 1 around 0.95.
  EXPECT_GE(covered, 0.87 * experiments);
}

// ---- Pareto ----

bool dominates(const std::vector<double>& a, const std::vector<double>& b) {
  bool less = false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] > b[i]) return false;
    less |= a[i] < b[i];
  }
  return less;
}

TEST(Pareto, FrontsAreWhatTheDefinitionSays) {
  Rng rng("pareto");
  for (int trial = 0; trial < 50; ++trial) {
    std::vector<std::vector<double>> points(30);
    for (auto& point : points) {
      for (int k = 0; k < 3; ++k) point.push_back(static_cast<double>(rng.integer(0, 6)));
    }
    const std::vector<int> fronts = pareto_fronts(points);
    for (std::size_t i = 0; i < points.size(); ++i) {
      int deepest = -1;  // front of the worst point that dominates i
      for (std::size_t j = 0; j < points.size(); ++j) {
        if (dominates(points[j], points[i])) deepest = std::max(deepest, fronts[j]);
      }
      EXPECT_EQ(fronts[i], deepest + 1);
    }
  }
}

TEST(Pareto, CrowdingDistancesByHand) {
  const std::vector<std::vector<double>> points{{0, 4}, {1, 2}, {3, 1}, {4, 0}, {9, 9}};
  const std::vector<int> fronts = pareto_fronts(points);
  EXPECT_THAT(fronts, ElementsAre(0, 0, 0, 0, 1));
  const std::vector<double> distance = crowding_distances(points, fronts);
  EXPECT_TRUE(std::isinf(distance[0]) && std::isinf(distance[3]) && std::isinf(distance[4]));
  EXPECT_DOUBLE_EQ(distance[1], 3.0 / 4 + 3.0 / 4);
  EXPECT_DOUBLE_EQ(distance[2], 3.0 / 4 + 2.0 / 4);
}

// ---- ledger ----

TEST(Ledger, GivesOutEachProposalOnceAndKnowsTheBest) {
  Ledger ledger("test");
  for (int i = 0; i < 3; ++i) {
    Proposal p;
    p.genotype = {{i}};
    EXPECT_EQ(ledger.add(p), i);
  }
  EXPECT_EQ(ledger.ask(2).size(), 2u);
  EXPECT_EQ(ledger.ask(9).size(), 1u);
  EXPECT_TRUE(ledger.ask(9).empty());
  EXPECT_FALSE(ledger.best_training().found);
  ledger.tell({{0, TrialStatus::Done, 0.5}, {1, TrialStatus::Nan, 0}, {2, TrialStatus::Done, 0.5}});
  EXPECT_TRUE(ledger.complete());
  EXPECT_EQ(ledger.best(), 0) << "the first of equal ones";
  EXPECT_EQ(ledger.best_training().genotype, (Genotype{{0}}));
  EXPECT_FALSE(ledger.best(TrialPurpose::Inherited));
  EXPECT_THROW(ledger.tell({{0, TrialStatus::Done, 1}}), Error) << "told twice";
  EXPECT_THROW(ledger.tell({{7, TrialStatus::Done, 1}}), Error) << "never asked for";
}

TEST(Ledger, DamagedStatesAreErrorsThatNameTheKey) {
  Ledger ledger("test");
  ledger.add({});
  ledger.ask(1);
  ledger.tell({{0, TrialStatus::Done, 0.5}});
  const Json whole = ledger.save();
  const auto message = [&](auto&& damage) -> std::string {
    Json broken = whole;
    damage(broken);
    try {
      Ledger("test").load(JsonReader(broken, "state"));
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(message([](Json&) {}), "no error");
  EXPECT_THAT(message([](Json& j) { j["asked"] = 5; }), HasSubstr("asked"));
  EXPECT_THAT(message([](Json& j) { j["asked"] = 0; }), HasSubstr("never asked"));
  EXPECT_THAT(message([](Json& j) { j["rows"][0]["source"] = 0; }), HasSubstr("source"));
  EXPECT_THAT(message([](Json& j) { j["rows"][0]["purpose"] = "fun"; }), HasSubstr("purpose"));
  EXPECT_THAT(message([](Json& j) { j["rows"][0]["outcome"].erase("score"); }), HasSubstr("score"));
  EXPECT_THAT(message([](Json& j) { j["rows"][0]["genotype"] = {-1}; }), HasSubstr("genotype"));
}

}  // namespace
}  // namespace nas
