// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "training/fit/fit.h"

namespace nas {

/// Patches on which all candidates of a super-network are compared.
struct ScoringWindows {
  std::int64_t count = 0;
  Extent3 patch{0, 0, 0};  // voxels
  std::uint64_t seed = 1;
};
/// As many windows of `patch` as hold 2^24 voxels, but 4 to 16: a large window says more, and costs
/// as much as many small ones.
ScoringWindows scoring_windows(const Extent3& patch, std::uint64_t seed);

/// The windows themselves, [count, C, D, H, W] on the CPU, not augmented: cases drawn uniformly,
/// every second window (of the last half) centred on a labelled voxel. A function of its arguments.
Batch make_windows(const std::vector<const CachedCase*>& cases, const ScoringWindows& windows);

/// Foreground Dice of a path over all windows: per class 2 sum |P and T| / sum (|P| + |T|).
struct PathScore {
  double score = 0;          // ForegroundMean; NaN if an output is not finite or no class occurs
  bool finite = true;        // whether all outputs are
  std::vector<double> dice;  // per class 1..K-1 or region; NaN for one that occurs nowhere
};

struct ScoringOptions {
  std::string device = "auto", precision = "auto";
  int threads = 0;             // compute threads, 0: as LibTorch is set
  bool share_prefixes = true;  // false: each path from the input, the naive way (same scores)
  /// Most that the activations kept for later paths may take. A prefix that does not fit is
  /// computed again.
  std::int64_t keep_bytes = std::int64_t{512} << 20;
  /// Batches over which the statistics of batch norms are averaged for each path (networks without
  /// batch norm need none).
  std::vector<Batch> statistics;
  std::function<bool()> should_stop;  // polled between forward passes
};

/// Whether a network has batch norms at any depth.
bool has_batch_norm(const Graph& graph);

struct ScoringReport {
  std::vector<PathScore> scores;  // in the order of the paths
  bool stopped = false;           // by should_stop: the scores say nothing
  double seconds = 0;
  std::int64_t steps = 0, naive_steps = 0;  // program steps run, and run without sharing
  double macs = 0, naive_macs = 0;          // multiply-adds, the same way
  std::int64_t kept_bytes = 0;              // the most activations kept at once
  double saving() const { return macs > 0 ? naive_macs / macs : 1; }
};

/// Scores closed paths of a super-network with the weights it has. Paths are sorted, so that those
/// with a common beginning follow each other; what they share is computed once for each window (as
/// in PCF-ES, "prefix-sharing"). The scores are those of the naive way, bit for bit: the same steps
/// run on the same values.
///
/// Memory: besides one forward pass of one window, at most options.keep_bytes.
ScoringReport score_paths(GraphModule& network,
                          const std::vector<std::vector<int>>& paths,
                          const Batch& windows,
                          const ScoringOptions& options = {});

}  // namespace nas
