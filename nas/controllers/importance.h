// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nas/search/earlier_run.h"
#include "nas/search/statistics.h"
#include "nas/search/strategy.h"

namespace nas {

/// How much a gene had to do with being among the best.
struct GeneImportance {
  std::string gene;
  /// Part of all genes' divergence between the best quarter and all trials, [0, 1].
  double share = 0;
  Interval interval;  // of it, 95 %, bootstrap over trials
  /// Part of the gene in the distance of a fitted Gaussian process (1 / length scale^2), [0, 1].
  double relevance = 0;
};

inline constexpr std::int64_t kFewestForImportance = 20;

/// By share, highest first. As PED-ANOVA does it, the divergence of a gene is Pearson's between the
/// distribution of its values among the best quarter and among all trials (numbers in six equal
/// parts of their range, half an observation added everywhere); genes that hold one value in all
/// trials have none. Only own trainings at one rung compare.
/// Source: Watanabe, Bansal, Hutter, "PED-ANOVA", IJCAI 2023, arXiv:2304.10255.
/// \throws Error(Usage) with fewer than kFewestForImportance results.
std::vector<GeneImportance> gene_importance(const SearchSpace& space,
                                            const std::vector<EarlierResult>& results,
                                            Rng rng);

}  // namespace nas
