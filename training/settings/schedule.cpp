// SPDX-License-Identifier: Apache-2.0
#include "training/settings/schedule.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numbers>

namespace nas {
namespace {

constexpr std::size_t kRecent = 20;
// Of the time left, what the decay is planned to take.
constexpr double kPlannedPart = 0.95;
// A decay that lasts this much too long is shortened.
constexpr double kPatience = 1.02;

double warmup(const TrainOptions& options) {
  return std::max(static_cast<double>(options.warmup_steps),
                  options.warmup_fraction * static_cast<double>(options.steps));
}

/// Progress of the decay of "wsd" at `step`, [0, 1].
double decay_progress(const TrainOptions& options, std::int64_t step) {
  if (step < options.decay_start || options.decay_start >= options.steps) return 0;
  const double part = static_cast<double>(step - options.decay_start) /
                      static_cast<double>(options.steps - options.decay_start);
  return std::min(1.0, options.decay_from + (1 - options.decay_from) * part);
}

}  // namespace

double scheduled_learning_rate(const TrainOptions& options, std::int64_t step) {
  const double steps = static_cast<double>(std::max<std::int64_t>(options.steps, 1));
  const double done = std::min(static_cast<double>(step), steps);
  const double rise = warmup(options);
  double rate = options.learning_rate;
  if (options.schedule == "wsd") rate *= 1 - std::sqrt(decay_progress(options, step));
  if (done + 1 < rise) return rate * (done + 1) / rise;
  if (options.schedule == "cosine") {
    return rate * 0.5 * (1 + std::cos(std::numbers::pi * done / steps));
  }
  if (options.schedule == "poly") return rate * std::pow(1 - done / steps, options.schedule_power);
  if (options.schedule == "step") {
    return rate * std::pow(options.schedule_gamma, step / options.schedule_every);
  }
  if (options.schedule == "multistep") {
    const auto passed = std::ranges::count_if(options.schedule_milestones,
                                              [&](std::int64_t at) { return at <= step; });
    return rate * std::pow(options.schedule_gamma, passed);
  }
  if (options.schedule == "exponential") return rate * std::pow(options.schedule_gamma, step);
  return rate;
}

double scheduled_average_decay(const TrainOptions& options, std::int64_t step) {
  const double s = static_cast<double>(step);
  const double span = options.schedule == "wsd" ? kAverageSpan : 10;
  return std::min(options.average_decay, (1 + s) / (span + s));
}

void set_wsd(TrainOptions& options) {
  options.schedule = "wsd";
  options.warmup_fraction = 0;
  options.warmup_steps = std::min(kMostWarmup, options.steps / 20);
  options = finished_at(options, options.steps);
}

bool can_continue(const TrainOptions& options) {
  return options.schedule != "poly" && options.schedule != "cosine" && options.warmup_fraction == 0;
}

Json continuation_identity(const TrainOptions& options) {
  Json identity = to_json(options);
  if (can_continue(options)) {
    for (const char* key : {"steps", "decay_start", "decay_from"}) identity.erase(key);
  }
  return identity;
}

TrainOptions paused_at(TrainOptions options, std::int64_t steps) {
  options.steps = steps;
  options.decay_start = steps;
  options.decay_from = 0;
  return options;
}

TrainOptions finished_at(TrainOptions options, std::int64_t steps, std::int64_t done) {
  options.steps = steps;
  options.decay_start = std::max(done, stable_steps(steps));
  options.decay_from = 0;
  return options;
}

void Pace::add(double seconds) {
  if (recent_.size() < kRecent) {
    recent_.push_back(seconds);
  } else {
    recent_[static_cast<std::size_t>(count_) % kRecent] = seconds;
  }
  ++count_;
  sum_ += seconds;
}

double Pace::step_seconds() const {
  if (count_ == 0) return 0;
  std::vector<double> sorted = recent_;
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  return std::max(*middle, sum_ / static_cast<double>(count_));
}

bool Pace::decide(TrainOptions& options, std::int64_t done, double seconds_left) const {
  if (count_ == 0) return false;
  const double step = std::max(step_seconds(), 1e-9);
  const auto affordable = std::max<std::int64_t>(
      1, static_cast<std::int64_t>(std::max(0.0, kPlannedPart * seconds_left) / step));
  if (done < options.decay_start) {
    // A decay over kDecayShare of the whole is as long as this part of what is done.
    const auto decay = std::max<std::int64_t>(
        1, std::llround(static_cast<double>(done) * kDecayShare / (1 - kDecayShare)));
    if (decay < affordable) return false;
    options.decay_start = done;
    options.decay_from = 0;
    options.steps = done + std::min(decay, affordable);
    return true;
  }
  const std::int64_t rest = options.steps - done;
  if (static_cast<double>(rest) * step <= kPatience * seconds_left || affordable >= rest) {
    return false;
  }
  options.decay_from = decay_progress(options, done);
  options.decay_start = done;
  options.steps = done + affordable;
  return true;
}

}  // namespace nas
