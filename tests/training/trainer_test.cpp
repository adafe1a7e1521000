// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <memory>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/rng.h"
#include "nas/network/graph.h"
#include "nas/network/operations.h"
#include "nas/network/safetensors.h"
#include "search_spaces/c2fnas/c2fnas.h"
#include "search_spaces/planned_unet/plan.h"
#include "search_spaces/planned_unet/unet.h"
#include "search_spaces/spaces.h"
#include "tests/support/small_training.h"
#include "tests/support/support.h"
#include "tests/support/tensors.h"
#include "tests/training/kernels/sample_case.h"
#include "training/fit/batches.h"
#include "training/fit/fit.h"
#include "training/fit/losses.h"
#include "training/fit/optimizer.h"
#include "training/fit/probe.h"
#include "training/fit/trainer.h"
#include "training/model/convolution.h"
#include "training/model/device.h"
#include "training/model/graph_module.h"
#include "training/model/norm_act.h"
#include "training/model/weights.h"
#include "training/settings/options.h"
#include "training/settings/plan_training.h"
#include "training/settings/schedule.h"
#include "training/train_evaluator.h"
#include "training/trial_run.h"

namespace nas {
namespace {

using test::largest_difference;
using test::random_tensor;
using test::tensor_of;

TEST(CustomFunctions, GradientsEqualFiniteDifferences) {
  // f: sum(result * r) with a fixed random r; central differences in double.
  const auto check = [](const std::function<at::Tensor(const std::vector<at::Tensor>&)>& f,
                        std::vector<at::Tensor> in) {
    for (at::Tensor& x : in) x = x.to(at::kDouble).requires_grad_(true);
    const at::Tensor weight = random_tensor(f(in).sizes(), 99, at::kDouble);
    (f(in) * weight).sum().backward();
    const at::NoGradGuard no_grad;
    for (at::Tensor& x : in) {
      const at::Tensor gradient = x.grad().contiguous();
      at::Tensor flat = x.view(-1);
      for (std::int64_t i = 0; i < flat.numel();
           i += std::max<std::int64_t>(1, flat.numel() / 40)) {
        const double at = flat[i].item<double>(), h = 1e-6;
        flat[i] = at + h;
        const double up = (f(in) * weight).sum().item<double>();
        flat[i] = at - h;
        const double down = (f(in) * weight).sum().item<double>();
        flat[i] = at;
        EXPECT_NEAR(gradient.view(-1)[i].item<double>(), (up - down) / (2 * h), 1e-6);
      }
    }
  };
  const auto last = [](const at::Tensor& x) {
    return x.contiguous(at::MemoryFormat::ChannelsLast3d);
  };
  for (const double slope : {1.0, 0.01}) {
    check(
        [&](const std::vector<at::Tensor>& in) {
          return norm_act(last(in[0]), in[1], in[2], 1e-5, slope);
        },
        {random_tensor({2, 3, 4, 3, 5}, 1), random_tensor({3}, 2), random_tensor({3}, 3)});
  }
  check(
      [&](const std::vector<at::Tensor>& in) {
        return block_conv_transpose(last(in[0]), in[1], in[2]);
      },
      {random_tensor({2, 3, 2, 3, 2}, 4),
       random_tensor({3, 5, 1, 2, 2}, 5),
       random_tensor({5}, 6)});
  at::Tensor target = at::randint(-1, 3, {2, 3, 4, 3}, at::kLong);
  for (const bool batch_dice : {false, true}) {
    check(
        [&](const std::vector<at::Tensor>& in) {
          return dice_ce_loss(in[0], target, {.batch_dice = batch_dice});
        },
        {random_tensor({2, 3, 3, 4, 3}, 7)});
  }
}

TEST(DiceCe, EqualsNnunetWithGradientInBothMemoryFormats) {
  NAS_SHARED_OR_SKIP(path, "oracles/dice_ce_loss.safetensors");
  const SafetensorsFile oracle(path);
  const at::Tensor target = tensor_of(oracle, "target").to(at::kLong);
  for (const bool batch_dice : {false, true}) {
    const std::string name = batch_dice ? "batch_dice_true" : "batch_dice_false";
    for (const bool last : {false, true}) {
      at::Tensor logits = tensor_of(oracle, "logits");
      if (last) logits = logits.contiguous(at::MemoryFormat::ChannelsLast3d);
      logits.requires_grad_(true);
      const at::Tensor loss = dice_ce_loss(logits, target, {.batch_dice = batch_dice});
      EXPECT_NEAR(loss.item<double>(), tensor_of(oracle, "loss." + name).item<double>(), 1e-6);
      loss.backward();
      EXPECT_LT(largest_difference(logits.grad(), tensor_of(oracle, "gradient." + name)), 1e-8);
    }
  }
}

TEST(DiceCe, IgnoredVoxelsCountNowhere) {
  at::Tensor logits = random_tensor({1, 3, 2, 4, 4}, 5);
  at::Tensor target = at::randint(0, 3, {1, 2, 4, 4}, at::kShort);
  target.select(1, 1).fill_(-1);
  at::Tensor whole = logits.clone().requires_grad_(true);
  const at::Tensor loss = dice_ce_loss(whole, target);
  const at::Tensor part = dice_ce_loss(logits.slice(2, 0, 1), target.slice(1, 0, 1));
  EXPECT_FLOAT_EQ(loss.item<float>(), part.item<float>());
  loss.backward();
  EXPECT_EQ(whole.grad().select(2, 1).abs().max().item<float>(), 0);
  EXPECT_THROW(dice_ce_loss(logits, target.slice(1, 0, 1)), Error);
}

TEST(DiceCe, TheGradientIsThatOfTheValueForEveryArgument) {
  at::Tensor target = at::randint(0, 3, {2, 3, 4, 5}, at::kShort);
  target.select(1, 2).fill_(-1);
  target.select(0, 1).masked_fill_(target.select(0, 1).eq(2), 1);  // a class that is not there
  const at::Tensor logits = random_tensor({2, 3, 3, 4, 5}, 3).to(at::kDouble);
  for (int bits = 0; bits < 16; ++bits) {
    const DiceCeOptions options{.batch_dice = (bits & 1) != 0,
                                .smooth = 0.1,
                                .dice_weight = 0.7,
                                .ce_weight = 0.4,
                                .focal_gamma = 1.5,
                                .include_background = (bits & 2) != 0,
                                .squared = (bits & 4) != 0,
                                .generalized = (bits & 8) != 0};
    at::Tensor x = logits.clone().requires_grad_(true);
    dice_ce_loss(x, target, options).backward();
    for (const std::int64_t i : {0, 7, 33, 61, 118, 270, 333}) {
      constexpr double kStep = 1e-5;
      const auto at_offset = [&](double offset) {
        at::Tensor moved = logits.clone();
        moved.view(-1)[i] += offset;
        return dice_ce_loss(moved, target, options).item<double>();
      };
      const double slope = (at_offset(kStep) - at_offset(-kStep)) / (2 * kStep);
      EXPECT_NEAR(x.grad().view(-1)[i].item<double>(), slope, 1e-8) << bits << " at " << i;
    }
  }
}

TEST(DiceCe, FocalAndPlainVariantsEqualTheirFormulas) {
  for (const std::string loss_name : {"dice_ce", "dice_focal", "ce"}) {
    TrainOptions train;
    train.loss = loss_name;
    const DiceCeOptions options = loss_options(train);
    at::Tensor logits = random_tensor({2, 3, 3, 4, 5}, 9).to(at::kDouble) * 3;
    at::Tensor target = at::randint(0, 3, {2, 3, 4, 5}, at::kShort);
    target.select(1, 2).fill_(-1);
    at::Tensor fast = logits.clone().requires_grad_(true);
    at::Tensor naive = logits.clone().requires_grad_(true);
    const at::Tensor found = dice_ce_loss(fast, target, options);

    const at::Tensor valid = target.ge(0).to(at::kDouble);
    const at::Tensor log_p = at::log_softmax(naive, 1);
    const at::Tensor index = target.clamp_min(0).to(at::kLong).unsqueeze(1);
    const at::Tensor log_t = log_p.gather(1, index).squeeze(1);
    const double gamma = loss_name == "dice_focal" ? 2 : 0;
    at::Tensor expected = -((1 - log_t.exp()).pow(gamma) * log_t * valid).sum() / valid.sum();
    if (loss_name != "ce") {
      const at::Tensor mask = valid.unsqueeze(1);
      const at::Tensor p = log_p.exp() * mask;
      const at::Tensor hot = at::zeros_like(p).scatter(1, index, 1.0) * mask;
      const auto sum = [](const at::Tensor& t) { return t.sum({2, 3, 4}).slice(1, 1); };
      expected = expected - ((2 * sum(p * hot) + 1e-5) / (sum(p) + sum(hot) + 1e-5)).mean();
    }
    EXPECT_NEAR(found.item<double>(), expected.item<double>(), 1e-12) << loss_name;
    found.backward();
    expected.backward();
    EXPECT_LT(largest_difference(fast.grad(), naive.grad()), 1e-13) << loss_name;
  }
  TrainOptions unknown;
  unknown.loss = "hinge";
  EXPECT_THROW(loss_options(unknown), Error);
}

/// Random multi-hot target [2, channels, 3, 4, 5], some of it marked as ignored if `ignoring`.
at::Tensor region_target(std::int64_t regions, bool ignoring) {
  at::Tensor target = at::randint(0, 2, {2, regions + (ignoring ? 1 : 0), 3, 4, 5}, at::kByte);
  return target;
}

TEST(DiceBce, FastAndFocalVariantsEqualTheirFormulas) {
  at::manual_seed(5);
  for (const std::string loss_name : {"dice_ce", "dice_focal", "ce"}) {
    for (const bool ignoring : {false, true}) {
      for (const bool batch_dice : {false, true}) {
        SCOPED_TRACE(loss_name + (ignoring ? " ignoring" : "") + (batch_dice ? " batch" : ""));
        TrainOptions train;
        train.loss = loss_name;
        train.batch_dice = batch_dice;
        const DiceCeOptions options = loss_options(train);
        const at::Tensor logits = random_tensor({2, 3, 3, 4, 5}, 9).to(at::kDouble) * 3;
        const at::Tensor target = region_target(3, ignoring);
        at::Tensor fast = logits.clone().requires_grad_(true);
        at::Tensor naive = logits.clone().requires_grad_(true);
        const at::Tensor found = dice_bce_loss(fast, target, options);

        const at::Tensor t = target.narrow(1, 0, 3).to(at::kDouble);
        const at::Tensor mask = ignoring ? 1 - target.narrow(1, 3, 1).to(at::kDouble)
                                         : at::ones({2, 1, 3, 4, 5}, at::kDouble);
        const at::Tensor p = at::sigmoid(naive);
        const at::Tensor right = p * t + (1 - p) * (1 - t);
        const double gamma = loss_name == "dice_focal" ? 2 : 0;
        at::Tensor expected = -((1 - right).pow(gamma) * right.log() * mask).sum() /
                              (mask.sum() * (ignoring ? 1 : 3));
        if (loss_name != "ce") {
          const auto sum = [&](const at::Tensor& x) {
            const at::Tensor each = (x * mask).sum({2, 3, 4});
            return batch_dice ? each.sum(0) : each;
          };
          expected = expected - ((2 * sum(p * t) + 1e-5) / (sum(p) + sum(t) + 1e-5)).mean();
        }
        EXPECT_NEAR(found.item<double>(), expected.item<double>(), 1e-12);
        found.backward();
        expected.backward();
        EXPECT_LT(largest_difference(fast.grad(), naive.grad()), 1e-13);
      }
    }
  }
}

TEST(DiceBce, TheGradientIsThatOfTheValueInBothMemoryFormats) {
  at::manual_seed(6);
  const at::Tensor target = region_target(2, true);
  const at::Tensor logits = random_tensor({2, 2, 3, 4, 5}, 3).to(at::kDouble);
  for (const auto format : {at::MemoryFormat::Contiguous, at::MemoryFormat::ChannelsLast3d}) {
    at::Tensor x = logits.contiguous(format).clone().requires_grad_(true);
    dice_bce_loss(x, target).backward();
    for (const std::int64_t i : {0, 7, 33, 61, 118}) {
      constexpr double kStep = 1e-5;
      const auto at_offset = [&](double offset) {
        at::Tensor moved = logits.clone();
        moved.view(-1)[i] += offset;
        return dice_bce_loss(moved, target).item<double>();
      };
      const double slope = (at_offset(kStep) - at_offset(-kStep)) / (2 * kStep);
      EXPECT_NEAR(x.grad().contiguous().view(-1)[i].item<double>(), slope, 1e-9) << i;
    }
  }
  EXPECT_THROW(dice_bce_loss(logits, target.narrow(1, 0, 1)), Error);
}

TEST(TrainingTarget, IsMultiHotForRegionsAndMarksWhatIsIgnored) {
  const at::Tensor labels = at::tensor({0, 1, 2, 3}, at::kShort).view({1, 1, 1, 4});
  LabelScheme scheme{.names = {"background", "a", "b"}};
  EXPECT_TRUE(training_target(labels.narrow(3, 0, 3), scheme).equal(labels.narrow(3, 0, 3)));
  scheme.has_ignore = true;
  EXPECT_TRUE(training_target(labels, scheme)
                  .equal(at::tensor({0, 1, 2, -1}, at::kShort).view({1, 1, 1, 4})));
  scheme.regions = {{1, 2}, {2}};
  scheme.region_labels = {1, 2};
  const at::Tensor expected =
      at::tensor({0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1}, at::kByte).view({1, 3, 1, 1, 4});
  const at::Tensor target = training_target(labels, scheme);
  EXPECT_TRUE(target.equal(expected)) << target;
  // At a lower resolution and in the middle it is what the labels are there.
  EXPECT_TRUE(crop_target(target, {1, 1, 2}).equal(expected.narrow(4, 1, 2)));
  EXPECT_TRUE(resize_target(target, {1, 1, 2})
                  .equal(training_target(resize_target(labels, {1, 1, 2}), scheme)));
  // Hard counts leave the ignored voxel out: region a predicted in voxels 1 and 3.
  at::Tensor logits = at::full({1, 2, 1, 1, 4}, -1.0F);
  logits[0][0][0][0][1] = logits[0][0][0][0][3] = 1;
  const HardCounts counts = hard_counts(logits, target);
  EXPECT_TRUE(counts.common.equal(at::tensor({1.0, 0.0}, at::kDouble)));
  EXPECT_TRUE(counts.both.equal(at::tensor({3.0, 1.0}, at::kDouble)));
}

TEST(DeepSupervision, WeightsHalveAndTheLowestIsLeftOut) {
  EXPECT_EQ(deep_supervision_weights(1), std::vector<double>{1.0});
  const std::vector<double> four = deep_supervision_weights(4);
  EXPECT_NEAR(four[0], 4.0 / 7, 1e-12);
  EXPECT_NEAR(four[2], 1.0 / 7, 1e-12);
  EXPECT_EQ(four[3], 0);
  const at::Tensor target = at::arange(0, 8, at::kShort).view({1, 1, 2, 4}).contiguous();
  EXPECT_TRUE(
      resize_target(target, {1, 1, 2}).equal(at::tensor({5, 7}, at::kShort).view({1, 1, 1, 2})));
}

// ---------------------------------------------------------------- options and the schedule rule

TEST(TrainOptionsTest, ChangesReplaceOrMultiplyWhatIsPlanned) {
  TrainOptions planned;
  planned.steps = 500;
  planned.batch = 2;
  planned.optimizer = "adamw";
  planned.learning_rate = 2e-3;
  planned.weight_decay = 1e-2;
  planned.clip_norm = 1;
  planned.augmentation = 0.8;
  EXPECT_EQ(adjust_train_options(Json::object(), "test", planned), planned);
  EXPECT_EQ(adjust_train_options(Json{{"optimizer", "adamw"}}, "test", planned), planned);
  const TrainOptions changed = adjust_train_options(Json{{"learning_rate_factor", 0.5},
                                                         {"weight_decay_factor", 10},
                                                         {"augmentation_factor", 4},
                                                         {"schedule", "poly"},
                                                         {"loss", "ce"}},
                                                    "test",
                                                    planned);
  EXPECT_DOUBLE_EQ(changed.learning_rate, 1e-3);
  EXPECT_DOUBLE_EQ(changed.weight_decay, 0.1);
  EXPECT_EQ(changed.augmentation, 2) << "as much as there is";
  EXPECT_EQ(changed.schedule, "poly");
  EXPECT_EQ(changed.loss, "ce");
  const TrainOptions sgd = adjust_train_options(
      Json{{"optimizer", "sgd"}, {"learning_rate_factor", 2}}, "test", planned);
  EXPECT_DOUBLE_EQ(sgd.learning_rate, 0.1) << "a factor of the new optimizer's rate";
  EXPECT_EQ(sgd.momentum, 0.9);
  const TrainOptions novograd =
      adjust_train_options(Json{{"optimizer", "novograd"}}, "test", planned);
  EXPECT_EQ(novograd.beta2, 0.98);
  EXPECT_EQ(adjust_train_options(Json{{"optimizer", "adam"}}, "test", planned).weight_decay, 0);
  const Json list = Json::parse(R"([{"name": "noise"}])");
  EXPECT_EQ(adjust_train_options(Json{{"augmentations", list}}, "test", planned).augmentation, 1);
  EXPECT_EQ(adjust_train_options(
                Json{{"augmentations", list}, {"augmentation_factor", 0.5}}, "test", planned)
                .augmentation,
            0.5);
  planned.steps = kLongSteps;
  planned.optimizer = "sgd";
  EXPECT_DOUBLE_EQ(
      adjust_train_options(Json{{"optimizer", "adamw"}}, "test", planned).learning_rate, 2e-3);
  EXPECT_THROW(adjust_train_options(Json{{"loss", "hinge"}}, "test", planned), Error);
  EXPECT_THROW(adjust_train_options(Json{{"learning_rate_factr", 1}}, "test", planned), Error);
}

TEST(TrainOptionsTest, RoundTripAndUnknownKeys) {
  TrainOptions options;
  options.steps = 77;
  options.seed = 0xFFFFFFFFFFFFFFFFull;
  options.patch = {8, 16, 24};
  options.schedule = "cosine";
  EXPECT_EQ(train_options_from_json(Json::parse(to_json(options).dump()), "test"), options);
  EXPECT_EQ(train_options_from_json(Json{{"batch", 3}}, "test", options).steps, 77);
  try {
    train_options_from_json(Json{{"learning_rat", 1}}, "options.json");
    FAIL() << "unknown key passed";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::Usage);
    EXPECT_NE(std::string(error.what()).find("learning_rate"), std::string::npos) << error.what();
  }
  EXPECT_THROW(train_options_from_json(Json{{"batch", 0}}, "test"), Error);
  try {
    train_options_from_json(Json{{"schedule", "linear"}}, "options.json");
    FAIL() << "a wrong value passed";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("options.json: schedule: expected one of poly"),
              std::string::npos)
        << error.what();
  }
  EXPECT_THROW(train_options_from_json(Json{{"seed", -1}}, "test"), Error);
  // Options that came later are written only where they differ; older checkpoints have none.
  options.optimizer = "novograd";
  options.schedule = "multistep";
  options.schedule_milestones = {10, 40};
  options.beta2 = 0.98;
  options.loss = "dice";
  options.include_background = options.generalized_dice = true;
  EXPECT_EQ(train_options_from_json(Json::parse(to_json(options).dump()), "test"), options);
  for (const char* later : {"beta2", "schedule_milestones", "include_background"}) {
    EXPECT_TRUE(to_json(options).contains(later)) << later;
    EXPECT_FALSE(to_json(TrainOptions{}).contains(later)) << later;
  }
  for (const char* wrong : {R"({"schedule": "multistep"})",
                            R"({"schedule": "multistep", "schedule_milestones": [10, 10]})",
                            R"({"schedule_every": 0})",
                            R"({"schedule_gamma": 1.5})",
                            R"({"beta1": 1})",
                            R"({"epsilon": 0})",
                            R"({"loss": "dice", "dice_weight": 0})",
                            R"({"loss": "focal", "ce_weight": 0})",
                            R"({"dice_smooth": -1})",
                            R"({"focal_gamma": -0.5})",
                            R"({"augmentation": 2.5})"}) {
    EXPECT_THROW(train_options_from_json(Json::parse(wrong), "test"), Error) << wrong;
  }
}

