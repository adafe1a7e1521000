// SPDX-License-Identifier: Apache-2.0
#include "training/model/graph_module.h"

#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <vector>

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
#include "tests/support/support.h"
#include "tests/support/tensors.h"
#include "training/fit/losses.h"
#include "training/model/device.h"
#include "training/model/weights.h"
#include "training/trial_run.h"

namespace nas {
namespace {

using test::largest_difference;
using test::random_tensor;
using test::tensor_of;

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

TEST(GraphModuleSpaces, InferredShapesAndParametersAreThoseOfARealForwardPass) {
  const at::NoGradGuard no_grad;
  Rng rng("real-forward");
  const std::size_t each = 200 / space_names().size() + 1;
  for (const std::string& name : space_names()) {
    Json description = example_description(name);
    if (name == "c2fnas") description["base_filters"] = 1;
    const auto space = make_space(description);
    for (std::size_t i = 0; i < each; ++i) {
      const Genotype genotype = i == 0   ? space->baseline()
                                : i == 1 ? space->start()
                                         : space->sample(rng);
      SCOPED_TRACE(name + ": " + space->to_text(genotype));
      const Phenotype built = space->build(genotype);
      const std::vector<TensorShape> shapes = infer_shapes(built.graph, built.patch);
      GraphModule network(built.graph);
      std::int64_t parameters = 0;
      for (const at::Tensor& parameter : network->parameters()) parameters += parameter.numel();
      EXPECT_EQ(parameters, total_cost(built.graph, built.patch).parameters);
      const std::vector<at::Tensor> outputs =
          network->forward(at::zeros({1, 1, built.patch[0], built.patch[1], built.patch[2]}));
      const std::vector<int> nodes = built.graph.output_nodes();
      ASSERT_EQ(outputs.size(), nodes.size());
      for (std::size_t k = 0; k < nodes.size(); ++k) {
        const TensorShape& shape = shapes[static_cast<std::size_t>(nodes[k])];
        EXPECT_EQ(outputs[k].sizes().vec(),
                  (std::vector<std::int64_t>{
                      1, shape.channels, shape.space[0], shape.space[1], shape.space[2]}));
      }
    }
  }
}

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

/// Memory that is handed out next holds NaN: what reads more than it was given shows.
void dirty_memory() {
  for (const std::int64_t size : {64, 256, 1024, 2048, 3456, 4096, 8192, 16384, 32768, 65536}) {
    std::vector<at::Tensor> blocks;
    for (int i = 0; i < 12; ++i) {
      blocks.push_back(at::full({size}, std::numeric_limits<float>::quiet_NaN()));
    }
  }
}

TEST(GraphModule, GradientsInBf16AreThoseOfFloatAlsoWhereAnAxisIsShorterThanTheKernel) {
  for (const auto& shape :
       {std::vector<std::int64_t>{2, 8, 2, 4, 4}, {2, 8, 1, 2, 3}, {2, 8, 4, 4, 2}}) {
    for (const char* op : {"conv", "conv_transpose"}) {
      Graph graph;
      const int x = graph.add("input", "x", {}, {{"channels", std::int64_t{8}}});
      Attributes attributes{{"out_channels", std::int64_t{16}},
                            {"stride", std::vector<std::int64_t>{1, 1, 1}},
                            {"kernel", std::vector<std::int64_t>{3, 3, 3}},
                            {"padding", std::vector<std::int64_t>{1, 1, 1}}};
      graph.add("output", "y", {graph.add(op, "op", {x}, attributes)});
      GraphModule network(graph, 1);
      const at::Tensor image = at::randn(shape, at::kFloat);
      const auto gradient = [&](at::ScalarType type) {
        network->zero_grad();
        const Autocast autocast(at::kCPU, type);
        const at::Tensor y = network->forward(image.to(type)).front();
        dirty_memory();
        (y.to(at::kFloat) * at::linspace(-1, 1, y.numel()).view_as(y)).sum().backward();
        return network->named_parameters()["op.weight"].grad().clone();
      };
      const at::Tensor exact = gradient(at::kFloat);
      for (int i = 0; i < 5; ++i) {
        const double worst =
            ((gradient(at::kBFloat16) - exact).abs().max() / exact.abs().max()).item<double>();
        EXPECT_LT(worst, 0.05) << op << ' ' << shape[2] << 'x' << shape[3] << 'x' << shape[4];
      }
    }
  }
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

TEST(GraphModuleWeights, MatchingOnesAreCopiedForAnotherTask) {
  const test::TempFolder folder;
  const std::string file = (folder / "weights.safetensors").string();
  UnetArchitecture a = oracle_architecture(false);
  GraphModule from(make_unet(a), 1);
  save_weights(file, *from);
  a.classes += 2;
  GraphModule to(make_unet(a), 2), fresh(make_unet(a), 2);
  const WeightTransfer transfer = load_matching_weights(file, *to);
  EXPECT_EQ(transfer.copied.size() + transfer.own_start.size(), to->named_parameters().size());
  EXPECT_FALSE(transfer.own_start.empty());
  for (const std::string& name : transfer.own_start) {  // the heads, and they keep their start
    EXPECT_TRUE(name.starts_with("decoder.seg_layers.")) << name;
    EXPECT_TRUE(to->named_parameters()[name].equal(fresh->named_parameters()[name])) << name;
  }
  for (const std::string& name : transfer.copied) {
    EXPECT_TRUE(to->named_parameters()[name].equal(from->named_parameters()[name])) << name;
  }
  Graph other;
  other.name = "other";
  int x = other.add("input", "image", {}, {{"channels", 2}});
  x = other.add("conv", "alone", {x}, {{"out_channels", 3}, {"kernel", 1}});
  other.add("output", "seg", {x});
  GraphModule unrelated(other);
  EXPECT_TRUE(load_matching_weights(file, *unrelated).copied.empty());
}

/// Biases and norms begin at 0 and 1, alike in all networks; other values tell them apart.
void draw_vectors(torch::nn::Module& module) {
  std::uint64_t seed = 100;
  for (const auto& item : module.named_parameters()) {
    if (item.value().dim() == 1) {
      item.value().set_data(random_tensor(item.value().sizes(), ++seed));
    }
  }
}

TEST(GraphModuleWeights, AWiderNetworkBeginsWithTheNarrowersFunction) {
  UnetArchitecture plain = oracle_architecture(false), residual = oracle_architecture(true);
  const auto unet = [](UnetArchitecture a, std::int64_t more) {
    for (std::int64_t& features : a.features) features += more;
    return make_unet(a);
  };
  const auto c2fnas = [](std::int64_t filters) {
    C2fnasNetwork network = c2fnas_panc(2, 3);  // concatenations, sums, sizes that change
    network.base_filters = filters;
    network.deep_supervision = true;
    return make_c2fnas(network);
  };
  const std::pair<Graph, Graph> pairs[] = {{unet(plain, 0), unet(plain, 3)},
                                           {unet(residual, 0), unet(residual, 4)},
                                           {c2fnas(2), c2fnas(3)}};
  for (const auto& [narrow, wide] : pairs) {
    const test::TempFolder folder;
    const std::string file = (folder / "weights.safetensors").string();
    GraphModule from(narrow, 1), to(wide, 2);
    draw_vectors(*from);
    save_weights(file, *from);
    const WeightTransfer transfer = load_narrower_weights(file, *to);
    EXPECT_TRUE(transfer.own_start.empty()) << narrow.name << ": " << transfer.own_start.front();
    EXPECT_GT(transfer.widened, 20);
    // Nothing of a wider network goes into a narrower one.
    GraphModule back(narrow, 3);
    save_weights(file, *to);
    EXPECT_EQ(load_narrower_weights(file, *back).widened, 0);

    from->to(at::kDouble);
    to->to(at::kDouble);
    const at::Tensor input = random_tensor({2, 2, 16, 32, 32}, 3).to(at::kDouble);
    const std::vector<at::Tensor> before = from->forward(input), after = to->forward(input);
    ASSERT_EQ(before.size(), after.size());
    for (std::size_t i = 0; i < before.size(); ++i) {
      EXPECT_LT((before[i] - after[i]).abs().max().item<double>(), 1e-9) << narrow.name << i;
    }
    // The new channels are read with weight 0 as yet, but that weight learns.
    after[0].square().sum().backward();
    const auto old = from->named_parameters();
    int read = 0;
    for (const auto& item : to->named_parameters()) {
      const at::Tensor& was = old[item.key()];
      if (!item.key().ends_with("conv.weight") || was.size(1) == item.value().size(1)) continue;
      const auto last = [&](const at::Tensor& x) {
        return x.narrow(0, 0, was.size(0)).select(1, x.size(1) - 1).abs().max().item<double>();
      };
      EXPECT_EQ(last(item.value()), 0) << item.key();
      EXPECT_GT(last(item.value().grad()), 0) << item.key();
      ++read;
    }
    EXPECT_GT(read, 4);
  }
}

TEST(GraphModuleWeights, GroupsAreNotWidenedNorWhatReadsThem) {
  const auto network = [](std::int64_t width) {
    Graph g;
    g.name = "groups";
    int x = g.add("input", "image", {}, {{"channels", 2}});
    const Attributes bias = {{"out_channels", width}, {"kernel", 1}, {"bias", true}};
    x = g.add("conv", "first", {x}, bias);
    x = g.add("conv", "second", {x}, bias);
    x = g.add("conv", "each", {x}, {{"out_channels", width}, {"kernel", 3}, {"groups", width}});
    x = g.add("conv", "last", {x}, {{"out_channels", 3}, {"kernel", 1}, {"bias", true}});
    g.add("output", "seg", {x});
    return g;
  };
  const test::TempFolder folder;
  GraphModule from(network(4), 1), to(network(6), 2), fresh(network(6), 2);
  draw_vectors(*from);
  save_weights((folder / "trials/1/weights.safetensors").string(), *from);
  Trial trial;
  trial.source = 1;
  EXPECT_EQ(warm_start_from_source(*to, folder.path(), trial),
            ", warm-started from trial 1: 5 of 8 tensors, 4 of them widened");
  const auto now = to->named_parameters(), was = fresh->named_parameters(),
             old = from->named_parameters();
  for (const char* name : {"each.weight", "each.bias", "last.weight"}) {
    EXPECT_TRUE(now[name].equal(was[name])) << name;
  }
  EXPECT_TRUE(now["last.bias"].equal(old["last.bias"]));
  EXPECT_TRUE(now["first.bias"].narrow(0, 0, 4).equal(old["first.bias"]));
  EXPECT_TRUE(now["first.bias"].narrow(0, 4, 2).equal(was["first.bias"].narrow(0, 4, 2)));
  const at::Tensor second = now["second.weight"].narrow(0, 0, 4);
  EXPECT_TRUE(second.narrow(1, 0, 4).equal(old["second.weight"]));
  EXPECT_EQ(second.narrow(1, 4, 2).abs().max().item<double>(), 0);
}

}  // namespace
}  // namespace nas
