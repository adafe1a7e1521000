// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "nas/search/strategy.h"

namespace nas {

/// Probability of each cluster: in proportion to 1 / rank (the best first, clusters without a score
/// last, equal ones in their order), each at least `least`; what the small ones are given is taken
/// from the others in proportion. Without any score: uniform. \param least at most 1 / size.
std::vector<double> cluster_probabilities(const std::vector<std::optional<double>>& scores,
                                          double least);

/// Clustered evolution over the stage's groups, the coarse stage of C2FNAS: the candidates (all of
/// them where they can be listed, else kPool random ones) are clustered by SearchSpace::distance;
/// clusters emit networks with some probability; these are trained and enter the history; then one
/// network per cluster is compared and the probabilities are assigned anew, until the trials are
/// used up. Source: Yu et al., CVPR 2020, arXiv:1912.09628. Not published, ours:
///  - k-medoids of the L1 distance, stage.clusters of them, fewer where the trials do not suffice
///    for three rounds.
///  - The first round holds the anchors (individual 0 where the groups reach it, and the stage's
///    start) and one random network of every other cluster; later rounds draw as many networks as
///    there are clusters, each from a cluster drawn by its probability, uniform among the cluster's
///    untried and admissible ones. A cluster without any left is passed over.
///  - The network that stands for a cluster is the best of its history.
///  - cluster_probabilities() with at least 1 / (4 K).
///  - Every trial has the same share of the stage's budget.
const StrategyKind& clustered_kind();

}  // namespace nas
