// SPDX-License-Identifier: Apache-2.0
// Losses, optimizers and schedules are what MONAI and PyTorch mean by them.
#include <string>

#include <gtest/gtest.h>

#include "nas/network/safetensors.h"
#include "tests/interop/interop.h"
#include "tests/support/tensors.h"
#include "training/fit/losses.h"
#include "training/fit/optimizer.h"
#include "training/settings/options.h"
#include "training/settings/schedule.h"

namespace nas {
namespace {

using test::largest_difference;
using test::tensor_of;

/// What monai_training.py computed.
class MonaiTraining : public testing::Test {
 protected:
  void SetUp() override {
    NAS_PYTHON_OR_SKIP(python);
    if (!test::python_has(python, "monai")) {
      GTEST_SKIP() << "needs MONAI in the Python environment of scripts/setup.sh";
    }
    const std::filesystem::path file = temp_ / "training.safetensors";
    ASSERT_TRUE(test::run_logged(
        python.string() + " " + NAS_INTEROP_DIR + "/monai_training.py " + file.string(),
        temp_ / "log"));
    theirs_.emplace(file);
  }
  at::Tensor tensor(const std::string& name) const { return tensor_of(*theirs_, name); }

  /// Our loss of `options` against theirs, up to the constant that 1 - Dice adds.
  void expect_equal(const std::string& name, const TrainOptions& options, double factor = 1) const {
    at::Tensor logits = tensor("logits").requires_grad_(true);
    const DiceCeOptions ours = loss_options(options);
    const at::Tensor loss = dice_ce_loss(logits, tensor("labels").to(at::kShort), ours);
    EXPECT_NEAR((loss.item<double>() + ours.dice_weight) * factor,
                tensor("loss." + name).item<double>(),
                3e-6)
        << name;
    loss.backward();
    EXPECT_LT(largest_difference(logits.grad() * factor, tensor("gradient." + name)), 1e-7) << name;
  }

  test::TempFolder temp_;
  std::optional<SafetensorsFile> theirs_;
};

TEST_F(MonaiTraining, LossesAreTheirs) {
  for (const bool background : {false, true}) {
    for (const bool batch : {false, true}) {
      const std::string suffix =
          std::string(background ? ".background" : "") + (batch ? ".batch" : "");
      TrainOptions options;
      options.loss = "dice";
      options.dice_smooth = 1e-3;
      options.include_background = background;
      options.batch_dice = batch;
      expect_equal("dice" + suffix, options);
      options.squared_dice = true;
      expect_equal("squared" + suffix, options);
      options.squared_dice = false;
      options.generalized_dice = true;
      expect_equal("generalized" + suffix, options);
      options.generalized_dice = false;
      options.loss = "dice_ce";
      options.dice_weight = 0.75;
      options.ce_weight = 0.5;
      expect_equal("dice_ce" + suffix, options);
    }
  }
  TrainOptions focal;
  focal.loss = "focal";
  focal.focal_gamma = 1.5;
  expect_equal("focal", focal, 1.0 / 3);  // theirs is the mean over voxels and classes
}

TEST_F(MonaiTraining, SchedulesAreTheirs) {
  TrainOptions options;
  options.steps = 60;
  options.learning_rate = 0.1;
  options.schedule_every = 7;
  options.schedule_milestones = {5, 20, 21};
  options.schedule_power = 1.7;
  for (const auto& [schedule, gamma] : {std::pair<std::string, double>{"step", 0.6},
                                        {"multistep", 0.3},
                                        {"exponential", 0.95},
                                        {"poly", 1},
                                        {"cosine", 1}}) {
    options.schedule = schedule;
    options.schedule_gamma = gamma;
    const at::Tensor rates = tensor("rate." + schedule);
    for (std::int64_t step = 0; step < 60; ++step) {
      EXPECT_NEAR(scheduled_learning_rate(options, step), rates[step].item<double>(), 1e-8)
          << schedule << ", step " << step;
    }
  }
}

TEST_F(MonaiTraining, OptimizersAreTheirs) {
  for (const std::string name : {"novograd", "adam", "adamw"}) {
    TrainOptions options;
    options.optimizer = name;
    options.beta2 = 0.97;
    options.epsilon = 1e-7;
    options.weight_decay = 0.02;
    at::Tensor parameter = tensor("start").requires_grad_(true);
    Optimizer optimizer({parameter}, options);
    for (const char* gradient : {"first", "second", "first", "second"}) {
      parameter.mutable_grad() = tensor(gradient);
      optimizer.step(0.03);
    }
    EXPECT_LT(largest_difference(parameter.detach(), tensor("parameter." + name)), 1e-6) << name;
  }
}

}  // namespace
}  // namespace nas