TEST(TrainOptionsTest, SchedulesStartAndEndWhereTheyShould) {
  TrainOptions options;
  options.steps = 100;
  options.learning_rate = 0.1;
  options.schedule = "poly";
  EXPECT_DOUBLE_EQ(scheduled_learning_rate(options, 0), 0.1);
  EXPECT_NEAR(scheduled_learning_rate(options, 50), 0.1 * std::pow(0.5, 0.9), 1e-12);
  options.schedule = "cosine";
  options.warmup_fraction = 0.1;
  EXPECT_NEAR(scheduled_learning_rate(options, 0), 0.01, 1e-12);
  EXPECT_NEAR(scheduled_learning_rate(options, 50), 0.05, 1e-12);
  EXPECT_LT(scheduled_learning_rate(options, 99), 1e-4);
  options.warmup_fraction = 0;
  options.schedule = "poly";
  options.schedule_power = 2;
  EXPECT_NEAR(scheduled_learning_rate(options, 50), 0.1 * 0.25, 1e-12);
  options.schedule = "step";
  options.schedule_every = 30;
  options.schedule_gamma = 0.5;
  EXPECT_EQ(scheduled_learning_rate(options, 29), 0.1);
  EXPECT_NEAR(scheduled_learning_rate(options, 60), 0.025, 1e-12);
  options.schedule = "multistep";
  options.schedule_milestones = {10, 15};
  EXPECT_EQ(scheduled_learning_rate(options, 9), 0.1);
  EXPECT_NEAR(scheduled_learning_rate(options, 10), 0.05, 1e-12);
  EXPECT_NEAR(scheduled_learning_rate(options, 99), 0.025, 1e-12);
  EXPECT_TRUE(can_continue(options));
  options.schedule = "exponential";
  options.schedule_gamma = 0.99;
  EXPECT_NEAR(scheduled_learning_rate(options, 7), 0.1 * std::pow(0.99, 7), 1e-12);
  options.average_decay = 0.99;
  EXPECT_NEAR(scheduled_average_decay(options, 0), 0.1, 1e-12);
  EXPECT_NEAR(scheduled_average_decay(options, 100000), 0.99, 1e-12);
}

