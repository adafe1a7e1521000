// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nas/search/earlier_run.h"
#include "nas/search/recipe.h"
#include "nas/search/trial_store.h"

namespace nas {

/// What a run begins with of an earlier one (`--from`).
struct WarmStart {
  std::string run;                     // its folder
  std::vector<std::string> genotypes;  // tried first, best first; of this run's space
  std::int64_t left_out = 0;           // better or as good, but none of this run's space
  /// In which the two spaces' descriptions differ; empty: they agree.
  std::vector<std::string> differences;
  std::vector<EarlierResult> observations;  // all that compare with each other; none where the
                                            // spaces differ
};

/// The best `most` genotypes of the earlier run's trials: own trainings of one stage and rung, of
/// those where most were done. Individual 0 and the space's start, which take part anyway, are not
/// among them. Where the spaces differ, only genotypes with the same genes and, of each, the same
/// text count. \throws Error(Usage) if there is none: nothing was done, or nothing fits, with what
/// differs.
WarmStart warm_start(const TrialStore& earlier,
                     const std::string& name,
                     const SearchSpace& space,
                     std::int64_t most);

/// Stages that learn from earlier runs (option "earlier") get the observations. \throws Error(Usage)
/// if no stage of the recipe takes genotypes of others.
void add_observations(const WarmStart& start, const SearchSpace& space, Recipe& recipe);

/// As the run's record keeps it: {"run", "genotypes", "left_out", "differences", "observations"
/// (their number)}.
Json to_json(const WarmStart& start);

/// What the record says is enqueued, once: a run that was killed before that does it when it goes
/// on. \param record null where the run began with none.
void enqueue_warm_start(TrialStore& store, const Json& record);

}  // namespace nas
