// SPDX-License-Identifier: Apache-2.0
// ONNX files and PyTorch source of every operation: structure, names, errors. What foreign readers
// make of them: tests/interop.
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/network/onnx.h"
#include "nas/network/operations.h"
#include "nas/network/torch_source.h"
#include "tests/support/support.h"

namespace nas {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using testing::HasSubstr;
using testing::Not;

/// Weights of a graph, all 0.5.
struct Weights {
  std::map<std::string, std::vector<float>> values;
  std::map<std::string, TensorView, std::less<>> views;
};

Weights weights_of(const Graph& graph) {
  Weights weights;
  const std::vector<std::vector<StateTensor>> states = graph_state(graph);
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    for (const StateTensor& tensor : states[i]) {
      std::int64_t count = 1;
      for (const std::int64_t size : tensor.shape) count *= size;
      const std::string name = graph.nodes[i].name + "." + tensor.name;
      auto& values = weights.values[name];
      values.assign(static_cast<std::size_t>(count), 0.5F);
      weights.views[name] = view_floats(values, tensor.shape);
    }
  }
  return weights;
}

/// image -> conv -> norm -> activation -> head -> finest; a second output below the norm.
Graph small_graph() {
  Graph g;
  g.name = "small";
  int x = g.add("input", "in", {}, {{"channels", 2}});
  x = g.add("conv", "stem.0.conv", {x}, {{"out_channels", 3}, {"kernel", 3}});
  const int norm = g.add("instance_norm", "stem.0.norm", {x}, {{"affine", false}});
  x = g.add("leaky_relu", "stem.0.act", {norm});
  x = g.add("dropout", "stem.0.drop", {x});
  x = g.add("conv", "head", {x}, {{"out_channels", 2}, {"kernel", 1}});
  g.add("output", "finest", {x});
  g.add("output", "coarse", {g.add("conv", "side", {norm}, {{"out_channels", 2}, {"kernel", 1}})});
  return g;
}

TEST(Onnx, EveryOperationIsWrittenAndPassesTheCheck) {
  const test::TempFolder temp;
  for (const Operation& row : operations()) {
    for (std::size_t i = 0; i < row.examples.size(); ++i) {
      Graph graph;
      graph.name = row.name;
      const bool given = row.name == "input" || row.name == "output";
      const int x = graph.add("input", "x", {}, {{"channels", 4}});
      const std::vector<int> inputs(static_cast<std::size_t>(std::max(1, row.min_inputs)), x);
      graph.add("output", "y", {given ? x : graph.add(row.name, "op", inputs, row.examples[i])});
      const fs::path file = temp / (row.name + std::to_string(i) + ".onnx");
      write_onnx(file, graph, weights_of(graph).views);
      const OnnxSummary summary = check_onnx(file);
      EXPECT_EQ(summary.opset, 17);
      EXPECT_EQ(summary.nodes, given || row.name == "dropout" ? 1 : 2) << row.name;
    }
  }
}

TEST(Onnx, HoldsTheFinestOutputAloneAndTheMetadata) {
  const test::TempFolder temp;
  const Graph graph = small_graph();
  write_onnx(temp / "m.onnx", graph, weights_of(graph).views, {.metadata = {{"key", "value"}}});
  const OnnxSummary summary = check_onnx(temp / "m.onnx");
  EXPECT_EQ(summary.nodes, 5);         // conv, norm, activation, head, output; no dropout, no side
  EXPECT_EQ(summary.initializers, 6);  // weight and bias of three
  EXPECT_EQ(summary.metadata.at("key"), "value");
}

TEST(Onnx, NamesOfNodesMayBeThoseOfInputAndOutput) {
  const test::TempFolder temp;
  Graph graph;
  const int x = graph.add("input", "pred", {}, {{"channels", 2}});
  const int y = graph.add("relu", "image", {x});
  graph.add("output", "image.end", {graph.add("crop", "image.begin", {y}, {{"end", 1}})});
  write_onnx(temp / "m.onnx", graph, {});
  EXPECT_EQ(check_onnx(temp / "m.onnx").nodes, 3);
}

TEST(Onnx, LargeWeightsLieBesideTheModel) {
  const test::TempFolder temp;
  Graph graph;
  const int x = graph.add("input", "x", {}, {{"channels", 16}});
  const Attributes conv{{"out_channels", 16}, {"kernel", 3}};
  graph.add("output", "y", {graph.add("conv", "b", {graph.add("conv", "a", {x}, conv)}, conv)});
  const Weights weights = weights_of(graph);
  const fs::path file = temp / "m.onnx", data = temp / "m.onnx.data";
  write_onnx(file, graph, weights.views, {.inline_bytes = 1000});
  EXPECT_EQ(check_onnx(file).initializers, 4);
  EXPECT_LT(fs::file_size(file), 4000u);
  EXPECT_EQ(fs::file_size(data), 2u * 16 * 16 * 27 * 4);
  fs::resize_file(data, fs::file_size(data) - 4);
  EXPECT_THAT(error_of([&] { check_onnx(file); }), HasSubstr("m.onnx.data"));
  fs::remove(data);
  EXPECT_THAT(error_of([&] { check_onnx(file); }), HasSubstr("m.onnx.data"));
  write_onnx(file, graph, weights.views, {.inline_bytes = 1000});
  write_onnx(file, graph, weights.views);
  EXPECT_FALSE(fs::exists(data)) << "left over from the larger model";
  check_onnx(file);
}