TEST(TrainOptionsTest, TheListWrittenOutForAStrengthGivesTheSameBatches) {
  const test::SampleCase source({20, 21, 22}, 2, 4);
  const std::vector<const CachedCase*> cases{&source.cached};
  TrainOptions scalar;
  scalar.patch = {8, 10, 12};
  for (const double strength : {0.4, 1.6}) {
    scalar.augmentation = strength;
    const TrainOptions listed = train_options_from_json(
        Json{{"augmentations", to_json(at_strength(standard_augmentations(), strength))}},
        "test",
        scalar);
    EXPECT_EQ(listed.augmentation, 1);
    for (std::int64_t step = 0; step < 50; ++step) {
      const Batch a = make_batch(cases, scalar, step), b = make_batch(cases, listed, step);
      ASSERT_TRUE(a.image.equal(b.image)) << strength << ", step " << step;
      ASSERT_TRUE(a.target.equal(b.target)) << strength << ", step " << step;
    }
    EXPECT_NE(continuation_identity(listed), continuation_identity(scalar));
  }
}

TEST(TrainOptionsTest, AStableScheduleFallsFromWhereItIsToldTo) {
  TrainOptions options;
  options.steps = 100;
  options.learning_rate = 0.1;
  set_wsd(options);
  EXPECT_EQ(options.warmup_steps, 5);
  EXPECT_EQ(options.decay_start, 75);
  EXPECT_NEAR(scheduled_learning_rate(options, 0), 0.02, 1e-12);
  EXPECT_DOUBLE_EQ(scheduled_learning_rate(options, 74), 0.1);
  EXPECT_NEAR(scheduled_learning_rate(options, 81), 0.1 * (1 - std::sqrt(6.0 / 25)), 1e-12);
  EXPECT_NEAR(scheduled_learning_rate(options, 100), 0, 1e-12);
  const TrainOptions paused = paused_at(options, 40);
  EXPECT_DOUBLE_EQ(scheduled_learning_rate(paused, 39), 0.1) << "not finished";
  EXPECT_EQ(continuation_identity(paused), continuation_identity(options));
  const TrainOptions late = finished_at(options, 80, 70);
  EXPECT_EQ(late.decay_start, 70) << "what is done stays";
  options.average_decay = 0.999;
  EXPECT_EQ(scheduled_average_decay(paused_at(options, 40), 30),
            scheduled_average_decay(options, 30));
  TrainOptions cosine = options;
  cosine.schedule = "cosine";
  EXPECT_FALSE(can_continue(cosine));
  EXPECT_NE(continuation_identity(cosine), continuation_identity(paused_at(cosine, 40)));
  // Another number of steps in a file ends as the planned one does.
  EXPECT_EQ(train_options_from_json(Json{{"steps", 200}}, "test", options).decay_start, 150);
}

