// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "nas/search/evaluator.h"

namespace nas {

/// What a Search or Retrain trial is asked for beside its steps: Trial::request as a value.
struct TrialRequest {
  std::int64_t continues = 0;      // trial whose training goes on; 0: a training of its own
  std::int64_t done = 0;           // steps that it has done
  std::int64_t horizon_steps = 0;  // steps of the training in all that the settings are chosen for;
                                   // 0: those of the trial
  bool finishes = false;           // the training ends with the trial, its rate falls to 0; else it
                                   // is paused and may be continued
  bool all_cases = false;          // learns from the inner validation cases too
  bool operator==(const TrialRequest&) const = default;
};

/// JSON text; "" for nothing.
std::string to_text(const TrialRequest& request);
/// Nothing for trials of other purposes. \throws Error(Input).
TrialRequest trial_request(const Trial& trial);

}  // namespace nas
