// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nas/core/json.h"
#include "nas/search/budget.h"
#include "nas/search/strategy_kind.h"

namespace nas {

/// What the budget buys of one stage.
struct StageForecast {
  std::string name, kind;
  bool final = false;  // the final trainings
  double seconds = 0;  // 0 without a clock
  std::vector<TrialForecast> trials = {};
  std::string refused = {};  // why the budget cannot buy it; "" if it can
};

/// Measured speeds of individual 0; empty without a clock.
struct SearchProbes {
  Probe search, retrain;
  double candidate_seconds = 0;  // one scoring with inherited weights
  std::optional<Probe> start =
      std::nullopt;  // of the space's first network, where a stage starts from it
};

/// What a budget buys, stage by stage, if every stage ends in time; what it cannot buy says so in
/// `refused`. \param elapsed seconds spent before the first stage.
std::vector<StageForecast> forecast_stages(const Recipe& recipe,
                                           const Budget& budget,
                                           double elapsed,
                                           const SearchProbes& probes);

/// \throws Error(Usage) with the reason of the first stage that is refused.
void check_all_bought(const std::vector<StageForecast>& stages);

/// "stage cells: super-network of about 300 steps, 40 candidates ..., 10 min 02 s".
std::string to_text(const StageForecast& stage);
Json to_json(const StageForecast& stage);

}  // namespace nas