/// Trains on a clock of its own: step i takes seconds(i).
TrainOptions paced(double budget, const std::function<double(std::int64_t)>& seconds, double* end) {
  TrainOptions options;
  options.learning_rate = 1;
  options.steps = 100;
  set_wsd(options);
  options = paused_at(options, 100);
  Pace pace;
  double now = 0;
  std::int64_t done = 0;
  while (done < options.steps) {
    now += seconds(done);
    pace.add(seconds(done));
    ++done;
    if (!pace.decide(options, done, budget - now) && done >= options.steps &&
        options.decay_start >= options.steps) {
      options = paused_at(options, 2 * options.steps);
    }
  }
  *end = now;
  return options;
}

TEST(PaceTest, TheClockDecidesOnlyWhenToStop) {
  double end = 0;
  // Faster or slower than was expected: the whole time is used, a quarter of it for the decay.
  for (const double step : {0.1, 1.0, 3.0}) {
    const TrainOptions options = paced(
        100, [&](std::int64_t) { return step; }, &end);
    EXPECT_LE(end, 100);
    EXPECT_GT(end, 90) << step;
    const double share = static_cast<double>(options.steps - options.decay_start) /
                         static_cast<double>(options.steps);
    EXPECT_NEAR(share, kDecayShare, 0.05) << step;
    EXPECT_NEAR(scheduled_learning_rate(options, options.steps), 0, 1e-12);
  }
  // A machine that is busy for the middle third of the time, or from the decay on for good.
  paced(
      300, [&](std::int64_t i) { return i >= 100 && i < 150 ? 2.0 : 1.0; }, &end);
  EXPECT_LE(end, 300);
  EXPECT_GT(end, 240);
  const TrainOptions slow = paced(
      100, [](std::int64_t i) { return i > 80 ? 3.0 : 1.0; }, &end);
  EXPECT_LE(end, 103);
  EXPECT_GT(slow.decay_from, 0) << "the decay was shortened and went on from where it was";
  EXPECT_NEAR(scheduled_learning_rate(slow, slow.steps), 0, 1e-12);
  EXPECT_LT(scheduled_learning_rate(slow, slow.decay_start), 1);
}

/// A plan of the size of Task04 (small patch) or of a large abdominal task.
Configuration planned(bool small) {
  Configuration plan;
  plan.name = "3d_fullres";
  plan.patch = small ? Extent3{40, 56, 40} : Extent3{128, 128, 128};
  plan.batch = small ? 7 : 2;
  return plan;
}

