// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/rng.h"
#include "nas/network/graph.h"
#include "nas/network/operations.h"
#include "nas/network/safetensors.h"
#include "search_spaces/unet.h"
#include "tests/support/support.h"
#include "training/graph_module.h"
#include "training/losses.h"
#include "training/optimizer.h"
#include "training/options.h"

namespace nas {
namespace {

at::Tensor tensor_of(const SafetensorsFile& file, const std::string& name) {
  const TensorView& view = file.at(name);
  std::vector<float> values = to_floats(view);
  return torch::from_blob(values.data(), at::IntArrayRef(view.shape), at::kFloat).clone();
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

at::Tensor random_tensor(at::IntArrayRef shape,
                         std::uint64_t seed,
                         at::ScalarType type = at::kFloat) {
  at::Generator generator = at::globalContext().defaultGenerator(at::kCPU).clone();
  generator.set_current_seed(seed);
  return at::randn(shape, generator, at::kDouble).to(type);
}

/// The small network of oracles plain_unet_forward and residual_unet_forward.
UnetArchitecture oracle_architecture(bool residual) {
  UnetArchitecture a;
  a.residual = residual;
  a.in_channels = 2;
  a.classes = 3;
  a.features = {4, 8, 16};
  a.strides = {{1, 1, 1}, {1, 2, 2}, {2, 2, 2}};
  a.kernels = {{1, 3, 3}, {3, 3, 3}, {3, 3, 3}};
  a.blocks = residual ? std::vector<std::int64_t>{1, 2, 2} : std::vector<std::int64_t>{2, 2, 2};
  a.decoder_convs = {1, 1};
  return a;
}

class UnetOracle : public testing::TestWithParam<std::tuple<bool, bool>> {};

TEST_P(UnetOracle, OutputsAndGradientNormsEqualNnunet) {
  const auto [residual, fused] = GetParam();
  NAS_SHARED_OR_SKIP(path,
                     residual ? "oracles/residual_unet_forward.safetensors"
                              : "oracles/plain_unet_forward.safetensors");
  const SafetensorsFile oracle(path);
  GraphModule network(make_unet(oracle_architecture(residual)));
  network->set_fused(fused);
  {
    const at::NoGradGuard no_grad;
    for (auto& item : network->named_parameters())
      item.value().copy_(tensor_of(oracle, "weight." + item.key()));
  }

  const std::vector<at::Tensor> outputs = network->forward(tensor_of(oracle, "input"));
  ASSERT_EQ(outputs.size(), 2u);
  at::Tensor loss = at::zeros({});
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    EXPECT_LT(largest_difference(outputs[i], tensor_of(oracle, "output." + std::to_string(i))),
              1e-4);
    loss = loss + outputs[i].square().mean();
  }
  loss.backward();

  const Json names = Json::parse(oracle.metadata().at("names"));
  const at::Tensor norms = tensor_of(oracle, "gradient_norms");
  const auto parameters = network->named_parameters();
  ASSERT_EQ(parameters.size(), names.size());
  for (std::size_t i = 0; i < names.size(); ++i) {
    const at::Tensor gradient = parameters[names[i].get<std::string>()].grad();
    const double found = gradient.defined() ? gradient.norm().item<double>() : 0;
    const double expected = norms[static_cast<std::int64_t>(i)].item<double>();
    // Biases in front of a norm have no gradient but rounding noise.
    EXPECT_NEAR(found, expected, 1e-3 * expected + 1e-6) << names[i];
  }
}
INSTANTIATE_TEST_SUITE_P(PlainAndResidual,
                         UnetOracle,
                         testing::Combine(testing::Bool(), testing::Bool()));

/// One node of every operation and setting of the table.
struct OperationCase {
  std::string op;
  Attributes attributes;
};

std::vector<OperationCase> operation_cases() {
  std::vector<OperationCase> cases;
  for (const Operation& row : operations()) {
    if (row.name == "input" || row.name == "output") continue;
    for (const Attributes& attributes : row.examples) cases.push_back({row.name, attributes});
  }
  return cases;
}

Graph graph_of(const OperationCase& c) {
  Graph graph;
  graph.name = c.op;
  const int x = graph.add("input", "x", {}, {{"channels", std::int64_t{4}}});
  const Operation& row = *find_operation(c.op);
  std::vector<int> inputs{x};
  if (row.max_inputs >= 2 && c.op != "crop")
    inputs.push_back(graph.add("leaky_relu", "other", {x}));
  graph.add("output", "y", {graph.add(c.op, "op", inputs, c.attributes)});
  return graph;
}

TEST(GraphModuleOperations, ForwardShapesAndParametersEqualTheTableInBothPaths) {
  for (const OperationCase& c : operation_cases()) {
    const Graph graph = graph_of(c);
    SCOPED_TRACE(to_json(graph).dump());
    const TensorShape shape = infer_shapes(graph, {6, 7, 8}).back();
    const std::vector<std::int64_t> expected{
        2, shape.channels, shape.space[0], shape.space[1], shape.space[2]};
    GraphModule network(graph);
    std::int64_t parameters = 0;
    for (const at::Tensor& p : network->parameters()) parameters += p.numel();
    EXPECT_EQ(parameters, total_cost(graph, {6, 7, 8}).parameters);

    network->eval();
    const at::Tensor input = random_tensor({2, 4, 6, 7, 8}, 3);
    network->set_fused(false);
    const at::Tensor plain = network->forward(input)[0];
    network->set_fused(true);
    const at::Tensor fused = network->forward(input)[0];
    EXPECT_EQ(plain.sizes(), at::IntArrayRef(expected));
    ASSERT_EQ(fused.sizes(), plain.sizes());
    EXPECT_LT(largest_difference(plain, fused), 1e-5);
    const Autocast autocast(at::kCPU, at::kBFloat16);
    EXPECT_LT(largest_difference(network->forward(input)[0], plain), 0.1);  // 8 bits of mantissa
  }
}

TEST(GraphModuleOperations, SecondInputOfCropSetsTheSize) {
  Graph graph;
  const int x = graph.add("input", "x", {}, {{"channels", std::int64_t{1}}});
  const int small = graph.add("conv",
                              "conv",
                              {x},
                              {{"out_channels", std::int64_t{2}},
                               {"kernel", std::int64_t{3}},
                               {"padding", std::int64_t{0}}});
  graph.add("output", "y", {graph.add("crop", "crop", {x, small})});
  GraphModule network(graph);
  const at::Tensor input = random_tensor({1, 1, 6, 7, 8}, 3);
  EXPECT_TRUE(network->forward(input)[0].equal(input.slice(2, 1, 5).slice(3, 1, 6).slice(4, 1, 7)));
}

TEST(GraphModuleWeights, DependOnSeedAndNameOnly) {
  UnetArchitecture a = oracle_architecture(false);
  GraphModule one(make_unet(a), 7), same(make_unet(a), 7), other(make_unet(a), 8);
  a.features = {4, 8};
  a.strides.pop_back();
  a.kernels.pop_back();
  a.blocks.pop_back();
  a.decoder_convs.pop_back();
  GraphModule smaller(make_unet(a), 7);
  const std::string name = "encoder.stages.0.0.convs.1.conv.weight";
  const at::Tensor w = one->named_parameters()[name];
  EXPECT_TRUE(w.equal(same->named_parameters()[name]));
  EXPECT_TRUE(w.equal(smaller->named_parameters()[name]));
  EXPECT_FALSE(w.equal(other->named_parameters()[name]));
  const at::Tensor deep =
      one->named_parameters()["encoder.stages.2.0.convs.1.conv.weight"];  // 16 x 16 x 27 values
  EXPECT_NEAR(deep.std().item<double>(), std::sqrt(2.0 / 1.0001 / (16 * 27)), 0.002);
  EXPECT_NEAR(deep.mean().item<double>(), 0, 0.003);
}

TEST(GraphModuleWeights, RoundTripThroughSafetensorsAndRefuseWhatDoesNotFit) {
  const test::TempFolder folder;
  const std::string file = (folder / "weights.safetensors").string();
  GraphModule from(make_unet(oracle_architecture(false)), 1),
      to(make_unet(oracle_architecture(false)), 2);
  save_weights(file, *from);
  load_weights(file, *to);
  const at::Tensor input = random_tensor({1, 2, 8, 16, 16}, 1);
  EXPECT_TRUE(from->forward(input)[0].equal(to->forward(input)[0]));
  GraphModule residual(make_unet(oracle_architecture(true)));
  EXPECT_THROW(load_weights(file, *residual), Error);
}

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

}  // namespace
}  // namespace nas
