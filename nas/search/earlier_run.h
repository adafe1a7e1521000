// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "nas/search/search_space.h"
#include "nas/search/stage.h"

namespace nas {

/// What an earlier run found, for strategies that learn from it. Scores compare within a run, not
/// between runs.
struct EarlierResult {
  Genotype genotype;
  double score = 0;
};
struct EarlierRun {
  std::string name;  // for people
  std::vector<EarlierResult> results;
};

/// Option "earlier" of a stage: a list of {"run": "name", "trials": [{"genotype": "rate=0.1 ...",
/// "score": 0.8}, ...]}, genotypes as SearchSpace::to_text writes them. It is part of the recipe, so
/// that a run that goes on knows what it learned from.
StageOption earlier_option();
/// \throws Error(Usage|Input) naming the run and the trial whose genotype the space does not have.
std::vector<EarlierRun> earlier_runs(const StageSpec& stage, const SearchSpace& space);

}  // namespace nas
