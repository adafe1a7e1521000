// SPDX-License-Identifier: Apache-2.0
#include "training/inference/predict.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <functional>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/rng.h"
#include "nas/imaging/nifti.h"
#include "nas/imaging/orientation.h"
#include "nas/imaging/resample.h"
#include "search_spaces/planned_unet/unet.h"
#include "tests/support/orientations.h"
#include "tests/support/support.h"
#include "training/data/sliding_window.h"
#include "training/inference/evaluate_cases.h"
#include "training/inference/predict_memory.h"
#include "training/model/device.h"
#include "training/model/model_folder.h"
#include "training/model/weights.h"
#include "training/settings/options.h"

namespace nas {
namespace {

using test::error_of;

namespace fs = std::filesystem;

PredictOptions exact(bool mirror = false, std::int64_t batch = 1) {
  return {.mirror = mirror, .device = "cpu", .precision = "fp32", .batch = batch};
}

/// One convolution from the image to the logits.
GraphModule convolution(std::int64_t channels, std::int64_t classes, std::int64_t kernel) {
  Graph graph;
  graph.name = "convolution";
  const int input = graph.add("input", "image", {}, {{"channels", channels}});
  const int conv =
      graph.add("conv", "head", {input}, {{"out_channels", classes}, {"kernel", kernel}});
  graph.add("output", "seg0", {conv});
  return GraphModule(graph, 3);
}

void set_parameters(GraphModule& network,
                    const std::vector<float>& weight,
                    const std::vector<float>& bias) {
  const torch::NoGradGuard no_grad;
  auto parameters = network->named_parameters();
  parameters["head.weight"].copy_(torch::tensor(weight).view_as(parameters["head.weight"]));
  parameters["head.bias"].copy_(torch::tensor(bias));
}

/// Class 1 where channel 0 is above `threshold`, else background; the second channel counts
/// nowhere.
Model threshold_model(float threshold) {
  Model model;
  model.network = convolution(2, 2, 1);
  set_parameters(model.network, {0, 0, 1, 0}, {0, -threshold});
  Preprocessing& p = model.preprocessing;
  p.configuration = "3d_fullres";
  p.spacing = {1, 1, 1};
  p.patch = {8, 12, 10};
  p.normalization = {"NoNormalization", "NoNormalization"};
  p.use_mask_for_norm = {false, false};
  p.intensity.resize(2);
  p.channel_names = {"MRI", "other"};
  p.labels.names = {"background", "bright"};
  return model;
}

/// Two channels of noise in [0, 8) inside a box, zero outside.
Image noisy_box(const Extent3& shape,
                const Extent3& low,
                const Extent3& high,
                std::uint64_t seed = 1) {
  Image image;
  image.geometry.shape = shape;
  image.geometry.affine = {-1, 0, 0, 20, 0, 1, 0, -5, 0, 0, 1, 7};
  image.channels = 2;
  image.voxels.assign(static_cast<std::size_t>(2 * volume(shape)), 0);
  Rng rng(seed);
  std::size_t i = 0;
  for (int c = 0; c < 2; ++c) {
    for (std::int64_t d = 0; d < shape[0]; ++d) {
      for (std::int64_t h = 0; h < shape[1]; ++h) {
        for (std::int64_t w = 0; w < shape[2]; ++w, ++i) {
          const bool inside = d >= low[0] && d < high[0] && h >= low[1] && h < high[1] &&
                              w >= low[2] && w < high[2];
          if (inside) image.voxels[i] = static_cast<float>(rng.uniform(0.001, 8));
        }
      }
    }
  }
  return image;
}

at::Tensor as_tensor(const Image& image) {
  const Extent3& s = image.geometry.shape;
  return torch::from_blob(const_cast<float*>(image.voxels.data()),
                          {1, image.channels, s[0], s[1], s[2]})
      .clone();
}

TEST(SlidingWindow, StartsAndImportanceEqualTheOracle) {
  NAS_SHARED_OR_SKIP(file, "oracles/sliding_window.json");
  const Json oracle = read_json(file);
  for (const Json& row : oracle.at("steps")) {
    EXPECT_EQ(window_starts(row.at("image").get<Extent3>(),
                            row.at("patch").get<Extent3>(),
                            row.at("step").get<double>()),
              row.at("starts").get<std::vector<std::vector<std::int64_t>>>());
  }
  const auto patch = oracle.at("gaussian_patch").get<Extent3>();
  const std::vector<float> weights = gaussian_importance(patch);
  std::size_t i = 0;
  for (const Json& plane : oracle.at("gaussian")) {
    for (const Json& row : plane) {
      for (const Json& value : row) {
        const auto expected = value.get<double>();
        ASSERT_NEAR(weights[i], expected, 1e-6 * std::abs(expected) + 1e-12) << i;
        ++i;
      }
    }
  }
  EXPECT_EQ(i, weights.size());
}

TEST(SlidingWindow, WindowsCoverEveryVoxelAndStayInside) {
  Rng rng(5);
  for (int trial = 0; trial < 300; ++trial) {
    Extent3 patch{};
    Extent3 image{};
    for (std::size_t i = 0; i < 3; ++i) {
      patch[i] = rng.integer(1, 40);
      image[i] = patch[i] + rng.integer(0, 100);
    }
    const double step = rng.uniform(0.05, 1);
    const auto starts = window_starts(image, patch, step);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(starts[i].front(), 0);
      EXPECT_EQ(starts[i].back(), image[i] - patch[i]);
      for (std::size_t j = 1; j < starts[i].size(); ++j) {
        EXPECT_GT(starts[i][j], starts[i][j - 1]);
        EXPECT_LE(starts[i][j] - starts[i][j - 1], patch[i]);
      }
    }
  }
  EXPECT_THROW(window_starts({7, 8, 8}, {8, 8, 8}, 0.5), Error);
  EXPECT_THROW(window_starts({8, 8, 8}, {8, 8, 8}, 0), Error);
  EXPECT_THROW(window_starts({8, 8, 8}, {8, 8, 8}, 1.5), Error);
}

TEST(SlidingWindow, AConstantNetworkGivesItsConstants) {
  GraphModule network = convolution(2, 3, 1);
  set_parameters(network, std::vector<float>(6, 0.0F), {1.5F, -2, 0.25F});
  network->train();
  for (const Extent3& shape :
       {Extent3{9, 30, 11}, Extent3{3, 12, 5}, Extent3{8, 12, 10}, Extent3{1, 1, 1}}) {
    for (const bool mirror : {false, true}) {
      const at::Tensor logits = predict_logits(
          network, noisy_box(shape, {0, 0, 0}, shape), {8, 12, 10}, exact(mirror, 2));
      ASSERT_EQ(logits.sizes().vec(), (std::vector<std::int64_t>{3, shape[0], shape[1], shape[2]}));
      EXPECT_LT((logits[0] - 1.5).abs().max().item<double>(), 1e-5);
      EXPECT_LT((logits[1] + 2).abs().max().item<double>(), 1e-5);
      EXPECT_LT((logits[2] - 0.25).abs().max().item<double>(), 1e-5);
    }
  }
  EXPECT_TRUE(network->is_training());  // left as it was
}

TEST(SlidingWindow, EqualsTheNaiveSumOverAllWindows) {
  GraphModule network =
      convolution(2, 3, 3);  // its zero padding makes each window differ at its rim
  const Extent3 patch{8, 12, 10};
  for (const Extent3& shape : {Extent3{21, 17, 26}, Extent3{5, 29, 10}}) {
    const Image image = noisy_box(shape, {0, 0, 0}, shape, 4);
    Extent3 padded{};
    std::vector<std::int64_t> pads;
    for (std::size_t i = 0; i < 3; ++i) padded[i] = std::max(shape[i], patch[i]);
    for (int i = 2; i >= 0; --i) {
      const std::int64_t missing =
          padded[static_cast<std::size_t>(i)] - shape[static_cast<std::size_t>(i)];
      pads.push_back(missing / 2);
      pads.push_back(missing - missing / 2);
    }
    const at::Tensor input = at::constant_pad_nd(as_tensor(image), pads);
    const std::vector<float> importance = gaussian_importance(patch);
    const at::Tensor weight = torch::from_blob(const_cast<float*>(importance.data()), {8, 12, 10});
    for (const bool mirror : {false, true}) {
      const torch::NoGradGuard no_grad;
      at::Tensor sum = torch::zeros({3, padded[0], padded[1], padded[2]}, torch::kDouble);
      at::Tensor total = torch::zeros({padded[0], padded[1], padded[2]}, torch::kDouble);
      const auto starts = window_starts(padded, patch, 0.5);
      for (const auto z : starts[0]) {
        for (const auto y : starts[1]) {
          for (const auto x : starts[2]) {
            const auto window = [&](const at::Tensor& t, std::int64_t first) {
              return t.narrow(first, z, 8).narrow(first + 1, y, 12).narrow(first + 2, x, 10);
            };
            const at::Tensor one = window(input, 2);
            at::Tensor logits = network->forward(one)[0];
            if (mirror) {
              for (const std::vector<std::int64_t>& axes : std::vector<std::vector<std::int64_t>>{
                       {2}, {3}, {4}, {2, 3}, {2, 4}, {3, 4}, {2, 3, 4}}) {
                logits = logits + network->forward(one.flip(axes))[0].flip(axes);
              }
              logits = logits / 8;
            }
            window(sum, 1).add_(logits[0] * weight);
            window(total, 0).add_(weight);
          }
        }
      }
      at::Tensor expected = sum / total;
      for (std::int64_t i = 0; i < 3; ++i) {
        expected = expected.narrow(
            1 + i, pads[static_cast<std::size_t>(4 - 2 * i)], shape[static_cast<std::size_t>(i)]);
      }
      for (const std::int64_t batch : {1, 5}) {
        const at::Tensor logits = predict_logits(network, image, patch, exact(mirror, batch));
        EXPECT_LT((logits - expected).abs().max().item<double>(), 2e-5);
      }
    }
  }
}

TEST(SlidingWindow, UnpaddedNetworksCoverTheWholeImage) {
  // Without padding a window's result does not depend on where the window lies: the windows
  // together must equal one pass over the image with zeros around it.
  Graph graph;
  graph.name = "valid";
  int x = graph.add("input", "image", {}, {{"channels", 2}});
  x = graph.add("conv", "a", {x}, {{"out_channels", 4}, {"kernel", 3}, {"padding", 0}});
  x = graph.add("relu", "b", {x});
  x = graph.add("conv", "head", {x}, {{"out_channels", 3}, {"kernel", 5}, {"padding", 0}});
  graph.add("output", "seg", {x});
  GraphModule network(graph, 3);
  for (const Extent3& shape : {Extent3{21, 17, 26}, Extent3{5, 29, 3}, Extent3{1, 1, 1}}) {
    const Image image = noisy_box(shape, {0, 0, 0}, shape, 4);
    at::Tensor expected;
    {
      const torch::NoGradGuard no_grad;
      expected = network->forward(at::constant_pad_nd(as_tensor(image), {3, 3, 3, 3, 3, 3}))[0][0];
    }
    for (const std::int64_t batch : {1, 3}) {
      const at::Tensor logits = predict_logits(network, image, {14, 12, 10}, exact(false, batch));
      ASSERT_EQ(logits.sizes(), expected.sizes());
      EXPECT_LT((logits - expected).abs().max().item<double>(), 1e-4);
    }
  }
}

TEST(Predict, LabelsLandWhereTheImageSaysOnATransposedCroppedGrid) {
  Model model = threshold_model(3);
  model.preprocessing.transpose_forward = {2, 0, 1};
  model.preprocessing.transpose_backward = {1, 2, 0};
  model.preprocessing.spacing = {3, 1, 2};  // of axes w, d, h: as in the file
  Image image = noisy_box({25, 18, 31}, {4, 1, 7}, {22, 17, 30});
  image.geometry.spacing_mm = {1, 2, 3};
  const LabelMap labels = predict_image(model, image, exact());
  ASSERT_EQ(labels.geometry, image.geometry);
  ASSERT_EQ(labels.channels, 1);
  std::int64_t bright = 0;
  for (std::size_t i = 0; i < labels.voxels.size(); ++i) {
    ASSERT_EQ(labels.voxels[i], image.voxels[i] > 3 ? 1 : 0) << i;
    bright += labels.voxels[i];
  }
  EXPECT_GT(bright, 3000);
  // bf16 and mirroring only move values near the threshold.
  const LabelMap coarse = predict_image(model, image, {.mirror = true, .device = "cpu"});
  for (std::size_t i = 0; i < labels.voxels.size(); ++i) {
    if (std::abs(image.voxels[i] - 3) > 0.05) {
      ASSERT_EQ(coarse.voxels[i], labels.voxels[i]);
    }
  }
}

TEST(Predict, StreamingEqualsTheFullResolutionWay) {
  for (const bool anisotropic : {false, true}) {
    Model model = threshold_model(3.5F);
    model.preprocessing.transpose_forward = {1, 0, 2};
    model.preprocessing.transpose_backward = {1, 0, 2};
    model.preprocessing.spacing = anisotropic ? Vec3{5, 1.1, 0.9} : Vec3{1.7, 1.1, 0.9};
    Image image = noisy_box({24, 15, 26}, {2, 1, 3}, {23, 14, 24}, 9);
    image.geometry.spacing_mm = {1, anisotropic ? 4.0 : 2.0, 1};
    const LabelMap labels = predict_image(model, image, exact());

    const PreprocessedCase input = preprocess_case(image, nullptr, model.preprocessing);
    const at::Tensor logits =
        predict_logits(model.network, input.image, model.preprocessing.patch, exact()).contiguous();
    const Vec3 original{image.geometry.spacing_mm[1], 1, 1};
    const SlabResampler resampler(input.image.geometry.shape,
                                  input.crop_shape,
                                  separate_axis(model.preprocessing.spacing, original));
    LabelMap expected;
    expected.geometry = image.geometry;
    expected.voxels.assign(labels.voxels.size(), 0);
    std::vector<float> planes[2];
    std::int64_t ties = 0;
    for (std::int64_t d = 0; d < input.crop_shape[0]; ++d) {
      for (int k = 0; k < 2; ++k) {
        planes[k].resize(static_cast<std::size_t>(input.crop_shape[1] * input.crop_shape[2]));
        resampler.slab(logits[k].data_ptr<float>(), d, planes[k]);
      }
      std::size_t i = 0;
      for (std::int64_t h = 0; h < input.crop_shape[1]; ++h) {
        for (std::int64_t w = 0; w < input.crop_shape[2]; ++w, ++i) {
          const auto at = static_cast<std::size_t>(
              ((h + input.crop_begin[1]) * 15 + d + input.crop_begin[0]) * 26 + w +
              input.crop_begin[2]);
          expected.voxels[at] = planes[1][i] > planes[0][i] ? 1 : 0;
          if (std::abs(planes[1][i] - planes[0][i]) < 1e-5) {
            expected.voxels[at] = labels.voxels[at];  // rounding decides
            ++ties;
          }
        }
      }
    }
    EXPECT_LT(ties, 10);
    EXPECT_EQ(labels.voxels, expected.voxels);
  }
}

/// A three-class model of random weights with its own patch and spacing.
Model random_model(std::uint64_t seed, const Extent3& patch, const Vec3& spacing) {
  Model model = threshold_model(0);
  model.network = convolution(2, 3, 3);
  Rng rng(seed);
  std::vector<float> weight(3 * 2 * 27);
  for (float& w : weight) w = static_cast<float>(0.2 * rng.normal());
  set_parameters(model.network, weight, {0.3F, 0, -0.3F});
  model.preprocessing.patch = patch;
  model.preprocessing.spacing = spacing;
  model.preprocessing.labels.names = {"background", "one", "two"};
  return model;
}

TEST(Predict, SeveralModelsVoteByTheirMeanProbability) {
  const std::vector<Model> models{random_model(1, {8, 12, 10}, {1, 1, 1}),
                                  random_model(2, {10, 8, 12}, {1.4, 1, 0.8}),
                                  random_model(3, {8, 12, 10}, {1, 1, 1})};
  const Image image = noisy_box({21, 26, 23}, {1, 2, 0}, {20, 24, 22}, 6);
  const LabelMap labels = predict_image(models, image, exact());

  // The naive way: probabilities of every model at full resolution.
  at::Tensor sum;
  Extent3 begin{}, shape{};
  for (const Model& model : models) {
    const PreprocessedCase input = preprocess_case(image, nullptr, model.preprocessing);
    begin = input.crop_begin;
    shape = input.crop_shape;
    GraphModule network = model.network;
    const at::Tensor logits =
        predict_logits(network, input.image, model.preprocessing.patch, exact()).contiguous();
    const SlabResampler resampler(
        input.image.geometry.shape, shape, separate_axis(model.preprocessing.spacing, {1, 1, 1}));
    at::Tensor full = at::empty({3, shape[0], shape[1], shape[2]}, at::kFloat);
    for (std::int64_t k = 0; k < 3; ++k) {
      for (std::int64_t d = 0; d < shape[0]; ++d) {
        resampler.slab(
            logits[k].data_ptr<float>(),
            d,
            {full[k][d].data_ptr<float>(), static_cast<std::size_t>(shape[1] * shape[2])});
      }
    }
    const at::Tensor probability = full.to(at::kDouble).softmax(0);
    sum = sum.defined() ? sum + probability : probability;
  }
  const at::Tensor best = sum.argmax(0);
  std::int64_t different = 0, foreground = 0;
  for (std::int64_t d = 0; d < shape[0]; ++d) {
    for (std::int64_t h = 0; h < shape[1]; ++h) {
      for (std::int64_t w = 0; w < shape[2]; ++w) {
        const auto at =
            static_cast<std::size_t>(((d + begin[0]) * 26 + h + begin[1]) * 23 + w + begin[2]);
        const std::int64_t label = labels.voxels[at];
        foreground += label > 0;
        if (label == best[d][h][w].item<std::int64_t>()) continue;
        ++different;  // only near ties
        EXPECT_LT(
            (sum[best[d][h][w].item<std::int64_t>()][d][h][w] - sum[label][d][h][w]).item<double>(),
            1e-4);
      }
    }
  }
  EXPECT_LE(different, 3);
  EXPECT_GT(foreground, volume(shape) / 10);

  // One model three times decides as it does alone.
  Model one = models[0];
  EXPECT_EQ(predict_image({one, one, one}, image, exact()), predict_image(one, image, exact()));
  // Two models that read the same input share it.
  const auto inputs = preprocess_for(models, image, 1);
  EXPECT_EQ(inputs[0], inputs[2]);
  EXPECT_NE(inputs[0], inputs[1]);
  Geometry geometry;
  geometry.shape = {200, 200, 200};
  const std::int64_t alone = predict_memory_bytes({one}, geometry, exact());
  const std::int64_t thrice = predict_memory_bytes({one, one, one}, geometry, exact());
  EXPECT_GT(thrice, alone);
  EXPECT_LT(thrice - alone, 100 << 20);  // slabs and planes, not 3 classes of 200^3 (96 MB) a model
}

TEST(Predict, AnImageStoredInAnyOrientationIsSegmentedAlikeInTheWorld) {
  std::vector<Model> models{random_model(1, {8, 12, 10}, {1, 1.2, 0.9}),
                            random_model(2, {10, 8, 12}, {1.4, 1, 0.8})};
  for (Model& model : models) {
    model.preprocessing.orientation = "SLA";
    model.preprocessing.transpose_forward = {1, 2, 0};
    model.preprocessing.transpose_backward = {2, 0, 1};
  }
  Image image = noisy_box({13, 15, 11}, {2, 1, 0}, {13, 14, 9});
  image.geometry.affine = {-0.9, 0.1, 0.05, 20, 0.1, 1.1, -0.2, -5, 0.02, 0.2, 1.96, 7};
  image.geometry.spacing_mm = {2, 1.1, 0.9};
  const LabelMap one = predict_image(models.front(), image, exact());
  const LabelMap both = predict_image(models, image, exact());
  EXPECT_NE(one.voxels, both.voxels);
  for (const std::string& codes : test::all_orientations()) {
    SCOPED_TRACE(codes);
    const Turn turn = turn_to(image.geometry, codes);
    const Image stored = turned(image, turn);
    const LabelMap found = predict_image(models.front(), stored, exact());
    EXPECT_EQ(found.geometry, stored.geometry);  // to the last bit
    EXPECT_EQ(turned(found, inverse(turn)).voxels, one.voxels);
    if (codes[0] == 'P') {
      EXPECT_EQ(turned(predict_image(models, stored, exact()), inverse(turn)).voxels, both.voxels);
    }
  }
}

TEST(Predict, ModelsAreNamedByListsRunsAndFolds) {
  const test::TempFolder temp;
  const Model model = threshold_model(3);
  for (const char* name : {"run/fold_0/model", "run/fold_1/model", "single/model"}) {
    save_model(temp.path() / name, model);
  }
  const auto path = [&](const char* name) { return (temp.path() / name).string(); };
  // A run folder has a network.json of its own, with all outputs.
  write_graph(path("single/network.json"), model.network->graph());
  EXPECT_EQ(load_models(path("run")).size(), 2U);
  EXPECT_EQ(load_models(path("single")).size(), 1U);
  EXPECT_EQ(load_models(path("single/model")).size(), 1U);
  EXPECT_EQ(load_models(path("run") + "," + path("single/model")).size(), 3U);
  save_model(temp.path() / "model, v2", model);  // a path that exists is taken as it is
  EXPECT_EQ(load_models(path("model, v2")).size(), 1U);
  EXPECT_EQ(load_models(path("run") + "," + path("model, v2") + "," + path("single")).size(), 4U);
  EXPECT_THROW(load_models(""), Error);
  EXPECT_NE(error_of([&] { load_models(path("run") + "," + path("nothing")); }).find("nothing"),
            std::string::npos);
  Model other = model;
  other.preprocessing.labels.names = {"background", "dark"};
  save_model(temp.path() / "run/fold_2/model", other);
  const std::string message = error_of([&] { load_models(path("run")); });
  EXPECT_NE(message.find("fold_2"), std::string::npos) << message;
  EXPECT_NE(message.find("labels"), std::string::npos) << message;
  fs::remove_all(temp.path() / "run/fold_1/model");
  EXPECT_NE(error_of([&] { load_models(path("run")); }).find("fold_1"), std::string::npos);
}

TEST(Predict, ErrorsSayWhatDoesNotFit) {
  Model model = threshold_model(3);
  Image image = noisy_box({10, 12, 12}, {0, 0, 0}, {10, 12, 12});
  Image one = image;
  one.channels = 1;
  one.voxels.resize(one.voxels.size() / 2);
  EXPECT_NE(error_of([&] { predict_image(model, one, exact()); }).find("2 channels"),
            std::string::npos);
  EXPECT_THROW(predict_logits(model.network, one, {8, 8, 8}, exact()), Error);
  PredictOptions bad = exact();
  bad.step = 0;
  EXPECT_THROW(predict_image(model, image, bad), Error);
  set_parameters(model.network, {0, 0, NAN, 0}, {0, 0});
  EXPECT_NE(error_of([&] { predict_image(model, image, exact()); }).find("NaN"), std::string::npos);
}

TEST(Predict, MemoryForecastFollowsTheImageAndTheClasses) {
  const Model model = threshold_model(3);
  Geometry geometry;
  geometry.shape = {100, 100, 100};
  const std::int64_t small = predict_memory_bytes({model}, geometry, exact());
  geometry.shape = {200, 200, 200};
  const std::int64_t large = predict_memory_bytes({model}, geometry, exact());
  EXPECT_GT(large - small, 2 * 7'000'000 * 4 * 2);  // image and network input, two channels each
  EXPECT_LT(large - small,
            7'000'000 * 2 * 4 * 10);  // but no full-resolution copy per class and step
}

TEST(ModelFolder, RoundTripKeepsEverything) {
  const test::TempFolder temp;
  Model model = threshold_model(2.5F);
  model.network = GraphModule(make_unet({.in_channels = 2,
                                         .classes = 2,
                                         .features = {4, 8},
                                         .strides = {{1, 1, 1}, {2, 2, 2}},
                                         .kernels = {{3, 3, 3}, {3, 3, 3}},
                                         .blocks = {2, 2},
                                         .decoder_convs = {2}}),
                              7);
  save_model(temp / "model", model);
  Model loaded = load_model(temp / "model");
  EXPECT_EQ(loaded.preprocessing, model.preprocessing);
  EXPECT_EQ(loaded.network->graph(), model.network->graph());
  const auto a = model.network->named_parameters();
  const auto b = loaded.network->named_parameters();
  ASSERT_EQ(a.size(), b.size());
  for (const auto& item : a) EXPECT_TRUE(torch::equal(item.value(), b[item.key()])) << item.key();
  const Image image = noisy_box({16, 16, 16}, {0, 0, 0}, {16, 16, 16});
  model.preprocessing.patch = loaded.preprocessing.patch = {8, 8, 8};
  EXPECT_EQ(predict_image(model, image, exact()), predict_image(loaded, image, exact()));
  save_model(temp / "model", threshold_model(1));  // over an older one
  EXPECT_EQ(load_model(temp / "model").network->graph().name, "convolution");
}

TEST(ModelFolder, MirroredImagesAtTestTimeAreForModelsThatLearnedFromSuch) {
  const test::TempFolder temp;
  for (const std::optional<bool> mirrored :
       {std::optional<bool>(), std::optional(true), std::optional(false)}) {
    Model model = threshold_model(2.5F);
    model.mirrored = mirrored;
    save_model(temp / "model", model);
    const std::vector<Model> loaded = load_models((temp / "model").string());
    EXPECT_EQ(loaded.front().mirrored, mirrored);
    const std::string error = test::error_of([&] { check_mirrored(loaded, "RUN"); });
    EXPECT_EQ(error.empty(), mirrored != false) << error;
    if (mirrored == false) {
      EXPECT_THAT(error, testing::HasSubstr("--mirror"));
    }
  }
  TrainOptions options;
  EXPECT_TRUE(mirrors_images(options));
  options.augmentation = 0;
  EXPECT_FALSE(mirrors_images(options)) << "without any augmentation there is no mirroring";
}

TEST(ModelFolder, HostileFilesAreErrors) {
  const test::TempFolder temp;
  const fs::path folder = temp / "model";
  EXPECT_NE(error_of([&] { load_model(folder); }).find(folder.string()), std::string::npos);
  const Model model = threshold_model(2);
  const std::vector<std::string> names{"network.json", "weights.safetensors", "preprocessing.json"};
  save_model(folder, model);
  std::map<std::string, std::string> good;
  for (const std::string& name : names) good[name] = read_file(folder / name, 1 << 20);
  const auto put = [&](const std::string& name, const std::string& content) {
    std::ofstream(folder / name, std::ios::binary) << content;
  };
  for (const std::string& name : names) {
    fs::remove(folder / name);
    EXPECT_NE(error_of([&] { load_model(folder); }).find(name), std::string::npos);
    put(name, good[name].substr(0, good[name].size() / 2));
    EXPECT_NE(error_of([&] { load_model(folder); }).find(name), std::string::npos);
    put(name, "");
    EXPECT_NE(error_of([&] { load_model(folder); }).find(name), std::string::npos);
    put(name, good[name]);
  }
  load_model(folder);

  const auto expect_refused = [&](const std::function<void(Json&)>& change, const char* what) {
    Json json = parse_json(good["preprocessing.json"], "p");
    change(json);
    put("preprocessing.json", json.dump());
    EXPECT_NE(error_of([&] { load_model(folder); }).find(what), std::string::npos)
        << error_of([&] { load_model(folder); });
    put("preprocessing.json", good["preprocessing.json"]);
  };
  expect_refused([](Json& j) { j["label_names"].push_back("third"); }, "2 classes");
  expect_refused(
      [](Json& j) {
        for (const char* key : {"normalization", "use_mask_for_norm", "intensity", "channel_names"})
          j[key].erase(1);
      },
      "2 channels");
  expect_refused([](Json& j) { j["model"]["weights"] = "0"; }, "weights");
  expect_refused([](Json& j) { j["model"]["network"] = "0"; }, "network");

  // Any damage is an error or means nothing; it never ends the process.
  Rng rng(8);
  for (int trial = 0; trial < 300; ++trial) {
    const std::string& name = names[static_cast<std::size_t>(trial) % 3];
    std::string bad = good[name];
    for (int flips = 0; flips < 1 + trial % 3; ++flips) {
      bad[static_cast<std::size_t>(rng.integer(0, static_cast<std::int64_t>(bad.size())))] ^=
          static_cast<char>(1 << rng.integer(0, 8));
    }
    put(name, bad);
    try {
      load_model(folder);
    } catch (const Error&) {
    }
    put(name, good[name]);
  }
}

TEST(ModelFolder, PythonReadsTheWeightsByTheNamesOfTheGraph) {
  NAS_PYTHON_OR_SKIP(python);
  const std::string quiet = " >/dev/null 2>&1";
  if (std::system((python.string() + " -c 'import safetensors.numpy'" + quiet).c_str()) != 0) {
    GTEST_SKIP() << "needs the Python package safetensors";
  }
  const test::TempFolder temp;
  const Model model = threshold_model(2.25F);
  save_model(temp / "model", model);
  std::ofstream(temp / "check.py")
      << "import sys, json\n"
         "from safetensors.numpy import load_file\n"
         "w = load_file(sys.argv[1] + '/weights.safetensors')\n"
         "names = [n['name'] for n in json.load(open(sys.argv[1] + '/network.json'))['nodes']"
         " if n['op'] == 'conv']\n"
         "assert names == ['head'], names\n"
         "assert sorted(w) == ['head.bias', 'head.weight'], sorted(w)\n"
         "assert w['head.weight'].shape == (2, 2, 1, 1, 1)\n"
         "assert w['head.weight'].reshape(-1).tolist() == [0, 0, 1, 0]\n"
         "assert w['head.bias'].tolist() == [0, -2.25]\n";
  const std::string command =
      python.string() + " " + (temp / "check.py").string() + " " + (temp / "model").string();
  EXPECT_EQ(std::system(command.c_str()), 0);
}

TEST(Evaluate, ScoresOnTheOriginalGridAndSavesPredictions) {
  const test::TempFolder temp;
  Model model = threshold_model(3);
  DataSet data;
  data.folder = temp.path();
  data.name = "two";
  data.layout = "nnunet";
  data.channel_names = model.preprocessing.channel_names;
  data.labels.names = model.preprocessing.labels.names;
  for (int i = 0; i < 3; ++i) {
    const Image image =
        noisy_box({14, 16, 12}, {1, 0, 2}, {14, 15, 12}, static_cast<std::uint64_t>(i));
    LabelMap label;
    label.geometry = image.geometry;
    for (std::int64_t v = 0; v < image.voxels_per_channel(); ++v) {
      const bool bright = image.voxels[static_cast<std::size_t>(v)] > 3;
      label.voxels.push_back(
          bright && (i != 2 || v % 2 == 0) ? 1 : 0);  // of the last case only every second voxel
    }
    CaseFiles files{
        "case_" + std::to_string(i), {}, temp / ("label" + std::to_string(i) + ".nii.gz")};
    for (std::int64_t c = 0; c < 2; ++c) {
      Image channel;
      channel.geometry = image.geometry;
      channel.voxels.assign(image.channel(c).begin(), image.channel(c).end());
      files.images.push_back(temp / concat_text("image", i, "_", c, ".nii.gz"));
      write_nifti(files.images.back(), channel);
    }
    write_nifti(files.label, label);
    data.training.push_back(files);
  }
  const auto results =
      evaluate_cases(model, data, {"case_2", "case_0", "case_1"}, exact(), temp / "saved", false);
  ASSERT_EQ(results.size(), 3U);
  EXPECT_EQ(results[0].id, "case_2");
  EXPECT_EQ(results[1].classes.at(0).dice, 1.0);
  EXPECT_EQ(results[2].classes.at(0).dice, 1.0);
  EXPECT_EQ(results[2].classes.at(0).hd_mm, 0.0);
  const ClassMetrics& half = results[0].classes.at(0);
  EXPECT_NEAR(half.dice.value(),
              2.0 * static_cast<double>(half.reference_voxels) /
                  static_cast<double>(half.reference_voxels + half.predicted_voxels),
              1e-12);
  EXPECT_NEAR(half.dice.value(), 2.0 / 3, 0.02);
  EXPECT_EQ(read_nifti_label(temp / "saved" / "case_1.nii.gz").voxels,
            read_case_label(data, data.find("case_1")).voxels);
  EXPECT_THROW(evaluate_cases(model, data, {"nobody"}, exact(), {}, false), Error);

  // Stored in another orientation, with a label in a third one: the same scores, on the file's
  // grid.
  model.preprocessing.orientation = data.orientation = "LAS";
  const CaseFiles& files = data.training[1];
  for (const fs::path& file : files.images) {
    const Image channel = read_nifti_image(file);
    write_nifti(file, turned(channel, turn_to(channel.geometry, "SPR")));
  }
  const LabelMap label = read_nifti_label(files.label);
  write_nifti(files.label, turned(label, turn_to(label.geometry, "PRI")));
  const auto again = evaluate_cases(model, data, {"case_1"}, exact(), temp / "saved", false);
  EXPECT_EQ(again[0].classes.at(0).dice, 1.0);
  EXPECT_EQ(again[0].classes.at(0).reference_voxels, results[2].classes.at(0).reference_voxels);
  EXPECT_EQ(read_nifti_header(temp / "saved" / "case_1.nii.gz").geometry,
            read_nifti_header(files.images[0]).geometry);
}

TEST(GpuPredict, EqualsTheProcessor) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "needs a CUDA device";
  GraphModule network = convolution(2, 3, 3);
  const Image image = noisy_box({21, 17, 26}, {0, 0, 0}, {21, 17, 26}, 4);
  const at::Tensor expected = predict_logits(network, image, {8, 12, 10}, exact(true));
  PredictOptions options = exact(true, 4);
  options.device = "cuda";
  EXPECT_LT(
      (predict_logits(network, image, {8, 12, 10}, options) - expected).abs().max().item<double>(),
      1e-3);
}

}  // namespace
}  // namespace nas
