// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "nas/core/json.h"
#include "training/settings/options.h"

namespace nas {

struct Configuration;

/// Planned options with the changes that a genotype asks for (Phenotype::training). Keys are names
/// of options, whose value replaces the planned one, and "learning_rate_factor",
/// "weight_decay_factor" and "augmentation_factor", which multiply it (augmentation up to 2). An
/// optimizer other than the planned one first brings its own learning rate, weight decay and
/// clipping: those of plan_training for Muon or for a long SGD; AdamW and Adam have 2e-3 at batch 2, in
/// proportion to sqrt(batch), 3e-3 at most, below 100 steps times steps / 100; NovoGrad has 1e-2 and
/// its paper's betas; a short SGD has momentum 0.9 and learning rate 0.05 (ours: nnU-Net's 0.99
/// needs thousands of steps). \throws as train_options_from_json.
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
/// \param base values that the rule leaves alone: seed, device, precision, threads, and with a list
/// of augmentations that list, its strength and mirroring.
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
