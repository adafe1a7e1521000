// SPDX-License-Identifier: Apache-2.0
#include "training/settings/plan_training.h"

#include <algorithm>
#include <cmath>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "search_spaces/planned_unet/plan.h"
#include "training/settings/schedule.h"

namespace nas {
namespace {

/// nnU-Net's optimizer, or for a short training one that moves sooner.
void take_sgd(TrainOptions& options) {
  const bool is_long = options.steps >= kLongSteps;
  options.optimizer = "sgd";
  options.learning_rate = is_long ? 1e-2 : 5e-2;
  options.momentum = is_long ? 0.99 : 0.9;
  options.weight_decay = 3e-5;
  options.clip_norm = 12;
}

/// AdamW at the batch and steps of the options.
void take_adamw(TrainOptions& options) {
  const double batch = static_cast<double>(options.batch);
  const double steps = static_cast<double>(options.steps);
  options.optimizer = "adamw";
  options.learning_rate = std::min(3e-3, 2e-3 * std::sqrt(batch / 2)) * std::min(1.0, steps / 100);
  options.weight_decay = 1e-2;
  options.clip_norm = 1;
}

/// Adam moves as AdamW does; its decay goes through the gradient, so there is none.
void take_adam(TrainOptions& options) {
  take_adamw(options);
  options.optimizer = "adam";
  options.weight_decay = 0;
}

/// NovoGrad at its authors' betas; its steps are as long as the learning rate per tensor, so the
/// rate is that of SGD on a long training.
void take_novograd(TrainOptions& options) {
  take_adamw(options);
  options.optimizer = "novograd";
  options.learning_rate = 1e-2;
  options.weight_decay = 1e-3;
  options.beta1 = 0.95;
  options.beta2 = 0.98;
}

/// Muon for the kernels, AdamW for the rest; one learning rate, whatever the batch.
void take_muon(TrainOptions& options) {
  take_adamw(options);
  options.optimizer = "muon";
  options.learning_rate = 8e-3;
  options.momentum = 0.9;
}

/// What the rule wants of nnU-Net's list; a list of the user's own is meant as it is written.
void take_augmentation(TrainOptions& options, double strength, bool mirror) {
  if (options.augmentations) return;
  options.augmentation = strength;
  options.mirror = mirror;
}

}  // namespace

TrainOptions adjust_train_options(const Json& changes,
                                  const std::string& where,
                                  const TrainOptions& planned) {
  const JsonReader reader(changes, where);
  reader.keys();  // must be an object
  TrainOptions options = planned;
  if (reader.has("optimizer")) {
    const std::string optimizer = reader.at("optimizer").text();
    if (optimizer != planned.optimizer && optimizer == "sgd") take_sgd(options);
    if (optimizer != planned.optimizer && optimizer == "adam") take_adam(options);
    if (optimizer != planned.optimizer && optimizer == "adamw") take_adamw(options);
    if (optimizer != planned.optimizer && optimizer == "novograd") take_novograd(options);
    if (optimizer != planned.optimizer && optimizer == "muon") take_muon(options);
  }
  Json rest = changes;
  const auto multiply = [&](const char* key, double& value) {
    if (!reader.has(key)) return;
    value *= reader.at(key).number();
    rest.erase(key);
  };
  multiply("learning_rate_factor", options.learning_rate);
  multiply("weight_decay_factor", options.weight_decay);
  if (reader.has("augmentations") && !reader.has("augmentation")) options.augmentation = 1;
  multiply("augmentation_factor", options.augmentation);
  options.augmentation = std::min(options.augmentation, 2.0);
  if (!rest.contains("augmentation")) rest["augmentation"] = options.augmentation;
  return train_options_from_json(rest, where, options);
}

TrainOptions plan_training(const Configuration& plan,
                           std::int64_t training_cases,
                           const TrainBudget& budget,
                           const std::function<double(std::int64_t)>& seconds_per_step,
                           const TrainOptions& base) {
  NAS_CHECK_KIND(Usage,
                 (budget.seconds > 0) != (budget.steps > 0),
                 "training budget: expected seconds or steps (one of both), found ",
                 budget.seconds,
                 " s and ",
                 budget.steps,
                 " steps");
  NAS_CHECK_KIND(
      Internal, budget.seconds <= 0 || seconds_per_step, "plan_training: no measured step time");
  const auto steps_bought = [&](std::int64_t batch) {
    if (budget.steps > 0) return budget.steps;
    return static_cast<std::int64_t>(budget.seconds / std::max(seconds_per_step(batch), 1e-9));
  };
  TrainOptions options = base;
  options.patch = plan.patch;
  options.batch_dice = plan.batch_dice;
  options.deep_supervision = plan.architecture.deep_supervision;

  if (steps_bought(plan.batch) >= kLongSteps) {  // nnU-Net's own recipe
    options.batch = plan.batch;
    options.steps = steps_bought(plan.batch);
    take_sgd(options);
    options.schedule = "poly";
    options.warmup_fraction = 0;
    options.foreground_fraction = 0.33;
    take_augmentation(options, 1, true);
    options.average_decay = 0;
    return options;
  }

  if (budget.steps > 0) {
    options.batch = std::min<std::int64_t>(plan.batch, 4);
  } else {
    options.batch = kSmallestBatch;
    while (2 * options.batch <= plan.batch && steps_bought(2 * options.batch) >= kWantedSteps)
      options.batch *= 2;
  }
  options.steps = steps_bought(options.batch);
  NAS_CHECK_KIND(Usage,
                 options.steps >= 1,
                 "training budget of ",
                 budget.seconds,
                 " s buys no step of ",
                 seconds_per_step ? seconds_per_step(options.batch) : 0,
                 " s; give more time or a smaller network");
  const double steps = static_cast<double>(options.steps);
  const double batch = static_cast<double>(options.batch);
  take_muon(options);
  set_wsd(options);
  options.foreground_fraction = 0.33;
  const double passes =
      steps * batch / static_cast<double>(std::max<std::int64_t>(training_cases, 1));
  const double position =
      std::clamp(std::log(std::max(passes, 1e-9) / 20) / std::log(10.0), 0.0, 1.0);
  take_augmentation(options, 0.3 + 0.7 * position, passes >= 60);
  options.average_decay = kAverageDecay;
  return options;
}

}  // namespace nas