TEST(ScheduleRule, ShortBudgetsGetMuonAndLongOnesNnunetsRecipeOnTwoDataSets) {
  const auto small_step = [](std::int64_t batch) { return 0.2 * static_cast<double>(batch); };
  const auto large_step = [](std::int64_t batch) { return 30.0 * static_cast<double>(batch); };

  const TrainOptions minutes = plan_training(planned(true), 156, {.seconds = 400}, small_step);
  EXPECT_EQ(minutes.optimizer, "muon");
  EXPECT_EQ(minutes.schedule, "wsd");
  EXPECT_EQ(minutes.decay_start, 750);
  EXPECT_EQ(minutes.warmup_steps, 50);
  EXPECT_EQ(minutes.batch, 2);
  EXPECT_EQ(minutes.steps, 1000);
  EXPECT_FALSE(minutes.mirror);
  EXPECT_LT(minutes.augmentation, 1);
  EXPECT_GT(minutes.average_decay, 0);

  const TrainOptions hours = plan_training(planned(true), 156, {.seconds = 4 * 3600}, small_step);
  EXPECT_EQ(hours.optimizer, "muon");
  EXPECT_EQ(hours.batch, 4);  // the largest power of two up to the plan's 7
  EXPECT_TRUE(hours.mirror);
  EXPECT_EQ(hours.augmentation, 1);

  const TrainOptions days = plan_training(planned(true), 156, {.seconds = 86400}, small_step);
  EXPECT_EQ(days.optimizer, "sgd");
  EXPECT_EQ(days.batch, 7);
  EXPECT_EQ(days.momentum, 0.99);
  EXPECT_EQ(days.schedule, "poly");
  EXPECT_TRUE(days.mirror);

  const TrainOptions large = plan_training(planned(false), 100, {.seconds = 86400}, large_step);
  EXPECT_EQ(large.optimizer, "muon");
  EXPECT_EQ(large.batch, 2);
  EXPECT_EQ(large.steps, 1440);
  EXPECT_EQ(large.patch, (Extent3{128, 128, 128}));

  TrainOptions base;
  base.precision = "fp32";
  base.seed = 9;
  const TrainOptions steps = plan_training(planned(true), 156, {.steps = 500}, {}, base);
  EXPECT_EQ(steps.steps, 500);
  EXPECT_EQ(steps.precision, "fp32");
  EXPECT_EQ(steps.seed, 9u);
  EXPECT_EQ(plan_training(planned(true), 156, {.steps = 250000}).optimizer, "sgd");
  EXPECT_THROW(plan_training(planned(false), 100, {.seconds = 10}, large_step), Error);
  EXPECT_THROW(plan_training(planned(false), 100, {}), Error);
}

// ---------------------------------------------------------------- optimizers

TEST(Optimizers, EqualLibtorchsOwnOverSeveralSteps) {
  for (const std::string name : {"sgd", "adam", "adamw"}) {
    at::Tensor w = random_tensor({3, 4}, 1).requires_grad_(true),
               b = random_tensor({4}, 2).requires_grad_(true);
    at::Tensor rw = w.detach().clone().requires_grad_(true),
               rb = b.detach().clone().requires_grad_(true);
    TrainOptions options;
    options.optimizer = name;
    options.weight_decay = 0.1;
    options.momentum = 0.9;
    options.beta1 = 0.8;
    options.beta2 = 0.99;
    options.epsilon = 1e-6;
    Optimizer ours({w, b}, options);
    std::unique_ptr<torch::optim::Optimizer> theirs;
    if (name == "adamw") {
      // No decay on the bias.
      std::vector<torch::optim::OptimizerParamGroup> groups;
      for (const auto& [parameter, decay] : {std::pair{rw, 0.1}, {rb, 0.0}}) {
        groups.emplace_back(
            std::vector<at::Tensor>{parameter},
            std::make_unique<torch::optim::AdamWOptions>(
                torch::optim::AdamWOptions(0.05).betas({0.8, 0.99}).eps(1e-6).weight_decay(decay)));
      }
      theirs = std::make_unique<torch::optim::AdamW>(groups, torch::optim::AdamWOptions(0.05));
    } else if (name == "adam") {
      theirs = std::make_unique<torch::optim::Adam>(
          std::vector<at::Tensor>{rw, rb},
          torch::optim::AdamOptions(0.05).betas({0.8, 0.99}).eps(1e-6).weight_decay(0.1));
    } else {
      theirs = std::make_unique<torch::optim::SGD>(
          std::vector<at::Tensor>{rw, rb},
          torch::optim::SGDOptions(0.05).momentum(0.9).weight_decay(0.1).nesterov(true));
    }
    const at::Tensor x = random_tensor({5, 3}, 3);
    for (int step = 0; step < 5; ++step) {
      ours.zero_grad();
      theirs->zero_grad();
      (at::mm(x, w) + b).sin().sum().backward();
      (at::mm(x, rw) + rb).sin().sum().backward();
      ours.step(0.05);
      theirs->step();
    }
    EXPECT_LT(largest_difference(w.detach(), rw.detach()), 1e-6) << options.optimizer;
    EXPECT_LT(largest_difference(b.detach(), rb.detach()), 1e-6) << options.optimizer;
  }
}

TEST(Optimizers, MuonMovesKernelsAlongTheOrthogonalFactorAndTheRestAsAdamW) {
  for (const auto& [rows, columns] : {std::pair{8, 27}, {64, 864}, {40, 12}, {16, 16}}) {
    const at::Tensor matrix = random_tensor({rows, columns}, 1);
    const auto [u, s, v] = at::linalg_svd(matrix, false);
    const at::Tensor ours = orthogonalized(matrix);
    const at::Tensor found = at::linalg_svdvals(ours);
    EXPECT_GT(found.min().item<double>(), 0.4) << rows << " x " << columns;
    EXPECT_LT(found.max().item<double>(), 1.25) << rows << " x " << columns;
    // The same singular vectors: what is left of the difference is the spread of the values.
    const at::Tensor inner = at::mm(at::mm(u.t(), ours), v.t());
    EXPECT_LT((inner - inner.diagonal().diag()).abs().max().item<double>(), 2e-3);
  }
  EXPECT_EQ(orthogonalized(at::zeros({8, 9})).abs().max().item<double>(), 0);

  at::Tensor kernel = random_tensor({16, 8, 3, 3, 3}, 2).requires_grad_(true),
             head = random_tensor({3, 16, 1, 1, 1}, 3).requires_grad_(true);
  const at::Tensor kernel_before = kernel.detach().clone(), head_before = head.detach().clone();
  TrainOptions options;
  options.optimizer = "muon";
  options.momentum = 0.9;
  options.weight_decay = 0;
  Optimizer muon({kernel, head}, options);
  kernel.mutable_grad() = random_tensor({16, 8, 3, 3, 3}, 4);
  head.mutable_grad() = random_tensor({3, 16, 1, 1, 1}, 5);
  muon.step(0.01);
  const at::Tensor direction =
      orthogonalized(1.9 * kernel.grad().reshape({16, -1})).reshape(kernel.sizes());
  EXPECT_LT(
      largest_difference(kernel.detach(), kernel_before - 0.01 * std::sqrt(8 * 27.0) * direction),
      1e-6);
  const double size = (kernel.detach() - kernel_before).square().mean().sqrt().item<double>();
  EXPECT_NEAR(size, 0.01, 0.003) << "the root mean square that AdamW begins with";
  EXPECT_LT(largest_difference(head.detach(), head_before - 0.01 * head.grad().sign()), 1e-6);
}

TEST(Optimizers, ClippingKeepsTheDirectionAndRefusesWhatIsNotFinite) {
  at::Tensor w = at::zeros({2}).requires_grad_(true);
  Optimizer optimizer({w}, TrainOptions{});
  w.mutable_grad() = at::tensor({30.f, 40.f});
  EXPECT_TRUE(clip_gradients(optimizer, 5));
  EXPECT_LT(largest_difference(w.grad(), at::tensor({3.f, 4.f})), 1e-4);
  EXPECT_TRUE(clip_gradients(optimizer, 100));
  EXPECT_LT(largest_difference(w.grad(), at::tensor({3.f, 4.f})), 1e-4);
  w.mutable_grad() = at::tensor({1.f, std::numeric_limits<float>::infinity()});
  EXPECT_FALSE(clip_gradients(optimizer, 5));
}

