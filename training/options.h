// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "nas/core/extent.h"
#include "nas/core/json.h"

namespace nas {

/// Everything that decides what a training does, fixed before its first step and recorded. Torch-free, so that
/// searches and reports can hold it.
struct TrainOptions {
  std::int64_t steps = 1000;                 // optimiser steps; the budget in numbers
  std::int64_t batch = 2;                    // samples a step
  Extent3 patch{0, 0, 0};                    // voxels
  std::string optimizer = "sgd";             // "sgd" (Nesterov), "adamw"
  double learning_rate = 1e-2;
  double momentum = 0.99;                    // SGD
  double weight_decay = 3e-5;
  std::string schedule = "poly";             // "poly" (power 0.9), "cosine" (to 0), "onecycle" if it proves useful
  double warmup_fraction = 0;                // share of the steps with a linear rise
  double clip_norm = 12;                     // gradient norm; 0: none
  double foreground_fraction = 0.33;         // share of patches centred on a labelled voxel, [0, 1]
  double augmentation = 1;                   // strength: 0 none, 1 nnU-Net's list and probabilities
  bool mirror = true;                        // mirroring as an augmentation
  double average_decay = 0;                  // exponential weight averaging, 0: none
  bool deep_supervision = true;
  bool batch_dice = false;
  std::string precision = "auto";            // "auto", "fp32", "bf16", "fp16" (CUDA only)
  std::string device = "auto";               // "auto", "cpu", "cuda", "cuda:1"
  std::uint64_t seed = 1;
  int threads = 0;                           // compute threads, 0: all
  bool operator==(const TrainOptions&) const = default;
};

Json to_json(const TrainOptions& options);
/// Unknown keys are errors with the nearest known name; missing keys keep the value of `defaults`.
TrainOptions train_options_from_json(const Json& value, const std::string& where, const TrainOptions& defaults = {});

}  // namespace nas
