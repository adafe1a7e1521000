// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "nas/core/extent.h"
#include "nas/core/json.h"

namespace nas {

/// Everything that decides what a training does, fixed before its first step and recorded.
/// Torch-free, so that searches and reports can hold it.
struct TrainOptions {
  std::int64_t steps = 1000;      // optimiser steps; the budget in numbers
  std::int64_t batch = 2;         // samples a step
  Extent3 patch{0, 0, 0};         // voxels
  std::string optimizer = "sgd";  // "sgd" (Nesterov), "adamw", "muon"
  double learning_rate = 1e-2;
  double momentum = 0.99;  // SGD, Muon
  double weight_decay =
      3e-5;  // SGD: added to the gradient; else decoupled, and not on biases and norms
  std::string schedule =
      "poly";                  // "poly" (power 0.9), "cosine" (to 0), "constant", "wsd" (warm-up,
                               // stable, decay: constant, from decay_start on to 0)
  double warmup_fraction = 0;  // share of the steps with a linear rise, [0, 1)
  std::int64_t warmup_steps = 0;  // the same in steps ("wsd", whose end is open)
  std::int64_t decay_start = 0;   // "wsd": step from which on the rate falls; >= steps: it does not
  double decay_from = 0;          // "wsd": progress of the decay at decay_start, [0, 1)
  double clip_norm = 12;          // gradient norm; 0: none
  double foreground_fraction = 0.33;  // share of patches centred on a labelled voxel, [0, 1]
  double augmentation = 1;            // strength: 0 none, 1 nnU-Net's list and probabilities
  bool mirror = true;                 // mirroring as an augmentation
  double average_decay = 0;           // exponential weight averaging, 0: none
  bool deep_supervision = true;
  std::string loss = "dice_ce";  // "dice_ce", "dice_focal" (focal instead of cross-entropy), "ce"
  bool batch_dice = false;
  std::string precision = "auto";  // "auto", "fp32", "bf16", "fp16" (CUDA only)
  std::string device = "auto";     // "auto", "cpu", "cuda", "cuda:1"
  std::uint64_t seed = 1;
  int threads = 0;  // compute threads, 0: all
  bool operator==(const TrainOptions&) const = default;
};

/// Share of a "wsd" training over which its rate falls, and the steps before it.
constexpr double kDecayShare = 0.25;
std::int64_t stable_steps(std::int64_t steps);

Json to_json(const TrainOptions& options);
/// Unknown keys are errors with the nearest known name; missing keys keep the value of `defaults`,
/// but for decay_start, which follows `steps`. \throws Error(Usage|Input) naming `where`, the key, what was expected and found.
TrainOptions train_options_from_json(const Json& value,
                                     const std::string& where,
                                     const TrainOptions& defaults = {});
/// \throws Error(Usage) naming the option, its range and the value.
void check_train_options(const TrainOptions& options);

}  // namespace nas