TEST(Optimizers, WeightAverageIsTheExponentialMean) {
  at::Tensor w = at::zeros({3});
  WeightAverage average({w});
  double expected = 0;
  for (const double value : {1.0, 2.0, 5.0}) {
    w.fill_(value);
    average.update(0.75);
    expected = 0.75 * expected + 0.25 * value;
  }
  average.swap();
  EXPECT_NEAR(w[0].item<double>(), expected, 1e-6);
}

TEST(GradScalers, HalvesOnOverflowAndDoublesAfterGoodSteps) {
  GradScaler scaler(at::kCPU, 1024, 2);
  at::Tensor w = at::ones({2}).requires_grad_(true);
  scaler.scale((w * 3).sum()).backward();
  EXPECT_EQ(w.grad()[0].item<float>(), 3 * 1024);
  EXPECT_TRUE(scaler.unscale({w}));
  EXPECT_EQ(w.grad()[0].item<float>(), 3);
  scaler.update();
  EXPECT_EQ(scaler.current(), 1024);
  w.mutable_grad() = at::tensor({1.f, std::numeric_limits<float>::infinity()});
  EXPECT_FALSE(scaler.unscale({w}));
  scaler.update();
  EXPECT_EQ(scaler.current(), 512);
  for (int i = 0; i < 2; ++i) {
    w.mutable_grad() = at::ones({2});
    EXPECT_TRUE(scaler.unscale({w}));
    scaler.update();
  }
  EXPECT_EQ(scaler.current(), 1024);
}

// ---------------------------------------------------------------- fit

constexpr std::int64_t kPhantomCases = 5;

Graph small_unet() { return make_unet(test::small_architecture()); }

TrainOptions small_training(std::int64_t steps) {
  TrainOptions options = test::small_options(steps);
  options.average_decay = 0.9;
  return options;
}

std::string weights_of(GraphModule& network) {
  std::string bytes;
  for (const auto& item : network->named_parameters()) {
    const at::Tensor t = item.value().detach().contiguous();
    bytes += item.key() + std::string(static_cast<const char*>(t.const_data_ptr()), t.nbytes());
  }
  return bytes;
}

TEST(Fit, LearnsOnePatchByHeartInBothPrecisions) {
  const test::TempFolder folder;
  const test::SmallPhantom phantom(folder.path(), kPhantomCases);
  for (const std::string precision : {"fp32", "bf16"}) {
    TrainOptions options = small_training(60);
    options.precision = precision;
    options.augmentation = 0;
    options.mirror = false;
    options.average_decay = 0;
    options.foreground_fraction = 0;
    GraphModule network(small_unet());
    const FitReport report =
        fit(network, phantom.cache, {phantom.ids[0]}, options, test::quiet_files({}));
    EXPECT_EQ(report.status, "done");
    EXPECT_EQ(report.skipped, 0);
    ASSERT_EQ(report.losses.size(), 60u);
    EXPECT_GT(report.losses.front(), 0.6);
    EXPECT_LT(report.losses.back(), 0.3 * report.losses.front()) << precision;
    EXPECT_LT(report.wait_seconds, report.seconds);
  }
}

TEST(Fit, StoppedAndResumedEqualsTheStraightRunAndHooksRideAlong) {
  const test::TempFolder folder;
  const test::SmallPhantom phantom(folder.path(), kPhantomCases);
  for (const std::string optimizer : {"adamw", "sgd", "muon"}) {
    TrainOptions options = small_training(8);
    options.optimizer = optimizer;
    GraphModule straight(small_unet(), options.seed);
    const FitReport whole =
        fit(straight, phantom.cache, phantom.ids, options, test::quiet_files({}));

    const std::filesystem::path run = folder / optimizer;
    int polls = 0, counter = 0;
    FitHooks hooks;
    hooks.should_stop = [&] { return ++polls > 3; };
    hooks.before_step = [&](std::int64_t step, double) {
      EXPECT_EQ(step, counter);
      ++counter;
    };
    hooks.save_state = [&] { return std::to_string(counter); };
    hooks.load_state = [&](const std::string& text) { counter = std::stoi(text); };
    GraphModule first(small_unet(), options.seed);
    EXPECT_EQ(fit(first, phantom.cache, phantom.ids, options, test::quiet_files(run), hooks).status,
              "stopped");
    EXPECT_EQ(counter, 3);
    counter = 0;
    polls = -1000;
    GraphModule second(small_unet(), 4711);
    const FitReport rest =
        fit(second, phantom.cache, phantom.ids, options, test::quiet_files(run), hooks);
    EXPECT_EQ(rest.status, "done");
    EXPECT_EQ(counter, 8);
    EXPECT_EQ(rest.losses, whole.losses);
    EXPECT_EQ(weights_of(second), weights_of(straight));

    // The finished run is taken from its checkpoint; another training is refused.
    GraphModule third(small_unet(), 4711);
    EXPECT_EQ(fit(third, phantom.cache, phantom.ids, options, test::quiet_files(run), hooks).steps,
              8);
    EXPECT_EQ(weights_of(third), weights_of(straight));
    options.learning_rate *= 2;
    EXPECT_THROW(fit(third, phantom.cache, phantom.ids, options, test::quiet_files(run), hooks),
                 Error);
  }
  std::ofstream(folder / "adamw/checkpoint.pt") << "not a checkpoint";
  GraphModule network(small_unet());
  EXPECT_THROW(fit(network,
                   phantom.cache,
                   phantom.ids,
                   small_training(8),
                   test::quiet_files(folder / "adamw")),
               Error);
}

/// A training with averaged weights whose end is open.
TrainOptions open_ended(std::int64_t steps) {
  TrainOptions options = small_training(steps);
  options.optimizer = "muon";
  options.average_decay = kAverageDecay;
  set_wsd(options);
  options.warmup_steps = 2;
  return paused_at(options, steps);
}

TEST(TrainerTest, PausedScoredAndContinuedEqualsTheStraightRunBitForBit) {
  const test::TempFolder folder;
  const test::SmallPhantom phantom(folder.path(), kPhantomCases);
  const TrainOptions whole = finished_at(open_ended(12), 12);
  GraphModule straight(small_unet(), 1);
  const FitReport expected =
      fit(straight, phantom.cache, phantom.ids, whole, test::quiet_files({}));
  EXPECT_NEAR(expected.learning_rate, 0, 1e-12);

  // In one process: pauses, with a look at the averaged weights in each.
  const FitFiles quiet = test::quiet_files({});
  GraphModule paused(small_unet(), 1);
  const auto trainer = make_trainer(paused, phantom.cache, phantom.ids, open_ended(3));
  for (const std::int64_t step : {1, 4, 5, 9}) {
    trainer->run_until(step, quiet);
    const auto before = weights_of(paused);
    {
      const Trainer::Scored scored(*trainer);
      EXPECT_NE(weights_of(paused), before) << "averaged";
      EXPECT_FALSE(paused->is_training());
    }
    EXPECT_EQ(weights_of(paused), before);
  }
  trainer->end_as(whole);
  EXPECT_EQ(trainer->run_until(12, quiet).losses, expected.losses);
  trainer->deliver();
  EXPECT_EQ(weights_of(paused), weights_of(straight));

  // In a process and folder of its own for every part, as the rungs of a race.
  std::filesystem::path last;
  GraphModule network(small_unet(), 4711);
  for (const std::int64_t step : {2, 3, 9, 12}) {
    FitFiles files = test::quiet_files(folder / std::to_string(step));
    files.continues = last.empty() ? last : last / "checkpoint.pt";
    network = GraphModule(small_unet(), last.empty() ? 1 : 4711);
    const TrainOptions part = step == 12 ? whole : paused_at(whole, step);
    EXPECT_EQ(fit(network, phantom.cache, phantom.ids, part, files).steps, step);
    last = files.folder;
  }
  EXPECT_EQ(weights_of(network), weights_of(straight));

  // It may go on with other cases, not as another training.
  FitFiles files = test::quiet_files(folder / "more");
  files.continues = folder / "9/checkpoint.pt";
  GraphModule more(small_unet(), 1);
  EXPECT_EQ(fit(more, phantom.cache, {phantom.ids[0]}, whole, files).steps, 12);
  TrainOptions other = whole;
  other.learning_rate *= 2;
  files.folder = folder / "other";
  EXPECT_THROW(fit(more, phantom.cache, phantom.ids, other, files), Error);
}

