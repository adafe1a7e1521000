// SPDX-License-Identifier: Apache-2.0
#include "training/settings/augmentations.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "tests/training/kernels/sample_case.h"
#include "training/data/augment.h"
#include "training/settings/options.h"

namespace nas {
namespace {

using test::plain_plan;
using test::sample;
using test::Sample;
using test::SampleCase;

constexpr Extent3 kPatch{12, 14, 10};

std::vector<Augmentation> from_text(const std::string& text) {
  const Json json = Json::parse(text);
  return augmentations_from_json(JsonReader(json, "list.json"));
}

/// What is thrown by `text`.
std::string error_of(const std::string& text) {
  try {
    from_text(text);
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

/// Everything of a plan in one number.
double plan_sum(const AugmentPlan& plan) {
  double sum = plan.affine;
  for (std::size_t a = 0; a < 3; ++a) {
    sum += static_cast<double>(a + 1) * (plan.angle[a] + plan.scale[a] + plan.flip[a]);
  }
  sum += plan.noise_deviation + 1e-19 * static_cast<double>(plan.noise_key >> 4);
  double k = 1;
  for (const ChannelPlan& c : plan.channels) {
    ++k;
    for (std::size_t a = 0; a < 3; ++a) sum += k * (c.blur_sigma[a] + c.zoom[a]);
    sum += k * (c.brightness + 2 * c.contrast + 3 * c.gamma + 5 * c.gamma_inverted);
  }
  return sum;
}

AugmentPlan draw(const AugmentOptions& options, int i, bool anisotropic = false) {
  return draw_augmentation(options, kPatch, 2, Rng(5).split("augment", i / 2, i % 2), anisotropic);
}

TEST(Augmentations, TheListWrittenOutDoesWhatTheScalarDidToTheBit) {
  // Sums over 100 samples of what was drawn when the strength was all there was.
  const std::vector<std::pair<double, std::array<double, 2>>> golden{
      {0.0, {7600, 7600}},
      {0.3, {7980.778816170452, 7998.4253538986432}},
      {1.0, {8078.9496703017458, 8111.2353476171847}},
      {1.5, {8189.2493488056407, 8236.1466744458103}},
      {2.0, {8536.4126922647738, 8597.0804615605666}},
  };
  const SampleCase source({30, 32, 34}, 2, 4);
  for (const auto& [strength, sums] : golden) {
    for (const bool anisotropic : {false, true}) {
      const Json written =
          Json::parse(to_json(at_strength(standard_augmentations(), strength)).dump());
      const AugmentOptions list{.list = augmentations_from_json(JsonReader(written, "list"))};
      double sum = 0;
      for (int i = 0; i < 100; ++i) {
        const AugmentPlan scalar = draw({.strength = strength}, i, anisotropic);
        const AugmentPlan listed = draw(list, i, anisotropic);
        ASSERT_EQ(scalar, listed) << "strength " << strength << ", sample " << i;
        const PatchChoice choice{.begin = {i % 7 - 3, 2, 5}};
        ASSERT_EQ(sample(source, choice, kPatch, scalar), sample(source, choice, kPatch, listed));
        sum += plan_sum(scalar);
      }
      EXPECT_NEAR(sum, sums[anisotropic], 1e-9) << "strength " << strength;
    }
  }
}

TEST(Augmentations, AStrengthIsAFactorOfAnyList) {
  const auto list = from_text(R"([{"name": "gamma", "prob": 0.8, "args": {"low": 0.5, "high": 2}},
                                  {"name": "mirror", "prob": 0.25}])");
  const auto half = at_strength(list, 0.5), twice = at_strength(list, 2);
  EXPECT_EQ(half[1].prob, 0.4);
  EXPECT_EQ(half[1].args, (std::vector<double>{0.5, 2}));
  EXPECT_EQ(twice[1].prob, 1);
  EXPECT_EQ(twice[1].args, (std::vector<double>{0.25, 4}));
  EXPECT_EQ(half[0].prob, 0.25) << "mirroring has no strength";
  EXPECT_TRUE(at_strength(list, 0).empty());
  EXPECT_THROW(at_strength(list, 2.5), Error);
}

class EveryAugmentation : public testing::TestWithParam<std::string> {};

TEST_P(EveryAugmentation, HappensAsOftenAsItSaysAndInsideItsRanges) {
  const AugmentationKind& kind = augmentation_kind(GetParam(), "test");
  constexpr int kSamples = 2000;
  for (const double prob : {0.0, 0.3, 1.0}) {
    Augmentation row = planned_augmentation(kind.name);
    row.prob = prob;
    int happened = 0;
    for (int i = 0; i < kSamples; ++i) {
      const AugmentPlan plan = draw_plan({row}, {.patch = {32, 32, 32}}, 3, Rng(3).split("one", i));
      happened += plan == plain_plan(3) ? 0 : 1;
      EXPECT_EQ(plan, draw_plan({row}, {.patch = {32, 32, 32}}, 3, Rng(3).split("one", i)));
    }
    double expected = prob;
    if (row.name == "mirror") expected = 1 - std::pow(1 - prob, 3);
    // None of three channels chosen; of dropout the kept one is a fourth of the coins less.
    if (row.name == "blur" || row.name == "low_resolution") expected *= 1 - std::pow(0.5, 3);
    // All three moves round to 0.
    if (row.name == "crop_translate") expected *= 1 - std::pow(0.5 / 3.2, 3);
    if (row.name == "channel_dropout") expected *= 1 - std::pow(0.5, 2);
    EXPECT_NEAR(happened / double{kSamples},
                expected,
                4 * std::sqrt(expected * (1 - expected) / kSamples) + 1e-3)
        << kind.name << " at " << prob;
  }
}

TEST_P(EveryAugmentation, IsAddedWithoutMovingTheOthers) {
  const std::vector<Augmentation> standard = standard_augmentations();
  std::vector<Augmentation> others = standard;
  std::erase_if(others, [](const Augmentation& row) { return row.name == GetParam(); });
  std::vector<Augmentation> all = others;
  all.push_back(planned_augmentation(GetParam()));
  all.back().prob = 0;
  for (int i = 0; i < 50; ++i) {
    const Rng rng = Rng(1).split("sample", i);
    EXPECT_EQ(draw_plan(all, {kPatch, false}, 2, rng), draw_plan(others, {kPatch, false}, 2, rng));
  }
}

TEST_P(EveryAugmentation, ChangesTheSampleAndKeepsItFinite) {
  const SampleCase source({20, 21, 22}, 2, 4);
  Augmentation row = planned_augmentation(GetParam());
  row.prob = 1;
  bool changed = false;
  for (int i = 0; i < 20; ++i) {
    const AugmentPlan plan = draw_plan({row}, {kPatch, false}, 2, Rng(2).split("sample", i));
    const Sample made = sample(source, {.begin = {3, 2, 5}}, kPatch, plan);
    changed = changed || made != sample(source, {.begin = {3, 2, 5}}, kPatch, plain_plan(2));
    EXPECT_TRUE(std::ranges::all_of(made.image, [](float x) { return std::isfinite(x); }));
    EXPECT_TRUE(std::ranges::all_of(made.label, [](int x) { return x >= 0 && x <= 3; }));
  }
  EXPECT_TRUE(changed);
}

TEST_P(EveryAugmentation, ReadsItsArgumentsAndRefusesWhatIsOutOfRange) {
  const AugmentationKind& kind = augmentation_kind(GetParam(), "test");
  const std::string name = kind.name;
  EXPECT_EQ(from_text(R"([{"name": ")" + name + R"("}])"),
            std::vector<Augmentation>{planned_augmentation(name)});
  const auto written = to_json({planned_augmentation(name)});
  EXPECT_EQ(from_text(written.dump()), std::vector<Augmentation>{planned_augmentation(name)});
  for (const AugmentationKind::Arg& arg : kind.args) {
    EXPECT_GE(arg.planned, arg.low);
    EXPECT_LE(arg.planned, arg.high);
    for (const double wrong : {arg.low - 1, arg.high + 1}) {
      Json json = written;
      json[0]["args"][arg.name] = wrong;
      const std::string error = error_of(json.dump());
      EXPECT_NE(
          error.find("list.json: [0].args." + std::string(arg.name) + ": expected a number in ["),
          std::string::npos)
          << error;
    }
  }
  EXPECT_NE(error_of(R"([{"name": ")" + name + R"(", "args": {"nothing_like_it": 1}}])")
                .find("nothing_like_it"),
            std::string::npos);
  EXPECT_NE(error_of(R"([{"name": ")" + name + R"("}, {"name": ")" + name + R"("}])").find("twice"),
            std::string::npos);
}

std::vector<std::string> names() {
  std::vector<std::string> all;
  for (const AugmentationKind& kind : augmentation_kinds()) all.emplace_back(kind.name);
  return all;
}
INSTANTIATE_TEST_SUITE_P(Table, EveryAugmentation, testing::ValuesIn(names()), [](const auto& one) {
  return one.param;
});

TEST(Augmentations, AListIsStrictAndNamesWhatItFound) {
  EXPECT_NE(error_of(R"([{"name": "rotat"}])").find("did you mean 'rotate'?"), std::string::npos);
  EXPECT_NE(error_of(R"([{"name": "rotate", "probability": 1}])").find("one of name, prob, args"),
            std::string::npos);
  EXPECT_NE(error_of(R"([{"name": "rotate", "args": {"degree": 1}}])").find("degrees"),
            std::string::npos);
  EXPECT_NE(error_of(R"([{"name": "rotate", "prob": 1.5}])").find("[0].prob"), std::string::npos);
  EXPECT_NE(error_of(R"([{"name": "blur", "args": {"low": 2, "high": 1}}])").find("low <= high"),
            std::string::npos);
  EXPECT_NE(error_of(R"({"name": "rotate"})").find("expected a list"), std::string::npos);
  EXPECT_NE(error_of(R"([{"prob": 0.5}])").find("name"), std::string::npos);
  // Given in any order, the same training.
  EXPECT_EQ(from_text(R"([{"name": "gamma"}, {"name": "rotate"}])"),
            from_text(R"([{"name": "rotate"}, {"name": "gamma"}])"));
}

TEST(Augmentations, AreOptionsOfATrainingAndPartOfWhatItIs) {
  const TrainOptions before;
  EXPECT_FALSE(to_json(before).contains("augmentations")) << "as older checkpoints have it";
  TrainOptions weak;
  weak.augmentation = 0.3;
  const Json list = Json::parse(R"({"augmentations": [{"name": "noise", "prob": 0.4}]})");
  const TrainOptions with = train_options_from_json(list, "test", weak);
  EXPECT_EQ(with.augmentation, 1) << "a list is meant as it is written";
  EXPECT_FALSE(with.mirror);
  EXPECT_EQ(train_options_from_json(Json::parse(to_json(with).dump()), "test"), with);
  EXPECT_NE(to_json(with),
            to_json(train_options_from_json(
                Json::parse(R"({"augmentations": [{"name": "noise"}]})"), "test")));
  EXPECT_FALSE(train_options_from_json(Json::parse(R"({"augmentations": null})"), "test", with)
                   .augmentations);
  try {
    train_options_from_json(
        Json::parse(R"({"mirror": true, "augmentations": [{"name": "noise"}]})"), "test");
    FAIL() << "mirroring without a row for it passed";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("mirror: true, but augmentations do not mirror"),
              std::string::npos);
  }
  const AugmentOptions mirroring{.mirror = false, .list = from_text(R"([{"name": "mirror"}])")};
  for (int i = 0; i < 20; ++i) EXPECT_EQ(draw(mirroring, i), plain_plan(2));
}

TEST(Augmentations, MovesThePlaceOfAPatchByWholeVoxels) {
  const SampleCase source({30, 30, 30}, 1, 6);
  AugmentPlan plan = plain_plan(1);
  plan.translate = {2, -1, 3};
  EXPECT_EQ(sample(source, {.begin = {5, 6, 7}}, kPatch, plan),
            sample(source, {.begin = {7, 5, 10}}, kPatch, plain_plan(1)));
  AugmentPlan turned = plan, there = plain_plan(1);
  turned.affine = there.affine = true;
  turned.angle = there.angle = {0.2, 0.1, 0};
  EXPECT_EQ(sample(source, {.begin = {5, 6, 7}}, kPatch, turned),
            sample(source, {.begin = {7, 5, 10}}, kPatch, there));
}

TEST(Augmentations, IntensitiesAndDroppedChannelsAreWhatTheySay) {
  const SampleCase source({30, 30, 30}, 3, 6);
  const PatchChoice choice{.begin = {5, 6, 7}};
  const Sample plain = sample(source, choice, kPatch, plain_plan(3));
  AugmentPlan plan = plain_plan(3);
  plan.channels[0].scale = 1.25;
  plan.channels[0].shift = -0.5;
  plan.channels[1].drop = true;
  plan.channels[2].drop = plan.channels[2].drop_to_mean = true;
  const Sample made = sample(source, choice, kPatch, plan);
  const auto n = static_cast<std::size_t>(volume(kPatch));
  double mean = 0;
  for (std::size_t i = 0; i < n; ++i) mean += static_cast<double>(plain.image[2 * n + i]);
  mean /= static_cast<double>(n);
  for (std::size_t i = 0; i < n; ++i) {
    ASSERT_FLOAT_EQ(made.image[i], plain.image[i] * 1.25F - 0.5F);
    ASSERT_EQ(made.image[n + i], 0);
    ASSERT_NEAR(made.image[2 * n + i], mean, 1e-6);
  }
  EXPECT_EQ(made.label, plain.label);
  // At least one channel is kept, whatever the probabilities.
  Augmentation dropout = planned_augmentation("channel_dropout");
  dropout.prob = dropout.args[0] = 1;
  std::vector<int> kept(3);
  for (int i = 0; i < 300; ++i) {
    const AugmentPlan drawn = draw_plan({dropout}, {kPatch, false}, 3, Rng(1).split("s", i));
    int here = 0;
    for (std::size_t c = 0; c < 3; ++c) {
      if (!drawn.channels[c].drop) ++here, ++kept[c];
    }
    ASSERT_EQ(here, 1);
  }
  for (const int count : kept) EXPECT_NEAR(count, 100, 35);
  EXPECT_EQ(draw_plan({dropout}, {kPatch, false}, 1, Rng(1)), plain_plan(1));
}

}  // namespace
}  // namespace nas
