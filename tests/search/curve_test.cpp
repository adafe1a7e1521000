// SPDX-License-Identifier: Apache-2.0
// Extrapolated learning curves against power laws whose end is known.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "nas/search/curve.h"

namespace nas {
namespace {

/// A training whose score is c - a (steps / 100)^-b.
struct Law {
  double c = 0.9, a = 0.05, b = 0.7, cost = 1;
  double at(double effort) const { return c - a * std::pow(effort / cost / 100, -b); }
};

/// Seen at these efforts on `cases` cases: their difficulty is shared, `own` is the deviation of a
/// network's own difference on a case, and every look wobbles.
std::vector<LearningCurve> observe(const std::vector<Law>& laws,
                                   const std::vector<double>& efforts,
                                   int cases,
                                   double own,
                                   Rng rng) {
  std::vector<double> difficulty;
  for (int j = 0; j < cases; ++j) difficulty.push_back(0.1 * rng.normal());
  std::vector<LearningCurve> curves;
  for (const Law& law : laws) {
    std::vector<double> differences;
    for (int j = 0; j < cases; ++j) differences.push_back(own * rng.normal());
    LearningCurve curve;
    curve.relative_cost = law.cost;
    for (const double effort : efforts) {
      CurvePoint point{.effort = effort};
      const double wobble = 0.003 * rng.normal();
      double sum = 0;
      for (int j = 0; j < cases; ++j) {
        const auto place = static_cast<std::size_t>(j);
        point.cases.push_back(law.at(effort) + wobble + difficulty[place] + differences[place] +
                              0.3 * own * rng.normal());
        sum += point.cases.back();
      }
      // The shared part moves all curves alike; it is taken out to compare with the laws.
      for (const double d : difficulty) sum -= d;
      point.score = sum / cases;
      curve.points.push_back(std::move(point));
    }
    curves.push_back(std::move(curve));
  }
  return curves;
}

TEST(Curve, TheIntervalsOfTheEndCoverIt) {
  Rng rng("laws");
  const double horizon = 1000;
  int covered = 0, all = 0;
  double error = 0, naive = 0;
  for (int experiment = 0; experiment < 40; ++experiment) {
    const double a = 0.06 * std::exp(0.8 * rng.normal()), b = 0.75 * std::exp(0.4 * rng.normal());
    std::vector<Law> laws;
    for (int i = 0; i < 6; ++i) {
      laws.push_back({.c = 0.88 + 0.02 * rng.normal(),
                      .a = a * std::exp(0.35 * rng.normal()),
                      .b = b * std::exp(0.2 * rng.normal()),
                      .cost = std::exp(rng.uniform(-2, 0.5))});
    }
    const auto curves = observe(laws, {25, 50, 100}, 30, 0.03, rng.split("look", experiment));
    const Extrapolation ahead = extrapolate(curves, horizon, 0.005, {}, Rng(1), 500);
    for (std::size_t i = 0; i < laws.size(); ++i) {
      const double truth = laws[i].at(horizon);
      covered += std::abs(truth - ahead.mean[i]) <= 1.645 * ahead.sd[i];
      error += std::abs(truth - ahead.mean[i]);
      naive += std::abs(truth - curves[i].points.back().score);
      ++all;
    }
  }
  EXPECT_GE(covered, 0.8 * all) << "of 90 %";
  EXPECT_LE(covered, 0.99 * all) << "wider than they need be";
  EXPECT_LT(error, 0.6 * naive) << "than taking the last score for the end";
}

TEST(Curve, OneThatLeadsEarlyIsSeenToBeOvertaken) {
  // The small network makes ten steps where the others make one.
  const std::vector<Law> laws{{.c = 0.89, .cost = 1},
                              {.c = 0.86, .cost = 0.1},
                              {.c = 0.885, .cost = 0.9},
                              {.c = 0.86, .cost = 0.12}};
  const auto curves = observe(laws, {20, 40, 80}, 30, 0.01, Rng(2));
  ASSERT_GT(curves[1].points.back().score, curves[0].points.back().score + 0.01);
  const Extrapolation ahead = extrapolate(curves, 1000, 0.005, {}, Rng(1));
  EXPECT_GT(ahead.best[0] + ahead.best[2], 0.7);
  EXPECT_GT(ahead.mean[0], ahead.mean[1]);
  EXPECT_LT(ahead.mean[0] + 1e-9, 1);
  double sum = 0;
  for (const double p : ahead.best) sum += p;
  EXPECT_NEAR(sum, 1, 1e-9);
  EXPECT_GT(ahead.slope[0], ahead.slope[1]) << "the small one has learnt what it can";
  EXPECT_GE(ahead.gain, 0);
}

TEST(Curve, WhatCasesHaveInCommonDoesNotCount) {
  const std::vector<Law> laws{{.c = 0.89}, {.c = 0.87}, {.c = 0.88}};
  const std::vector<double> efforts{100, 200, 400, 800};
  const Extrapolation alike =
      extrapolate(observe(laws, efforts, 12, 0.005, Rng(3)), 1000, 0.005, {}, Rng(1));
  EXPECT_GT(alike.best[0], 0.85);
  EXPECT_LT(alike.within[1], 0.15);
  // The same scores, but each network has difficult cases of its own: nothing can be told.
  auto apart = observe(laws, efforts, 12, 0.005, Rng(3));
  for (std::size_t i = 0; i < apart.size(); ++i) {
    for (CurvePoint& point : apart[i].points) {
      std::rotate(point.cases.begin(),
                  point.cases.begin() + static_cast<std::ptrdiff_t>(4 * i),
                  point.cases.end());
    }
  }
  const Extrapolation own = extrapolate(apart, 1000, 0.005, {}, Rng(1));
  EXPECT_GT(own.sd[0], 1.5 * alike.sd[0]);
  EXPECT_LT(own.best[0], alike.best[0]);
}

TEST(Curve, VarianceOfCasesByHand) {
  std::vector<LearningCurve> curves(2);
  curves[0].points = {{.effort = 1, .score = 0.5, .cases = {0.2, 0.8, NAN}}};
  curves[1].points = {{.effort = 1, .score = 0.5, .cases = {0.4, 0.6, 0.5}}};
  // Half differences -0.1 and 0.1: variance 0.02, twice (two curves), over two cases; the second
  // has its own median on the third case.
  const std::vector<double> variances = case_variances(curves, 0, {});
  EXPECT_NEAR(variances[0], 0.02, 1e-12);
  EXPECT_NEAR(variances[1], 0.01 * 2 / 3, 1e-12);
  curves[1].points[0].cases.clear();
  const CurvePrior prior;
  EXPECT_NEAR(case_variances(curves, 0, prior)[0], prior.case_sd * prior.case_sd / 2, 1e-12)
      << "nothing to compare with";
}

TEST(Curve, OneThatCollapsedChangesNothingForTheOthers) {
  std::vector<Law> laws{{.c = 0.89}, {.c = 0.87}, {.c = 0.88}};
  auto curves = observe(laws, {50, 100, 200}, 20, 0.005, Rng(4));
  const Extrapolation before = extrapolate(curves, 1000, 0.005, {}, Rng(1));
  LearningCurve collapsed = curves[0];
  for (CurvePoint& point : collapsed.points) {
    point.score = 0.02;
    point.cases.assign(20, 0.02);
  }
  curves.push_back(collapsed);
  const Extrapolation after = extrapolate(curves, 1000, 0.005, {}, Rng(1));
  for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(after.mean[i], before.mean[i], 0.01);
  EXPECT_LT(after.within[3], 0.05);
}

TEST(Curve, ThePriorThatFitsMakesTheCurvesMoreProbable) {
  std::vector<Law> laws;
  for (int i = 0; i < 6; ++i) laws.push_back({.c = 0.88 + 0.003 * i, .a = 0.03, .b = 0.9});
  const auto curves = observe(laws, {25, 50, 100, 200, 400}, 12, 0.02, Rng("evidence"));
  const CurvePrior fits;
  CurvePrior slow = fits, steady = fits;
  slow.deficit = 0.5;
  slow.exponent = 0.1;
  steady.wobble = 0.1;
  for (const CurvePrior& other : {slow, steady}) {
    EXPECT_GT(log_evidence(curves, fits), log_evidence(curves, other) + 1);
  }
}

TEST(Curve, EqualArgumentsGiveEqualResults) {
  const auto curves = observe({{.c = 0.89}, {.c = 0.87}}, {50, 100}, 10, 0.01, Rng(5));
  EXPECT_EQ(extrapolate(curves, 500, 0.005, {}, Rng(7)).draws,
            extrapolate(curves, 500, 0.005, {}, Rng(7)).draws);
}

}  // namespace
}  // namespace nas