TEST(TrainerTest, AClockEndsTheTrainingWithItsRateAtZeroAlsoAfterAResume) {
  const test::TempFolder folder;
  const test::SmallPhantom phantom(folder.path(), kPhantomCases);
  double now = 0;
  FitHooks hooks;
  hooks.seconds_left = [&] { return 20 - now; };
  hooks.after_step = [&](const StepInfo&) { now += 1; };
  int polls = 0;
  hooks.should_stop = [&] { return ++polls == 10; };
  GraphModule network(small_unet(), 1);
  // Steps take no time in truth, so the pace never begins the decay: the clock is the hook's alone.
  FitReport report = fit(
      network, phantom.cache, phantom.ids, open_ended(4), test::quiet_files(folder / "run"), hooks);
  EXPECT_EQ(report.status, "stopped");
  GraphModule second(small_unet(), 1);
  report = fit(
      second, phantom.cache, phantom.ids, open_ended(4), test::quiet_files(folder / "run"), hooks);
  EXPECT_EQ(report.status, "done");
  EXPECT_EQ(report.steps, report.planned_steps);
  EXPECT_NEAR(report.learning_rate, 0, 1e-12);

  // Gone on with without a clock (train --resume): as long as was expected, and to the end.
  now = 0;
  polls = 0;
  GraphModule third(small_unet(), 1);
  fit(third, phantom.cache, phantom.ids, open_ended(12), test::quiet_files(folder / "two"), hooks);
  report = fit(third,
               phantom.cache,
               phantom.ids,
               finished_at(open_ended(12), 12),
               test::quiet_files(folder / "two"));
  EXPECT_EQ(report.steps, 12);
  EXPECT_NEAR(report.learning_rate, 0, 1e-12);
}

/// Two convolutions without padding: the output is the patch without two voxels at each side.
Graph valid_network() {
  Graph graph;
  graph.name = "valid";
  int x = graph.add("input", "image", {}, {{"channels", 1}});
  x = graph.add("conv", "a", {x}, {{"out_channels", 8}, {"kernel", 3}, {"padding", 0}});
  x = graph.add("instance_norm", "b", {x});
  x = graph.add("relu", "c", {x});
  x = graph.add("conv", "d", {x}, {{"out_channels", 3}, {"kernel", 3}, {"padding", 0}});
  graph.add("output", "seg", {x});
  return graph;
}

TEST(Fit, UnpaddedNetworksLearnEveryVoxelFromPatchesAroundTheirOutput) {
  const test::TempFolder folder;
  const test::SmallPhantom phantom(folder.path(), kPhantomCases);
  TrainOptions options = small_training(30);
  options.augmentation = 0;
  options.mirror = false;
  options.foreground_fraction = 0;
  options.patch = {12, 12, 12};
  GraphModule network(valid_network());
  const auto middle = [](const at::Tensor& t) {
    return t.slice(2, 2, 10).slice(3, 2, 10).slice(4, 2, 10);
  };
  // What the output describes lies in the case; the voxels around may be padding (exact zeros).
  int padded = 0;
  for (std::int64_t step = 0; step < options.steps; ++step) {
    const Batch batch =
        make_batch(phantom.cases, options, step, output_region(network->graph(), options.patch));
    EXPECT_EQ(middle(batch.image).eq(0).sum().item<std::int64_t>(), 0);
    padded += batch.image.eq(0).any().item<bool>();
  }
  EXPECT_GT(padded, 0);
  EXPECT_EQ(fit(network, phantom.cache, phantom.ids, options, test::quiet_files({})).status,
            "done");

  // The default loss is the same as the one of the middle by hand.
  at::Tensor image = random_tensor({2, 1, 12, 12, 12}, 5);
  const at::Tensor target = at::randint(0, 3, {2, 12, 12, 12}, at::kShort);
  const std::vector<at::Tensor> outputs = network->forward(image);
  EXPECT_EQ(segmentation_loss(outputs, target).item<float>(),
            dice_ce_loss(outputs[0], target.slice(1, 2, 10).slice(2, 2, 10).slice(3, 2, 10))
                .item<float>());

  options.steps = 60;
  options.foreground_fraction = 1;
  GraphModule learner(valid_network());
  const FitReport report = fit(learner, phantom.cache, phantom.ids, options, test::quiet_files({}));
  EXPECT_EQ(report.status, "done");
  EXPECT_LT(report.losses.back(), 0.8 * report.losses.front());

  options.patch = {3, 12, 12};  // nothing is left
  EXPECT_THROW(fit(learner, phantom.cache, phantom.ids, options, test::quiet_files({})), Error);
}

TEST(Fit, NotFiniteLossStopsWithAStatusAndKeepsTheWeights) {
  const test::TempFolder folder;
  const test::SmallPhantom phantom(folder.path(), kPhantomCases);
  TrainOptions options = small_training(5);
  options.average_decay = 0;
  GraphModule network(small_unet());
  {
    const at::NoGradGuard no_grad;
    for (at::Tensor& p : network->parameters()) p.fill_(std::numeric_limits<float>::quiet_NaN());
  }
  const std::string before = weights_of(network);
  const FitReport report = fit(network, phantom.cache, phantom.ids, options, test::quiet_files({}));
  EXPECT_EQ(report.status, "nan");
  EXPECT_EQ(report.steps, 0);
  EXPECT_EQ(weights_of(network), before);
}

TEST(Fit, SkipsStepsWithGradientsThatAreNotFinite) {
  const test::TempFolder folder;
  const test::SmallPhantom phantom(folder.path(), kPhantomCases);
  TrainOptions options = small_training(4);
  options.average_decay = 0;
  GraphModule network(small_unet());
  const std::string before = weights_of(network);
  std::vector<bool> skipped;
  FitHooks hooks;
  network->parameters().front().register_hook([](const at::Tensor& gradient) {
    return gradient * std::numeric_limits<double>::infinity();
  });
  hooks.after_step = [&](const StepInfo& info) { skipped.push_back(info.skipped); };
  const FitReport report =
      fit(network, phantom.cache, phantom.ids, options, test::quiet_files({}), hooks);
  EXPECT_EQ(report.status, "done");
  EXPECT_EQ(report.skipped, 4);
  EXPECT_EQ(skipped, std::vector<bool>(4, true));
  EXPECT_EQ(weights_of(network), before);
}

