// SPDX-License-Identifier: Apache-2.0
#include "evolution/clustering.h"

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <limits>

#include "nas/core/error.h"

namespace nas {
namespace {

constexpr double kFar = std::numeric_limits<double>::infinity();
constexpr double kLess = 1e-9;  // a gain below this is rounding

struct Nearest {
  std::vector<std::size_t> medoid;    // index of the nearest medoid
  std::vector<double> first, second;  // distances to the nearest and the second nearest
};

Nearest nearest_medoids(std::span<const double> distances,
                        std::size_t n,
                        const std::vector<std::size_t>& medoids) {
  Nearest near{
      std::vector<std::size_t>(n, 0), std::vector<double>(n, kFar), std::vector<double>(n, kFar)};
  for (std::size_t o = 0; o < n; ++o) {
    for (std::size_t m = 0; m < medoids.size(); ++m) {
      const double d = distances[o * n + medoids[m]];
      if (d < near.first[o]) {
        near.second[o] = near.first[o];
        near.first[o] = d;
        near.medoid[o] = m;
      } else if (d < near.second[o]) {
        near.second[o] = d;
      }
    }
  }
  return near;
}

std::vector<std::size_t> build(std::span<const double> distances, std::size_t n, std::size_t k) {
  std::vector<std::size_t> medoids;
  std::vector<double> nearest(n, kFar);
  while (medoids.size() < k) {
    double least = kFar;
    std::size_t chosen = n;
    for (std::size_t h = 0; h < n; ++h) {
      if (std::ranges::find(medoids, h) != medoids.end()) continue;
      double cost = 0;
      for (std::size_t o = 0; o < n; ++o) cost += std::min(nearest[o], distances[o * n + h]);
      if (cost < least - kLess) {
        least = cost;
        chosen = h;
      }
    }
    medoids.push_back(chosen);
    for (std::size_t o = 0; o < n; ++o) {
      nearest[o] = std::min(nearest[o], distances[o * n + chosen]);
    }
  }
  return medoids;
}

/// Does the best exchange, if any lowers the cost.
bool swap_best(std::span<const double> distances,
               std::size_t n,
               std::vector<std::size_t>& medoids) {
  const Nearest near = nearest_medoids(distances, n, medoids);
  std::vector<double> removal(medoids.size(), 0.0);  // cost of giving up each medoid
  for (std::size_t o = 0; o < n; ++o) removal[near.medoid[o]] += near.second[o] - near.first[o];
  double least = -kLess;
  std::size_t out = 0, in = n;
  std::vector<double> change(medoids.size());
  for (std::size_t h = 0; h < n; ++h) {
    if (std::ranges::find(medoids, h) != medoids.end()) continue;
    change = removal;
    double shared = 0;  // of items that come nearer whatever medoid goes
    for (std::size_t o = 0; o < n; ++o) {
      const double d = distances[o * n + h];
      if (d < near.first[o]) {
        shared += d - near.first[o];
        change[near.medoid[o]] += near.first[o] - near.second[o];
      } else if (d < near.second[o]) {
        change[near.medoid[o]] += d - near.second[o];
      }
    }
    for (std::size_t m = 0; m < medoids.size(); ++m) {
      if (change[m] + shared < least - kLess) {
        least = change[m] + shared;
        out = m;
        in = h;
      }
    }
  }
  if (in == n) return false;
  medoids[out] = in;
  return true;
}

}  // namespace

Clustering k_medoids(std::span<const double> distances, std::size_t n, std::size_t k) {
  NAS_CHECK_KIND(Internal,
                 distances.size() == n * n && k >= 1 && k <= n,
                 "k_medoids: expected ",
                 n * n,
                 " distances and k in [1, ",
                 n,
                 "], got ",
                 distances.size(),
                 " and ",
                 k);
  Clustering result;
  result.medoids = build(distances, n, k);
  // With one medoid BUILD is optimal already; with all items there is nothing to exchange.
  if (k > 1 && k < n) {
    while (swap_best(distances, n, result.medoids)) {
    }
  }
  std::ranges::sort(result.medoids);
  const Nearest near = nearest_medoids(distances, n, result.medoids);
  result.cluster = near.medoid;
  for (const double d : near.first) result.cost += d;
  return result;
}

std::vector<std::array<double, 2>> classical_scaling(std::span<const double> distances,
                                                     std::size_t n) {
  NAS_CHECK_KIND(Internal,
                 distances.size() == n * n,
                 "classical_scaling: expected ",
                 n * n,
                 " distances, got ",
                 distances.size());
  std::vector<std::array<double, 2>> places(n, {0.0, 0.0});
  if (n < 2) return places;
  const auto size = static_cast<Eigen::Index>(n);
  Eigen::MatrixXd squared(size, size);
  for (Eigen::Index i = 0; i < size; ++i) {
    for (Eigen::Index j = 0; j < size; ++j) {
      const double d = distances[static_cast<std::size_t>(i * size + j)];
      squared(i, j) = d * d;
    }
  }
  const Eigen::VectorXd mean = squared.rowwise().mean();
  Eigen::MatrixXd inner = squared;
  inner.rowwise() -= mean.transpose();
  inner.colwise() -= mean;
  inner.array() += mean.mean();
  inner *= -0.5;
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(inner);
  for (Eigen::Index axis = 0; axis < std::min<Eigen::Index>(2, size); ++axis) {
    const Eigen::Index column = size - 1 - axis;  // eigenvalues ascend
    const double value = solver.eigenvalues()(column);
    if (value <= 0) continue;
    Eigen::VectorXd place = solver.eigenvectors().col(column) * std::sqrt(value);
    Eigen::Index largest = 0;
    place.cwiseAbs().maxCoeff(&largest);
    if (place(largest) < 0) place = -place;
    for (Eigen::Index i = 0; i < size; ++i) {
      places[static_cast<std::size_t>(i)][static_cast<std::size_t>(axis)] = place(i);
    }
  }
  return places;
}

}  // namespace nas
