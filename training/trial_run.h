// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

#include "nas/core/stopwatch.h"
#include "nas/search/evaluator.h"

namespace nas {

class GraphModuleImpl;

// What every evaluator that trains needs around the run of a trial.

/// Runs an evaluation. What a search must survive (no memory, a stop) comes back as its status;
/// evaluation.seconds is what it took. Other errors go on.
Evaluation survive(const std::function<Evaluation()>& run);

/// "" or, on a CPU, why a training that keeps `forecast_bytes` cannot run here: nothing throws
/// there, the kernel would kill the process.
std::string lacks_memory(const std::string& device, std::int64_t forecast_bytes);

/// The clock of a running trial, polled between steps.
class TrialClock {
 public:
  TrialClock(const Trial& trial, const TrialContext& context);
  /// Seconds that the trial still needs when its training ends.
  void set_reserve(double seconds) { reserve_ = seconds; }
  /// Stores the run's clock every 5 seconds. True once the trial must end: its time is up, or
  /// somebody aborted it.
  bool poll();
  bool time_is_up() const { return time_is_up_ && !aborted_; }
  bool aborted() const { return aborted_; }
  /// For the training: until the trial's limit or the stage's end, less the reserve.
  double seconds_left() const;

 private:
  const Trial& trial_;
  const TrialContext& context_;
  double reserve_ = 0;
  Stopwatch watch_, since_beat_;
  bool time_is_up_ = false, aborted_ = false;
};

/// Weights that trial `trial` left for others. \throws Error(Input) if they are not there.
std::filesystem::path source_weights(const std::filesystem::path& run_folder, std::int64_t trial);
/// Starts `network` from the weights of trial.source (load_narrower_weights). \returns what to say
/// of it (", warm-started from trial 7: 80 of 96 tensors, 12 of them widened"), "" without a
/// source.
std::string warm_start_from_source(GraphModuleImpl& network,
                                   const std::filesystem::path& run_folder,
                                   const Trial& trial);

}  // namespace nas
