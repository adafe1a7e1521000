// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/strategies/strategies.h"

#include "compound_scaling/scaling.h"
#include "evolution/clustered.h"
#include "evolution/regularized.h"
#include "nas/plugins/external_controller.h"
#include "nas/search/race.h"
#include "nas/search/random_search.h"
#include "nas/search/retrain.h"
#include "supernet/search/differentiable_search.h"
#include "supernet/search/uniform_path_search.h"

namespace nas {

const StrategyKinds& strategy_kinds() {
  static const StrategyKinds kinds = {&random_kind(),
                                      &regularized_kind(),
                                      &clustered_kind(),
                                      &single_path_kind(),
                                      &differentiable_kind(),
                                      &scaling_kind(),
                                      &race_kind(),
                                      &external_kind(),
                                      &retrain_kind()};
  return kinds;
}

}  // namespace nas
