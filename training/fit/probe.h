// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "nas/imaging/label_scheme.h"
#include "nas/network/graph.h"
#include "training/settings/options.h"

namespace nas {

/// What a training step costs on this machine.
struct ProbeResult {
  double seconds_per_step = 0;     // median of the measured steps
  double seconds_per_forward = 0;  // of one sample, without gradients
  std::int64_t peak_bytes = 0;     // of the process (CPU) or of the device allocator
};

/// Runs one warm-up and `steps` measured training steps of a fresh module of `graph` on random
/// data.
/// \param labels of the data that will be trained on: they decide the loss.
ProbeResult probe(const Graph& graph,
                  const TrainOptions& options,
                  const LabelScheme& labels,
                  int steps = 2);

}  // namespace nas