TEST(Fit, DoesNotDependOnTheThreadsOfTheDataAndWritesEventFiles) {
  const test::TempFolder folder;
  const test::SmallPhantom phantom(folder.path(), kPhantomCases);
  FitFiles files = test::quiet_files(folder / "run");
  files.tensorboard = true;
  GraphModule network(small_unet());
  fit(network, phantom.cache, phantom.ids, small_training(2), files);
  bool events = false;
  for (const auto& entry : std::filesystem::directory_iterator(folder / "run")) {
    events = events || entry.path().filename().string().find("tfevents") != std::string::npos;
  }
  EXPECT_TRUE(events);
  EXPECT_THROW(
      fit(network, phantom.cache, {"no such case"}, small_training(2), test::quiet_files({})),
      Error);
  TrainOptions odd = small_training(2);
  odd.patch = {15, 16, 16};
  EXPECT_THROW(fit(network, phantom.cache, phantom.ids, odd, test::quiet_files({})), Error);
}

TEST(Fit, ProbeMeasuresStepsForwardAndMemory) {
  TrainOptions options = small_training(1);
  const ProbeResult result = probe(small_unet(), options, {.names = {"background", "one", "two"}});
  EXPECT_GT(result.seconds_per_step, 0);
  EXPECT_GT(result.seconds_per_forward, 0);
  EXPECT_GT(result.peak_bytes, 1 << 20);
}

TEST(Fit, DevicesAndPrecisionsAreNamedOrRefused) {
  EXPECT_EQ(choose_device("cpu"), at::Device(at::kCPU));
  EXPECT_THROW(choose_device("gpu"), Error);
  EXPECT_THROW(choose_device("cuda:"), Error);
  EXPECT_THROW(choose_device("cuda:99"), Error);
  EXPECT_THROW(choose_precision("fp16", at::kCPU), Error);
  EXPECT_THROW(choose_precision("fp8", at::kCPU), Error);
}

/// The parts of one training with averaged weights, each in a folder of its own: its rate is constant,
/// it is paused and gone on with, its rate falls to 0.
constexpr const char* kParts[] = {"stable", "gone on", "decay"};
constexpr std::int64_t kEnds[] = {10, 20, 32};

TrainOptions whole_training() { return finished_at(open_ended(kEnds[2]), kEnds[2]); }

/// The child of the test below: one part in VOXNAS_TEST_FOLDER, with a checkpoint after every step.
TEST(FitKill, Child) {
  const char* given = test::child_folder();
  if (given == nullptr) GTEST_SKIP() << "runs in a process of its own";
  const std::filesystem::path folder = given;
  const test::SmallPhantom phantom(folder, kPhantomCases);
  const auto part = std::ranges::find(kParts, folder.filename().string()) - std::begin(kParts);
  FitFiles files = test::quiet_files(folder / "run", 0);
  if (part > 0) files.continues = folder.parent_path() / kParts[part - 1] / "run/checkpoint.pt";
  GraphModule network(small_unet(), part > 0 ? 4711 : 1);
  const TrainOptions options =
      part == 2 ? whole_training() : paused_at(whole_training(), kEnds[part]);
  EXPECT_EQ(fit(network, phantom.cache, phantom.ids, options, files).steps, kEnds[part]);
  save_weights((folder / "done.safetensors").string(), *network);
}

TEST(FitKill, KilledInEachStateAndResumedEqualsTheUninterruptedRunBitForBit) {
  const test::TempFolder folder;
  const test::SmallPhantom phantom(folder / "straight", kPhantomCases);
  GraphModule straight(small_unet(), 1);
  const FitReport report =
      fit(straight, phantom.cache, phantom.ids, whole_training(), test::quiet_files({}));
  EXPECT_NEAR(report.learning_rate, 0, 1e-12);
  EXPECT_LT(whole_training().decay_start, kEnds[2]);
  EXPECT_GE(whole_training().decay_start, kEnds[1]) << "the last part decays";

  for (const char* part : kParts) {
    std::filesystem::create_directories(folder / part);
    EXPECT_GE(test::run_killed_child("FitKill.Child", folder / part), 1) << part;
    ASSERT_TRUE(std::filesystem::exists(folder / part / "done.safetensors")) << part;
  }
  GraphModule resumed(small_unet(), 2);
  load_weights((folder / kParts[2] / "done.safetensors").string(), *resumed);
  EXPECT_EQ(weights_of(resumed), weights_of(straight));
}

TEST(FitGpu, LossesAndNormAreTheCpus) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "no CUDA device";
  torch::manual_seed(3);
  const at::Tensor logits = at::randn({2, 4, 9, 10, 11}) * 2, x = at::randn({2, 24, 9, 10, 11});
  const at::Tensor labels = at::randint(-1, 4, {2, 9, 10, 11}, at::kShort);
  const at::Tensor regions = at::randint(0, 2, {2, 5, 9, 10, 11}, at::kByte);
  const at::Tensor weight = at::rand({24}) + 0.5, bias = at::randn({24});
  using Run = std::function<at::Tensor(const at::Tensor& input, const at::Device& device)>;
  const std::pair<at::Tensor, Run> runs[] = {
      {logits,
       [&](const at::Tensor& z, const at::Device& d) { return dice_ce_loss(z, labels.to(d)); }},
      {logits,
       [&](const at::Tensor& z, const at::Device& d) {
         return dice_ce_loss(z, labels.to(d), {.batch_dice = true, .focal_gamma = 2});
       }},
      {logits,
       [&](const at::Tensor& z, const at::Device& d) { return dice_bce_loss(z, regions.to(d)); }},
      {x, [&](const at::Tensor& in, const at::Device& d) {
         return norm_act(in, weight.to(d), bias.to(d), 1e-5, 0.01);
       }}};
  for (const auto& [input, run] : runs) {
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      const auto both = [&](const at::Device& device) {
        const at::Tensor leaf = input.to(device, type)
                                    .contiguous(at::MemoryFormat::ChannelsLast3d)
                                    .requires_grad_(true);
        const at::Tensor out = run(leaf, device);
        out.sum().backward();
        return std::pair(out.detach().to(at::kCPU, at::kFloat),
                         leaf.grad().to(at::kCPU, at::kFloat));
      };
      const auto [host, host_gradient] = both(at::kCPU);
      const auto [device, device_gradient] = both(at::Device(at::kCUDA, 0));
      const double tolerance = type == at::kFloat ? 1e-4 : 2e-2;
      EXPECT_TRUE(at::allclose(device, host, tolerance, tolerance));
      EXPECT_TRUE(at::allclose(device_gradient, host_gradient, tolerance, tolerance));
    }
  }
}

TEST(FitGpu, TrainsOnTheDevice) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "no CUDA device";
  const test::TempFolder folder;
  const test::SmallPhantom phantom(folder.path(), kPhantomCases);
  for (const std::string precision : {"fp32", "bf16", "fp16"}) {
    TrainOptions options = small_training(30);
    options.device = "cuda";
    options.precision = precision;
    GraphModule network(small_unet());
    const FitReport report =
        fit(network, phantom.cache, phantom.ids, options, test::quiet_files({}));
    EXPECT_EQ(report.status, "done");
    EXPECT_LT(report.losses.back(), report.losses.front()) << precision;
  }
}

}  // namespace
}  // namespace nas
