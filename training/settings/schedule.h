// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "nas/core/json.h"
#include "training/settings/options.h"

namespace nas {

// The learning rate over a training. "wsd" (warm-up, stable, decay; Haegele et al., arXiv
// 2405.18392) does not need to know its end beforehand: the rate is constant until somebody decides
// how the training ends, then falls to 0. So a training can be scored at any step (averaged
// weights stand for the decay), paused, continued and finished.

/// Learning rate of step `step` (0-based) of the schedule; the decay of "wsd" is 1 - the square
/// root of its progress. "step", "multistep", "exponential" and "poly" are torch.optim's StepLR,
/// MultiStepLR, ExponentialLR and PolynomialLR, asked once a step.
double scheduled_learning_rate(const TrainOptions& options, std::int64_t step);
/// Decay of the averaged weights after step `step` (0-based), so that the average forgets the
/// random start: min(average_decay, (1 + step) / (10 + step)); with "wsd", whose end is open,
/// (1 + step) / (kAverageSpan + step), so over about a twentieth of what was done.
double scheduled_average_decay(const TrainOptions& options, std::int64_t step);

constexpr double kAverageSpan = 20;
constexpr double kAverageDecay = 0.999;   // of "wsd", at most
constexpr std::int64_t kMostWarmup = 50;  // steps

/// "wsd" over options.steps, decay included.
void set_wsd(TrainOptions& options);
/// Whether a training of `options` can be continued beyond its steps, so that the straight one is
/// equal: nothing that it does depends on their number.
bool can_continue(const TrainOptions& options);
/// What must agree between a training and its continuation: the options without the number of
/// steps and how it ends, where can_continue.
Json continuation_identity(const TrainOptions& options);
/// `options` of a training that is not finished at `steps` yet, or is, from `done` steps on.
TrainOptions paused_at(TrainOptions options, std::int64_t steps);
TrainOptions finished_at(TrainOptions options, std::int64_t steps, std::int64_t done = 0);

/// Where the clock decides how long a training is. The rate of progress is measured while it runs;
/// the end is fixed once, when the decay begins, so that the rate reaches 0 in time. If the machine
/// becomes slower during the decay, what is left of it is shortened (the rate goes on from where
/// it is); it is never prolonged.
class Pace {
 public:
  /// After each step. \param seconds that it took.
  void add(double seconds);
  /// Seconds of a step, from now on: the slower of the mean and of the recent median.
  double step_seconds() const;
  /// \param done steps. \param seconds_left for the training. \returns whether `options` changed.
  bool decide(TrainOptions& options, std::int64_t done, double seconds_left) const;

 private:
  std::vector<double> recent_;  // the last kRecent, as a ring
  std::int64_t count_ = 0;
  double sum_ = 0;
};

}  // namespace nas
