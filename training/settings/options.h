// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "nas/core/extent.h"
#include "nas/core/json.h"

namespace nas {

struct Configuration;

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

Json to_json(const TrainOptions& options);
/// Unknown keys are errors with the nearest known name; missing keys keep the value of `defaults`,
/// but for decay_start, which follows `steps`. \throws Error(Usage|Input) naming `where`, the key, what was expected and found.
TrainOptions train_options_from_json(const Json& value,
                                     const std::string& where,
                                     const TrainOptions& defaults = {});
/// \throws Error(Usage) naming the option, its range and the value.
void check_train_options(const TrainOptions& options);

/// Planned options with the changes that a genotype asks for (Phenotype::training). Keys are names
/// of options, whose value replaces the planned one, and "learning_rate_factor",
/// "weight_decay_factor" and "augmentation_factor", which multiply it (augmentation up to 2). An
/// optimizer other than the planned one first brings its own learning rate, weight decay and
/// clipping: those of plan_training for Muon or for a long SGD; AdamW has 2e-3 at batch 2, in
/// proportion to sqrt(batch), 3e-3 at most, below 100 steps times steps / 100; a short SGD has
/// momentum 0.9 and learning rate 0.05 (ours: nnU-Net's 0.99 needs thousands of steps). \throws as
/// train_options_from_json.
TrainOptions adjust_train_options(const Json& changes,
                                  const std::string& where,
                                  const TrainOptions& planned);

/// What a training may cost: seconds, or steps (reproducible); one of both is set.
struct TrainBudget {
  double seconds = 0;
  std::int64_t steps = 0;
};

/// The schedule rule: from the plan and what the budget buys to options. Ours, not nnU-Net's.
///
/// nnU-Net's recipe (SGD, momentum 0.99, lr 0.01, 250,000 steps) is bad for a short budget: in 190
/// steps it reached a Dice of 0.12 where AdamW reached 0.88.
///  1. Long: the budget buys kLongSteps steps at the plan's batch. nnU-Net's own recipe, its batch,
///     full augmentation with mirroring.
///  2. Short: Muon (training/fit/optimizer.h) at 8e-3; warm-up over 5 % of the steps, at most
///     kMostWarmup, then constant, and over the last kDecayShare to 0 (training/settings/schedule.h);
///     gradient norm clipped to 1. Measured at 6e-3 on Hippocampus fold 0, 1.4 M parameters: 160
///     steps of batch 2 reach a held-out Dice of 0.874 (AdamW at 2e-3: 0.827), 40 steps of batch 4
///     0.817 (AdamW at 3e-3: 0.658).
///     - Batch: the largest power of two up to the plan's that leaves kWantedSteps steps, at least
///       kSmallestBatch (small batches buy more steps; a single sample is too noisy and leaves
///       processors idle). A budget in steps has no clock: min(plan's batch, 4).
///     - Augmentation: by passes over the cases, steps * batch / cases. Up to 20 passes data are
///       not the limit: 0.3 of the strength; from 200 passes on all of it; between, linear in the
///       logarithm. Mirroring from 60 passes on: before that it only costs convergence.
///       Whether it stays on is tried first (training/mirror_check.h).
///     - Averaged weights over about the last 5 % of the steps done (scheduled_average_decay).
///
/// \param seconds_per_step measured step time of a batch; needed with a budget in seconds.
/// \param base values that the rule leaves alone: seed, device, precision, threads.
/// \throws Error(Usage) if the budget is empty or buys less than one step.
TrainOptions plan_training(const Configuration& plan,
                           std::int64_t training_cases,
                           const TrainBudget& budget,
                           const std::function<double(std::int64_t batch)>& seconds_per_step = {},
                           const TrainOptions& base = {});

constexpr const char* kShortOptimizer = "muon";
constexpr std::int64_t kLongSteps = 20000;
constexpr std::int64_t kWantedSteps = 1000;
constexpr std::int64_t kSmallestBatch = 2;

}  // namespace nas