TEST(Onnx, WhatCannotBeWrittenIsNamed) {
  const test::TempFolder temp;
  const fs::path file = temp / "m.onnx";
  const Graph graph = small_graph();
  Weights weights = weights_of(graph);
  const TensorView kept = weights.views.at("head.bias");
  weights.views.erase("head.bias");
  EXPECT_THAT(error_of([&] { write_onnx(file, graph, weights.views); }), HasSubstr("head.bias"));
  weights.views["head.bias"] = weights.views.at("head.weight");
  EXPECT_THAT(error_of([&] { write_onnx(file, graph, weights.views); }), HasSubstr("head.bias"));
  weights.views["head.bias"] = kept;
  Graph open = graph;
  Graph alternative;
  alternative.add("output", "out", {alternative.add("input", "in", {}, {{"channels", 2}})});
  open.add_choice("pick", {open.find("head")}, {alternative});
  EXPECT_THAT(error_of([&] { write_onnx(file, open, weights.views); }), HasSubstr("choice"));
  Graph two = graph;
  two.add("input", "second", {}, {{"channels", 1}});
  EXPECT_THAT(error_of([&] { write_onnx(file, two, weights.views); }), HasSubstr("one input"));
  EXPECT_FALSE(fs::exists(file));
  EXPECT_TRUE(fs::is_empty(temp.path())) << "a temporary file was left";
}

TEST(Onnx, DamageIsAnErrorOrMeansNothing) {
  const test::TempFolder temp;
  const Graph graph = small_graph();
  write_onnx(temp / "m.onnx", graph, weights_of(graph).views);
  const std::string good = read_file(temp / "m.onnx", 1 << 20);
  for (std::size_t length = 0; length < good.size(); length += 7) {
    std::ofstream(temp / "cut.onnx", std::ios::binary) << good.substr(0, length);
    EXPECT_THAT(error_of([&] { check_onnx(temp / "cut.onnx"); }), HasSubstr("cut.onnx")) << length;
  }
  for (std::size_t bit = 0; bit < good.size() * 8; bit += 13) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    std::ofstream(temp / "bad.onnx", std::ios::binary) << bad;
    try {
      check_onnx(temp / "bad.onnx");
    } catch (const Error&) {
    }
  }
}

TEST(TorchSource, PythonReadsAsPeopleWriteIt) {
  const std::string source = python_source(small_graph());
  EXPECT_THAT(source, HasSubstr("\"stem.0.conv\": nn.Conv3d(2, 3, 3, padding=1),"));
  EXPECT_THAT(source, HasSubstr("\"stem.0.norm\": nn.InstanceNorm3d(3),"));
  EXPECT_THAT(source, HasSubstr("x = layer(\"stem.0.conv\")(image)\n"));
  EXPECT_THAT(source, HasSubstr("stem_0_norm = layer(\"stem.0.norm\")(x)\n"));
  EXPECT_THAT(source, HasSubstr("x = F.leaky_relu(stem_0_norm, 0.01)\n"));
  EXPECT_THAT(source, HasSubstr("return [head, side] if self.training else head\n"));
  EXPECT_THAT(source, Not(HasSubstr("crop_to")));
}

TEST(TorchSource, TorchScriptHasAPartForEveryNodeWithALayerAndTheNetworkLast) {
  const std::vector<TorchScriptPart> parts = torchscript_source(small_graph());
  ASSERT_EQ(parts.size(), 4u);
  EXPECT_EQ(parts[0].node, "stem.0.conv");
  EXPECT_THAT(parts[1].source, HasSubstr("torch.instance_norm(x, None, None"));
  EXPECT_EQ(parts[3].node, "");
  EXPECT_THAT(parts[3].source, HasSubstr("x = getattr(self.stem, \"0\").conv.forward(image)\n"));
  EXPECT_THAT(parts[3].source, Not(HasSubstr("side")));
}

TEST(TorchSource, NamesThatPyTorchUsesAreRefused) {
  Graph graph;
  const int x = graph.add("input", "x", {}, {{"channels", 1}});
  graph.add(
      "output", "y", {graph.add("conv", "a.forward.b", {x}, {{"out_channels", 1}, {"kernel", 1}})});
  EXPECT_THAT(error_of([&] { python_source(graph); }), HasSubstr("a.forward.b"));
  EXPECT_THAT(error_of([&] { torchscript_source(graph); }), HasSubstr("a.forward.b"));
}

}  // namespace
}  // namespace nas
