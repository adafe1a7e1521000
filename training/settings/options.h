// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nas/core/extent.h"
#include "nas/core/json.h"
#include "training/settings/augmentations.h"

namespace nas {

/// A JSON object as text; "": none.
struct ObjectText {
  std::string json;
  bool operator==(const ObjectText&) const = default;
};

/// Everything that decides what a training does, fixed before its first step and recorded.
/// Torch-free, so that searches and reports can hold it.
struct TrainOptions {
  std::int64_t steps = 1000;  // optimiser steps; the budget in numbers
  std::int64_t batch = 2;     // samples a step
  Extent3 patch{0, 0, 0};     // voxels
  std::string optimizer =
      "sgd";  // "sgd" (Nesterov), "adam", "adamw", "novograd", "muon" (training/fit/optimizer.h)
  double learning_rate = 1e-2;
  double momentum = 0.99;      // SGD, Muon
  double beta1 = 0.9;          // Adam, AdamW, NovoGrad: of the mean gradient, [0, 1)
  double beta2 = 0.999;        // and of its square
  double epsilon = 1e-8;       // added to the root of the latter, > 0
  double weight_decay = 3e-5;  // SGD, Adam: added to the gradient; NovoGrad: to the normalised one;
                               // else decoupled, and not on biases and norms
  std::string schedule =
      "poly";                  // "poly" (to 0), "cosine" (to 0), "constant", "step", "multistep",
                               // "exponential", "wsd" (warm-up, stable, decay: constant, from
                               // decay_start on to 0)
  double warmup_fraction = 0;  // share of the steps with a linear rise, [0, 1)
  std::int64_t warmup_steps = 0;  // the same in steps ("wsd", whose end is open)
  std::int64_t decay_start = 0;   // "wsd": step from which on the rate falls; >= steps: it does not
  double decay_from = 0;          // "wsd": progress of the decay at decay_start, [0, 1)
  double schedule_power = 0.9;    // "poly": (1 - step / steps) to this power
  std::int64_t schedule_every = 100;  // "step": times schedule_gamma every so many steps
  double schedule_gamma = 0.1;        // "step", "multistep"; "exponential": each step
  std::vector<std::int64_t> schedule_milestones;  // "multistep": steps, rising
  double clip_norm = 12;                          // gradient norm; 0: none
  double foreground_fraction = 0.33;  // share of patches centred on a labelled voxel, [0, 1]
  double augmentation = 1;  // strength of `augmentations`, [0, 2]: 0 none, 1 as they are written
  std::optional<std::vector<Augmentation>> augmentations;  // none: standard_augmentations()
  bool mirror = true;        // false: no mirroring, whatever the list says
  double average_decay = 0;  // exponential weight averaging, 0: none
  bool deep_supervision = true;
  std::string loss = "dice_ce";  // "dice_ce", "dice_focal" (focal instead of cross-entropy), "ce",
                                 // "dice", "focal", a TorchScript file "my_loss.ts"
  ObjectText loss_settings;      // of such a file: what of its own attributes is set
  bool batch_dice = false;       // Dice of the whole batch, not the mean of the samples'
  double dice_weight = 1;        // of the Dice part, >= 0
  double ce_weight = 1;          // of cross-entropy or focal loss, >= 0
  double dice_smooth = 1e-5;     // added above and below the quotient of Dice, >= 0
  bool include_background = false;  // in Dice; regions have none
  bool squared_dice = false;        // squares of the probabilities below the quotient (V-Net)
  bool generalized_dice = false;    // one quotient over the classes, each by 1 / (its voxels)^2
  double focal_gamma = 2;           // of "dice_focal" and "focal"
  std::string precision = "auto";   // "auto", "fp32", "bf16", "fp16" (CUDA only)
  std::string device = "auto";      // "auto", "cpu", "cuda", "cuda:1"
  std::uint64_t seed = 1;
  int threads = 0;  // compute threads, 0: all
  bool operator==(const TrainOptions&) const = default;
};

/// Whether some samples are mirrored.
bool mirrors_images(const TrainOptions& options);

/// Share of a "wsd" training over which its rate falls, and the steps before it.
constexpr double kDecayShare = 0.25;
std::int64_t stable_steps(std::int64_t steps);

/// Options that came later stand in it only where they are not as before, so that what was trained
/// with an older version can be gone on with.
Json to_json(const TrainOptions& options);
/// Unknown keys are errors with the nearest known name; missing keys keep the value of `defaults`,
/// but for decay_start, which follows `steps`, and with a list of augmentations their strength,
/// which is 1, and `mirror`, which is whether the list mirrors. \throws Error(Usage|Input) naming `where`, the key, what was expected and found.
TrainOptions train_options_from_json(const Json& value,
                                     const std::string& where,
                                     const TrainOptions& defaults = {});
/// \throws Error(Usage) naming the option, its range and the value.
void check_train_options(const TrainOptions& options);

}  // namespace nas
