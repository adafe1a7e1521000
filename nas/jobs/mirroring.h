// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "training/mirror_check.h"

namespace nas {

/// A training that the schedule rule would mirror, and what its short forerunners may cost.
struct MirrorQuestion {
  const Graph* graph = nullptr;
  const CaseCache* cache = nullptr;
  InnerSplit cases;             // never a held-out case; empty: too few to ask
  Configuration configuration;  // with the patch
  TrainOptions planned;         // of the training in question
  TrainOptions base;            // seed, device, precision, threads
  /// What the user's options make of the short training's; may be empty.
  std::function<TrainOptions(const TrainOptions&)> adjust = {};
  double seconds = 0;  // that the training in question may take; 0: no clock
  std::function<double(std::int64_t batch)> step_seconds = {};  // with a clock
  double scoring_seconds = 0;  // of the inner validation cases once, with a clock
  bool show_progress = true;
};

/// Whether mirroring stays on: check_mirroring, where a tenth of the training pays for it. Where it
/// cannot be paid mirroring stays off. Says in the log what was chosen and why.
MirrorCheck decide_mirroring(const MirrorQuestion& question);

}  // namespace nas
