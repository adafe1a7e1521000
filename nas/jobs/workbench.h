// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "nas/core/json.h"
#include "nas/core/run_folder.h"
#include "nas/jobs/prepare.h"
#include "nas/search/budget.h"
#include "nas/search/recipe.h"
#include "nas/search/search_space.h"
#include "supernet/super_evaluator.h"
#include "training/data/cases.h"

namespace nas {

/// Everything that a search needs in memory, for a new run and for a resumed one.
struct Workbench {
  Recipe recipe;
  Prepared prepared;
  CaseSelection cases;
  std::unique_ptr<SearchSpace> space;
  std::vector<Starter> portfolio;             // what races try first; empty: the space's own
  std::unique_ptr<SuperEvaluator> evaluator;  // refers to the members before

  /// Once the others are there.
  void make_evaluator(const TrainOptions& base, const RunFolder& folder, bool show_progress);
};

/// What the budget will buy, as JSON for the record; told to the user too. Measures speeds if there
/// is a clock, takes optional stages out of the recipe that it does not pay for, and decides about
/// mirroring: where a race compares it there is nothing else to do ("mirroring" of the record says
/// so) but to leave out of the portfolio what would be trained alike; else, where the final trainings
/// would be mirrored, whether they are (MirrorCheck; null where there was nothing to decide).
/// \throws Error(Usage) if it buys nothing, saying what would do.
Json make_forecast(Workbench& bench, const Budget& budget, const std::function<double()>& clock);

}  // namespace nas
