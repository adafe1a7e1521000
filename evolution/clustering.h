// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

namespace nas {

/// Items around medoids. Clusters are numbered in the order of their medoids.
struct Clustering {
  std::vector<std::size_t> medoids;  // items, ascending
  std::vector<std::size_t> cluster;  // of each item: an index into medoids
  double cost = 0;                   // sum of distances to the own medoid
};

/// k-medoids by PAM: BUILD takes greedily the item that lowers the cost most, SWAP the best
/// exchange of a medoid until none lowers the cost. Deterministic: equal gains go to the item that
/// comes first. The exchanges of one item with all medoids are weighed in one pass, O(n^2) per
/// swap. Sources: Kaufman and Rousseeuw, "Finding Groups in Data" (1990); the pass: Schubert and
/// Rousseeuw, SISAP 2019, arXiv:1810.05691.
/// \param distances [n, n] row by row, symmetric, zero diagonal. \param k in [1, n].
Clustering k_medoids(std::span<const double> distances, std::size_t n, std::size_t k);

/// Places in the plane whose distances resemble the given ones: classical multidimensional scaling.
/// Each axis has its largest coordinate positive, so that pictures do not flip.
/// Source: Torgerson, Psychometrika 17 (1952). \param distances as above.
std::vector<std::array<double, 2>> classical_scaling(std::span<const double> distances,
                                                     std::size_t n);

}  // namespace nas
