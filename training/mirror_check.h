// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "nas/core/json.h"
#include "nas/network/graph.h"
#include "search_spaces/planned_unet/plan.h"
#include "training/data/cases.h"
#include "training/data/preprocessing.h"
#include "training/settings/options.h"

namespace nas {

// Mirroring as an augmentation teaches a network that left and right are alike. Where organs differ
// in their place alone it cannot be learnt which is which: on a phantom of that kind a training
// fell from a Dice of 0.83 to 0.58. So before a training that the schedule rule would mirror, two
// short ones of equal steps, with and without, are compared on inner validation cases.

/// What the comparison found.
struct MirrorCheck {
  bool mirror = false;           // whether mirroring stays on
  std::int64_t steps = 0;        // of each of the two trainings; 0: none were made
  std::int64_t cases = 0;        // inner validation cases, on which both were scored
  double with = 0, without = 0;  // mean Dice of them (mean_metrics)
  double standard_error = 0;     // of the mean difference
  std::string reason;            // one line for people
};
Json to_json(const MirrorCheck& check);

/// Steps of each of the two short trainings that together cost at most kMirrorCheckShare of a
/// training of `steps` steps of `batch` samples; nothing if that is less than kFewestCheckSteps.
/// \param check_batch samples a step of the short trainings.
std::optional<std::int64_t> mirror_check_steps(std::int64_t steps,
                                               std::int64_t batch,
                                               std::int64_t check_batch);
inline constexpr double kMirrorCheckShare = 0.1;
/// Fewer say nothing. (40 steps of batch 4 reach a Dice of 0.82 on Hippocampus.)
inline constexpr std::int64_t kFewestCheckSteps = 40;
/// More would not say it more clearly.
inline constexpr std::int64_t kMostCheckSteps = 400;
/// Mirroring slows a short training down a little even where it does no harm in the end: so much
/// less in Dice is not called worse.
inline constexpr double kMirrorTolerance = 0.02;

/// Trains `graph` twice for `steps` steps from one seed on the same patches, with and without
/// mirroring, and compares the Dice of `cases.validation` in pairs. Mirroring stays on if the mean
/// difference is not below -kMirrorTolerance. A training whose loss or output is not finite has a
/// Dice of 0. \param options of the short training, but for steps, mirror and averaged weights.
/// \throws Error(Stopped) if the user asks to stop.
MirrorCheck check_mirroring(const Graph& graph,
                            const CaseCache& cache,
                            const InnerSplit& cases,
                            const TrainOptions& options,
                            std::int64_t steps,
                            bool show_progress = true);

}  // namespace nas
