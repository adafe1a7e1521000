// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "nas/core/json.h"
#include "training/fit/optimizer.h"

namespace nas {

/// What a checkpoint holds besides tensors.
struct CheckpointRecord {
  std::int64_t steps = 0;      // done
  std::int64_t skipped = 0;    // of these, without an update
  std::vector<double> losses;  // one per step
  std::string extra;           // state of the fit's hooks, "": none
  std::string ending;          // JSON text: how the training ends, where the clock decides; else ""
};

/// A dictionary of tensors as Python's torch.load reads it; text lies in byte tensors ("meta" is
/// JSON). \param identity what must agree with the training that goes on from it.
void write_checkpoint(const std::filesystem::path& file,
                      const NamedTensors& state,
                      const Json& identity,
                      const CheckpointRecord& record);

/// Copies the stored tensors into those of `state`. \throws Error(Input) naming the file: not a
/// checkpoint, one of another training, or with other tensors.
CheckpointRecord read_checkpoint(const std::filesystem::path& file,
                                 const NamedTensors& state,
                                 const Json& identity);

}  // namespace nas
