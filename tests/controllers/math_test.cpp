// SPDX-License-Identifier: Apache-2.0
// What the controllers compute: gradients against finite differences, tails, densities, sequences.
#include <gtest/gtest.h>

#include <Eigen/LU>
#include <cmath>
#include <numbers>
#include <set>

#include "experiments/bench/controllers/problems.h"
#include "nas/controllers/bounded_minimum.h"
#include "nas/controllers/expected_improvement.h"
#include "nas/controllers/gaussian_process.h"
#include "nas/controllers/observations.h"
#include "nas/controllers/parzen.h"
#include "nas/controllers/policy_network.h"
#include "nas/controllers/prior_sampling.h"
#include "nas/core/rng.h"
#include "nas/search/sobol_points.h"
#include "nas/search/unit_space.h"

namespace nas {
namespace {

// ---- expected improvement ----

TEST(ExpectedImprovement, EqualsTheFormulaWhereThatIsExact) {
  for (const double z : {-4.9, -3.0, -1.0, 0.0, 0.5, 3.0, 10.0}) {
    const double h = std::exp(-0.5 * z * z) / std::sqrt(2 * std::numbers::pi) +
                     z * 0.5 * std::erfc(-z / std::numbers::sqrt2);
    EXPECT_NEAR(log_h(z), std::log(h), 1e-12) << z;
  }
}

TEST(ExpectedImprovement, TheTailIsSmoothAndKnown) {
  // mpmath, 30 digits: log(npdf(z) + z ncdf(z)).
  EXPECT_NEAR(log_h(-6), -22.5788793921697, 1e-11);
  EXPECT_NEAR(log_h(-20), -206.917838509425, 1e-10);
  EXPECT_NEAR(log_h(-50), -1258.744182868461, 1e-8);
  // No step where the branches meet: the second difference is that of a smooth function.
  for (const double z : {-5.0, -40.0}) {
    const double e = 1e-4;
    EXPECT_NEAR(log_h(z + e) - 2 * log_h(z) + log_h(z - e), -e * e, 5e-8) << z;
  }
  EXPECT_TRUE(std::isfinite(log_h(-1e8)));
}

TEST(ExpectedImprovement, DerivativesAreThoseOfTheValue) {
  for (const double mean : {-60.0, -8.0, -1.0, 0.3, 4.0}) {
    for (const double sd : {0.5, 1.0, 2.0}) {
      const LogImprovement at = log_expected_improvement(mean, sd, 0.1);
      const double e = 1e-6;
      const double by_mean = (log_expected_improvement(mean + e, sd, 0.1).value -
                              log_expected_improvement(mean - e, sd, 0.1).value) /
                             (2 * e);
      const double by_sd = (log_expected_improvement(mean, sd + e, 0.1).value -
                            log_expected_improvement(mean, sd - e, 0.1).value) /
                           (2 * e);
      EXPECT_NEAR(at.by_mean, by_mean, 1e-5 * std::abs(by_mean)) << mean << ' ' << sd;
      EXPECT_NEAR(at.by_sd, by_sd, 1e-5 * std::abs(by_sd) + 1e-8) << mean << ' ' << sd;
    }
  }
}

// ---- Gaussian process ----

struct Toy {
  Eigen::MatrixXd points{3, 12};
  Eigen::VectorXd values{12};
  std::vector<char> category{0, 0, 1};
  Toy() {
    Rng rng("gp toy");
    for (Eigen::Index i = 0; i < points.cols(); ++i) {
      points(0, i) = rng.uniform();
      points(1, i) = rng.uniform();
      points(2, i) = static_cast<double>(rng.integer(0, 3));
      values[i] = std::sin(5 * points(0, i)) + points(1, i) + 0.5 * points(2, i) - 1;
    }
  }
};

GpParameters some_parameters() {
  GpParameters p = GpParameters::standard(3);
  p.log_length << -0.4, 0.2, 0.5;
  p.log_variance = 0.3;
  p.log_noise = -3;
  return p;
}

TEST(GaussianProcess, ThePosteriorsGradientEqualsFiniteDifferences) {
  const Toy toy;
  for (const std::vector<int>& groups :
       {std::vector<int>{}, std::vector<int>{1, 1, 1, 2, 2, 0, 0, 0, 0, 0, 0, 0}}) {
    const GaussianProcess process(toy.points, toy.category, groups);
    const Eigen::VectorXd x = some_parameters().packed();
    Eigen::VectorXd gradient;
    process.log_posterior(toy.values, some_parameters(), &gradient);
    for (Eigen::Index i = 0; i < x.size(); ++i) {
      const double e = 1e-5;
      Eigen::VectorXd up = x, down = x;
      up[i] += e;
      down[i] -= e;
      const double slope = (process.log_posterior(toy.values, GpParameters::unpacked(up)) -
                            process.log_posterior(toy.values, GpParameters::unpacked(down))) /
                           (2 * e);
      EXPECT_NEAR(gradient[i], slope, 1e-6 * std::max(1.0, std::abs(slope))) << i;
    }
  }
}

TEST(GaussianProcess, PredictionsAreThoseOfTheDenseFormulaAndTheirGradientsToo) {
  const Toy toy;
  const GpParameters p = some_parameters();
  GaussianProcess process(toy.points, toy.category);
  ASSERT_TRUE(process.factor(p));
  process.condition(toy.values);
  const auto kernel = [&](const Eigen::VectorXd& a, const Eigen::VectorXd& b) {
    double squared = 0;
    for (Eigen::Index j = 0; j < 3; ++j) {
      const double d = toy.category[static_cast<std::size_t>(j)] ? (a[j] != b[j]) : a[j] - b[j];
      squared += d * d / std::exp(2 * p.log_length[j]);
    }
    const double q = std::sqrt(5 * squared);
    return std::exp(p.log_variance) * (1 + q + q * q / 3) * std::exp(-q);
  };
  Eigen::MatrixXd k(12, 12);
  for (int i = 0; i < 12; ++i) {
    for (int j = 0; j < 12; ++j) k(i, j) = kernel(toy.points.col(i), toy.points.col(j));
  }
  k.diagonal().array() += std::exp(p.log_noise);
  Eigen::VectorXd x(3), cross(12);
  x << 0.31, 0.77, 1;
  for (int i = 0; i < 12; ++i) cross[i] = kernel(x, toy.points.col(i));
  const Eigen::MatrixXd inverse = k.inverse();
  const auto at = process.predict(x);
  EXPECT_NEAR(at.mean, cross.dot(inverse * toy.values), 1e-8);
  EXPECT_NEAR(at.variance, std::exp(p.log_variance) - cross.dot(inverse * cross), 1e-8);
  Eigen::VectorXd by_mean, by_variance;
  process.predict(x, by_mean, by_variance);
  for (Eigen::Index j = 0; j < 2; ++j) {
    const double e = 1e-6;
    Eigen::VectorXd up = x, down = x;
    up[j] += e;
    down[j] -= e;
    EXPECT_NEAR(
        by_mean[j], (process.predict(up).mean - process.predict(down).mean) / (2 * e), 1e-6);
    EXPECT_NEAR(by_variance[j],
                (process.predict(up).variance - process.predict(down).variance) / (2 * e),
                1e-6);
  }
  EXPECT_EQ(by_mean[2], 0);
}

TEST(GaussianProcess, RepeatedPointsNeedNoMoreThanJitter) {
  Eigen::MatrixXd points = Eigen::MatrixXd::Constant(2, 20, 0.5);
  GaussianProcess process(points, {0, 0});
  GpParameters p = GpParameters::standard(2);
  p.log_noise = -1000;  // none
  ASSERT_TRUE(process.factor(p));
  process.condition(Eigen::VectorXd::Constant(20, 1.5));
  EXPECT_NEAR(process.predict(points.col(0)).mean, 1.5, 1e-3);
}

TEST(GaussianProcess, AFitFindsTheDimensionThatMatters) {
  Rng rng("relevance");
  Eigen::MatrixXd points(2, 30);
  Eigen::VectorXd values(30);
  for (Eigen::Index i = 0; i < 30; ++i) {
    points(0, i) = rng.uniform();
    points(1, i) = rng.uniform();
    values[i] = 1.4 * std::sin(8 * points(0, i));
  }
  const GaussianProcess process(points, {0, 0});
  const GpParameters fitted = process.fitted(values, GpParameters::standard(2), 80);
  EXPECT_GT(fitted.log_length[1], fitted.log_length[0] + 1.5);
  EXPECT_GE(process.log_posterior(values, fitted),
            process.log_posterior(values, GpParameters::standard(2)));
}

TEST(BoundedMinimum, FindsTheEdgeAndTheInside) {
  const Differentiable bowl = [](const Eigen::VectorXd& x, Eigen::VectorXd* gradient) {
    const Eigen::VectorXd off = x - Eigen::Vector2d(0.3, 2);
    if (gradient) *gradient = 2 * off;
    return off.squaredNorm();
  };
  const Minimum found = bounded_minimum(
      bowl, Eigen::Vector2d(0.9, 0.1), Eigen::Vector2d::Zero(), Eigen::Vector2d::Ones(), 50);
  EXPECT_NEAR(found.x[0], 0.3, 1e-6);
  EXPECT_NEAR(found.x[1], 1, 1e-12);
}

TEST(PairedHalfWidth, IsThatOfTheDifferences) {
  EXPECT_FALSE(paired_half_width({1}, {2}));
  EXPECT_FALSE(paired_half_width({1, 2}, {2}));
  EXPECT_NEAR(*paired_half_width({1, 2, NAN, 3}, {1, 1, 1, 1}), 1.959964 / std::sqrt(3.0), 1e-6);
}

// ---- points ----

TEST(SobolPoints, ShiftedSequencesStayEven) {
  SobolPoints sobol(3);
  for (const char* seed : {"a", "b"}) {
    const auto shift = sobol.shift(Rng(seed));
    // Every eighth of every axis holds an eighth of any 64 points in a row from one before a multiple of 64 (the
    // origin is left out).
    for (std::size_t d = 0; d < 3; ++d) {
      int counts[8] = {};
      for (std::size_t i = 63; i < 127; ++i)
        ++counts[static_cast<int>(8 * sobol.point(i, shift)[d])];
      for (const int count : counts) EXPECT_EQ(count, 8);
    }
  }
  EXPECT_NE(sobol.point(5, sobol.shift(Rng("a"))), sobol.point(5, sobol.shift(Rng("b"))));
  SobolPoints again(3);
  EXPECT_EQ(again.point(100, again.shift(Rng("a"))), sobol.point(100, sobol.shift(Rng("a"))));
}

/// A number, a choice, and a number that counts for one value of the choice only.
Problem conditional_problem() {
  const Gene rate = number_gene("rate", Gene::Kind::Real, 1e-4, 1, true);
  Gene optimizer{.name = "optimizer", .group = "training", .values = {"sgd", "adam", "muon"}};
  Gene momentum = number_gene("momentum", Gene::Kind::Real, 0, 0.99);
  momentum.parent = 1;
  momentum.active_for = {0, 2};
  momentum.planned = 9000;
  return {"conditional", {rate, optimizer, momentum}, 0, {}};
}

TEST(UnitSpace, PointsAndGenotypesGoRoundAndInactiveGenesDoNotCount) {
  const ProblemSpace space(conditional_problem());
  const UnitSpace units(space, {"training"}, space.baseline());
  ASSERT_EQ(units.size(), 3u);
  Rng rng("round");
  for (int i = 0; i < 500; ++i) {
    const Genotype g = space.sample(rng);
    EXPECT_EQ(units.genotype(units.point(g)), g);
  }
  const std::vector<double> adam = units.point({{5000, 1, 9000}});
  EXPECT_EQ(adam, (std::vector<double>{0.5, 1, UnitSpace::kInactiveNumber}));
  std::vector<double> point{0.5, 1, 0.8};
  units.settle(point);
  EXPECT_EQ(point, adam);
  EXPECT_EQ(units.genotype(std::vector<double>{0.5, 1, 0.8}), (Genotype{{5000, 1, 9000}}));
}

// ---- Parzen ----

TEST(Parzen, IsADensity) {
  const ProblemSpace space(conditional_problem());
  const UnitSpace units(space, {"training"}, space.baseline());
  std::vector<std::vector<double>> seen = {
      {0.01, 0, 0.99}, {0.3, 1, UnitSpace::kInactiveNumber}, {0.5, 2, 0.5}};
  const Parzen parzen(units, seen);
  // The integral over everything, on a grid; an inactive number has no axis.
  double sum = 0;
  const int n = 100;
  for (int i = 0; i < n; ++i) {
    for (int k = 0; k < 3; ++k) {
      for (int j = 0; j < n; ++j) {
        std::vector<double> at{(i + 0.5) / n, static_cast<double>(k), (j + 0.5) / n};
        units.settle(at);
        sum += std::exp(parzen.log_density(at)) / (n * n);
      }
    }
  }
  EXPECT_NEAR(sum, 1, 5e-3);
}

TEST(Parzen, EveryGeneOfADrawFollowsTheDensityOfThatGene) {
  const ProblemSpace space(conditional_problem());
  const UnitSpace units(space, {"training"}, space.baseline());
  const Parzen parzen(units, {{0.05, 0, 0.9}, {0.1, 0, 0.9}, {0.12, 0, 0.95}, {0.9, 2, 0.1}});
  Rng rng("draws");
  int first = 0, low = 0;
  constexpr int kDraws = 4000;
  for (int i = 0; i < kDraws; ++i) {
    const std::vector<double> p = parzen.draw(rng);
    first += p[1] == 0;
    low += p[0] < 0.25;
    for (const double each : p) EXPECT_GE(each, -1);
  }
  double wanted_first = 0, wanted_low = 0;
  const int n = 60;
  for (int i = 0; i < n; ++i) {
    for (int k = 0; k < 3; ++k) {
      for (int j = 0; j < n; ++j) {
        std::vector<double> at{(i + 0.5) / n, static_cast<double>(k), (j + 0.5) / n};
        units.settle(at);
        const double mass = std::exp(parzen.log_density(at)) / (n * n);
        wanted_first += k == 0 ? mass : 0;
        wanted_low += at[0] < 0.25 ? mass : 0;
      }
    }
  }
  EXPECT_NEAR(first / double{kDraws}, wanted_first, 0.03);
  EXPECT_NEAR(low / double{kDraws}, wanted_low, 0.03);
}

// ---- prior ----

TEST(PriorSampling, DensitiesIntegrateToOneAndTheMixFollowsThem) {
  const ProblemSpace space(conditional_problem());
  const UnitSpace units(space, {"training"}, space.baseline());
  const PriorSampling sampling(units);
  const std::vector<double> center{0.1, 0, 0.9};
  double sum = 0;
  const int n = 60;
  for (int i = 0; i < n; ++i) {
    for (int k = 0; k < 3; ++k) {
      for (int j = 0; j < n; ++j) {
        std::vector<double> at{(i + 0.5) / n, static_cast<double>(k), (j + 0.5) / n};
        units.settle(at);
        sum += std::exp(sampling.log_density(center, at)) / (n * n);
      }
    }
  }
  EXPECT_NEAR(sum, 1, 1e-3);
  Rng rng("mutants");
  int stayed = 0;
  for (int i = 0; i < 1000; ++i) stayed += sampling.mutate(center, rng)[1] == 0;
  EXPECT_NEAR(stayed, 500, 60);

  const std::vector<double> incumbent{0.9, 2, 0.1};
  EXPECT_EQ(prior_mix(sampling, 0, 3, true, center, incumbent, {}).prior, 0.5);
  EXPECT_EQ(prior_mix(sampling, 2, 3, false, center, incumbent, {center, center, center}).prior,
            0.9);
  const PriorMix near_prior =
      prior_mix(sampling, 1, 3, true, center, incumbent, {center, incumbent, incumbent});
  const PriorMix near_best =
      prior_mix(sampling, 1, 3, true, center, incumbent, {incumbent, center, center});
  EXPECT_GT(near_prior.prior, 5 * near_prior.incumbent);
  EXPECT_GT(near_best.incumbent, 5 * near_best.prior);
  EXPECT_DOUBLE_EQ(near_best.uniform + near_best.prior + near_best.incumbent, 1);
}

// ---- policy ----

TEST(PolicyNetwork, TheLosssGradientEqualsFiniteDifferences) {
  const ProblemSpace space(conditional_problem());
  const UnitSpace units(space, {"training"}, space.baseline());
  PolicyNetwork policy(units, 5, Rng("policy"));
  Rng rng("parameters");
  for (double& p : policy.parameters()) p += 0.3 * rng.normal();
  const Eigen::VectorXd input = policy.input(std::vector<double>{0.2, 2, 0.7}, 0.8);
  Eigen::VectorXd hidden(5);
  hidden << 0.1, -0.4, 0.9, 0.3, -0.2;
  for (const std::vector<double>& point :
       {std::vector<double>{0.9, 0, 0.3},
        std::vector<double>{0.3, 1, UnitSpace::kInactiveNumber}}) {
    Eigen::VectorXd gradient;
    policy.loss(input, hidden, point, 1.7, 0.4, &gradient);
    for (Eigen::Index i = 0; i < gradient.size(); ++i) {
      const double e = 1e-5, at = policy.parameters()[i];
      policy.parameters()[i] = at + e;
      const double up = policy.loss(input, hidden, point, 1.7, 0.4, nullptr);
      policy.parameters()[i] = at - e;
      const double down = policy.loss(input, hidden, point, 1.7, 0.4, nullptr);
      policy.parameters()[i] = at;
      const double slope = (up - down) / (2 * e);
      EXPECT_NEAR(gradient[i], slope, 1e-6 * std::max(1e-2, std::abs(slope))) << i;
    }
  }
}

TEST(PolicyNetwork, DrawsHaveTheProbabilitiesOfTheOutputs) {
  const ProblemSpace space(conditional_problem());
  const UnitSpace units(space, {"training"}, space.baseline());
  const PolicyNetwork policy(units, 4, Rng("policy"));
  Eigen::VectorXd outputs(7);
  outputs << 1.0, -20, 2, 0, 0, 0, 0;  // the first number near logit 1; mostly sgd
  Rng rng("draws");
  double first = 0;
  int sgd = 0;
  for (int i = 0; i < 2000; ++i) {
    const auto point = policy.draw(outputs, rng);
    first += point[0] / 2000;
    sgd += point[1] == 0;
  }
  EXPECT_NEAR(first, 1 / (1 + std::exp(-4 * std::tanh(0.25))), 0.01) << "the mean is bounded";
  EXPECT_NEAR(sgd / 2000.0, std::exp(2.0) / (std::exp(2.0) + 2), 0.03);
}

}  // namespace
}  // namespace nas
