// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "nas/core/extent.h"
#include "nas/core/json.h"
#include "training/data/preprocessing.h"

namespace nas {

// How long does it take? The one place for the figures that turn what was measured on this machine
// (a step, a forward pass, one case's scoring) into what a whole training and its scoring will
// take; they decide whether a budget is kept. Unless a sentence says "measured" a figure is a
// margin that we chose: large enough that the searches and trainings of README ended within their
// budgets.

/// A step of a whole training against a probed one on random data.
inline constexpr double kTrainedPerProbed = 1.03;
/// The same of a super-network, whose paths differ in cost while a probe meets five of them.
inline constexpr double kTrainedPerProbedPath = 1.05;
/// Share of the time left that `train` fills with steps: a probe of two steps cannot see
/// checkpoints or a machine that becomes slower when it is warm.
inline constexpr double kShareOfProbedTime = 0.95;
/// Building a network, writing its files.
inline constexpr double kStartSeconds = 0.5;
/// Scoring on the preprocessed grid against its forward passes: blending, arg-max and counting.
inline constexpr double kInnerPerForward = 1.15;
/// Scoring of held-out cases against forward passes and one measured case: cases differ in size.
inline constexpr double kHeldOutPerMeasured = 1.1;
/// The same where no case was measured.
inline constexpr double kHeldOutPerEstimate = 1.2;
/// What an unmeasured case costs besides forward passes: opening and writing its files; and for
/// every voxel reading, resampling and distance transforms, about 2e-7 s measured on one core.
inline constexpr double kCaseSeconds = 0.02;
inline constexpr double kVoxelSeconds = 2e-7;
/// The least that scoring one measured case takes beyond forward passes: a clock's noise must not
/// make it free.
inline constexpr double kLeastCaseSeconds = 0.02;
/// Writing model, metrics and event files, where nothing of it was measured.
inline constexpr double kDeliverySeconds = 2;
/// Scoring paths of a super-network against their forward passes: each path's program is built.
inline constexpr double kPathPerForward = 1.1;

/// What scoring has to do.
struct ScoringWork {
  double windows = 0;  // forward passes of one patch
  double voxels = 0;   // of the preprocessed cases, padded to a patch
  double cases = 0;
};
/// \param tile voxels that a window describes: output_region of the patch.
ScoringWork scoring_work(const CaseCache& cache,
                         const std::vector<std::string>& ids,
                         const Extent3& tile);

/// Of the inner validation cases, on the preprocessed grid.
double inner_scoring_seconds(const ScoringWork& inner, double forward_seconds);
/// Of a final training: the inner validation cases, and the held-out ones on their own grid.
/// \param case_seconds measured: one held-out case beyond its forward passes.
double final_scoring_seconds(const ScoringWork& inner,
                             const ScoringWork& held_out,
                             double forward_seconds,
                             double case_seconds);
/// Of held-out cases on their own grid where no case was measured.
double unmeasured_scoring_seconds(const ScoringWork& held_out, double forward_seconds);
/// Of paths through a super-network on `windows` fixed windows each.
double path_scoring_seconds(std::int64_t paths, std::int64_t windows, double forward_seconds);

/// A step at `batch`, in proportion to the samples from the nearest measured batch below (else the
/// smallest): never too fast. \param measured seconds a step by batch; not empty.
double step_seconds_at_batch(const std::map<std::int64_t, double>& measured, std::int64_t batch);

/// Pairs [batch, seconds] of a record. \throws Error(Input).
std::map<std::int64_t, double> seconds_by_batch(const JsonReader& pairs);

}  // namespace nas
