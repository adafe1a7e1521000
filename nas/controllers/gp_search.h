// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nas/search/strategy.h"

namespace nas {

/// Kind "gp": Bayesian optimisation. After 2 d + 2 points that spread evenly over the d free genes
/// (a third of the trials at most) a Gaussian process is fitted to all scores (gaussian_process.h;
/// MAP, standardised within the stage), and the genotype of highest log expected improvement is
/// next: kCandidates Sobol points and the neighbourhood of the best ones, then local searches by
/// gradient over numbers and by trying all values of choices. A trial that failed counts as the
/// worst score; one that is not told yet as what the process expects of it. Of more than 800
/// observations the best 200 and the newest 600 are used. Where the kernel matrix cannot be factored
/// a random genotype is next; the story counts them.
/// Option `earlier`: results of earlier runs are observations too, each run with an unknown offset.
/// Option `cost_aware`: improvement over the root of a step's cost. Option `stop_when_settled`: ends
/// when the highest upper bound (two deviations) of what is left is above the best by less than half
/// the width of its paired 95 % interval against the baseline.
/// Sources: Jones, Schonlau, Welch, J. Global Optimization 13 (1998); Ament et al., arXiv:2310.20708.
const StrategyKind& gp_kind();

}  // namespace nas
