// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "nas/search/strategy.h"

namespace nas {

/// Depth, width and resolution of a network relative to another.
struct ScaleFactors {
  double depth = 1, width = 1, resolution = 1;
  bool operator==(const ScaleFactors&) const = default;
};

/// Growth of each when the cost doubles: depth alpha^phi, width beta^phi, resolution gamma^phi.
struct ScalingRule {
  double alpha = 1.2, beta = 1.1, gamma = 1.15;  // EfficientNet's
};
/// Tan and Le, "EfficientNet", ICML 2019, arXiv:1905.11946. There alpha beta^2 gamma^2 = 2; volumes
/// cost d w^2 r^3, so that these make it 2.2 (ours to use them unchanged in 3D).
inline constexpr ScalingRule kEfficientNetRule{};

/// How far factors lie from the curve of a rule: distance of their logarithms from the line
/// phi (ln alpha, ln beta, ln gamma) over all real phi.
double distance_to_rule(const ScaleFactors& factors, const ScalingRule& rule = kEfficientNetRule);

/// One trained point of the grid.
struct ScaledPoint {
  ScaleFactors factors;  // relative to the stage's start
  double cost = 1;       // MACs relative to the stage's start
  double score = 0;
};
struct FittedRule : ScalingRule {
  std::int64_t points = 0;  // that it rests on, those of the start's cost not counted
};
/// The rule that the points themselves suggest. Ours: only points that no cheaper or equally cheap
/// one matches in score count (they are what a budget would buy); phi is log2 of their cost, and
/// the logarithms of the factors are fitted as multiples of phi by least squares. Nothing with
/// fewer than two such points of another cost than the start's: one alone lies on any rule.
std::optional<FittedRule> fit_scaling_rule(const std::vector<ScaledPoint>& points);

/// Factors of `genotype` relative to `start`, read from the texts of genes of group "scale":
/// numbers such as "0.75" or "64x96x96" (geometric mean). Names say what they scale: "cells",
/// "stages", "blocks", "depth" the depth; "filters", "features", "width" the width; "patch",
/// "resolution" the resolution. Other genes count for nothing. \throws Error(Input) naming the gene
/// where a value of such a gene is no number.
ScaleFactors scale_factors(const SearchSpace& space,
                           const Genotype& start,
                           const Genotype& genotype);

/// In which order a grid around `start` is tried, as indices of `grid`: the start; the smallest
/// step up of each factor alone, shortest first, since what one factor brings is what a rule is
/// fitted from and few trials would else never change the width; the smallest steps down; the
/// others, nearest to EfficientNet's rule first.
std::vector<std::size_t> scaling_order(const SearchSpace& space,
                                       const Genotype& start,
                                       const std::vector<Genotype>& grid);

/// Compound scaling, kind "scaling": every combination of the genes of group "scale" (or of
/// stage.groups) around the stage's start, those within the limits, in scaling_order, as many as
/// the stage has trials. Each gets own training with an equal share, from the super-network's
/// weights where stage.warm_start says so. The best score wins. C2FNAS does a grid search over
/// about 20 networks (Yu et al., CVPR 2020); its order, and what is fitted from it, are ours.
const StrategyKind& scaling_kind();

}  // namespace nas
