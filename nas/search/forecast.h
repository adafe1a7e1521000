// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nas/core/json.h"
#include "nas/search/budget.h"

namespace nas {

/// One kind of trials of a stage: so many, each of about so many steps.
struct TrialForecast {
  std::string what;  // "trials", "super-network", "candidates scored with inherited weights", ...
  std::int64_t count = 0;
  std::int64_t steps = 0;  // each, of the planned network's speed; 0: no training
};

struct StageForecast {
  std::string name, kind;
  double seconds = 0;  // 0 without a clock
  std::vector<TrialForecast> trials;
};

/// Measured speeds of individual 0; empty without a clock.
struct SearchProbes {
  Probe search, retrain;
  double candidate_seconds = 0;  // one scoring with inherited weights
  std::optional<Probe> start =
      std::nullopt;  // of the space's first network, where a stage starts from it
};

/// What a budget buys, stage by stage, if every stage ends in time. \param elapsed seconds spent
/// before the first stage. \throws Error(Usage) if it cannot buy a stage.
std::vector<StageForecast> forecast_stages(const Recipe& recipe,
                                           const Budget& budget,
                                           double elapsed,
                                           const SearchProbes& probes);

/// "stage cells: super-network of about 300 steps, 40 candidates ..., 10 min 02 s".
std::string to_text(const StageForecast& stage);
Json to_json(const StageForecast& stage);

}  // namespace nas
