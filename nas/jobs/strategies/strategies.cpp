// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/strategies/strategies.h"

#include <deque>

#include "compound_scaling/scaling.h"
#include "evolution/clustered.h"
#include "evolution/nsga2.h"
#include "evolution/regularized.h"
#include "nas/controllers/bracket_search.h"
#include "nas/controllers/enum_search.h"
#include "nas/controllers/gp_search.h"
#include "nas/controllers/rl_search.h"
#include "nas/controllers/tpe_search.h"
#include "nas/core/error.h"
#include "nas/core/open_table.h"
#include "nas/plugins/external_controller.h"
#include "nas/search/race.h"
#include "nas/search/random_search.h"
#include "nas/search/retrain.h"
#include "supernet/search/differentiable_search.h"
#include "supernet/search/uniform_path_search.h"

namespace nas {

namespace {

OpenTable<const StrategyKind*>& table() {
  static OpenTable<const StrategyKind*> kinds(
      "strategy",
      [](const StrategyKind* const& row) { return row->name; },
      {&random_kind(),
       &regularized_kind(),
       &clustered_kind(),
       &single_path_kind(),
       &differentiable_kind(),
       &scaling_kind(),
       &race_kind(),
       &external_kind(),
       &enum_kind(),
       &gp_kind(),
       &tpe_kind(),
       &rl_kind(),
       &nsga2_kind(),
       &asha_kind(),
       &hyperband_kind(),
       &priorband_kind(),
       &retrain_kind()});
  return kinds;
}

}  // namespace

const StrategyKinds& strategy_kinds() { return table().rows(); }

void add_strategy_kind(StrategyKind kind) {
  static std::deque<StrategyKind> own;  // rows stay where they are
  NAS_CHECK_KIND(Usage,
                 kind.budget && kind.least_trainings && kind.forecast && kind.make,
                 "strategy '",
                 kind.name,
                 "': expected budget, least_trainings, forecast and make");
  own.push_back(std::move(kind));
  table().add(&own.back());
}

}  // namespace nas
