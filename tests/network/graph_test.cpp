// SPDX-License-Identifier: Apache-2.0
// Networks as data: rules, shapes, costs, choices, JSON, the whole operations table, damaged input.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/rng.h"
#include "nas/network/drawing.h"
#include "nas/network/file_nodes.h"
#include "nas/network/graph.h"
#include "nas/network/operations.h"
#include "tests/support/support.h"

namespace nas {
namespace {

using test::error_of;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using Ints = std::vector<std::int64_t>;

constexpr Extent3 kSpace{6, 7, 8};
constexpr std::int64_t kChannels = 4;

/// image -> conv -> norm -> leaky ReLU -> head -> seg
Graph small_graph() {
  Graph g;
  g.name = "small";
  int x = g.add("input", "image", {}, {{"channels", 2}});
  x = g.add("conv", "stem.conv", {x}, {{"out_channels", 3}, {"kernel", 3}});
  x = g.add("instance_norm", "stem.norm", {x});
  x = g.add("leaky_relu", "stem.nonlin", {x}, {{"slope", 0.1}});
  x = g.add("conv", "head", {x}, {{"out_channels", 2}, {"kernel", 1}});
  g.add("output", "seg", {x});
  return g;
}

Graph conv_alternative(std::int64_t channels, std::int64_t out, std::int64_t kernel) {
  Graph g;
  const int x = g.add("input", "in", {}, {{"channels", channels}});
  const int c = g.add("conv", "conv", {x}, {{"out_channels", out}, {"kernel", kernel}});
  g.add("output", "out", {c});
  return g;
}

Graph identity_alternative(std::int64_t channels) {
  Graph g;
  g.add("output", "out", {g.add("input", "in", {}, {{"channels", channels}})});
  return g;
}

/// A choice of three (the last holds a choice of two) between a stem and a head.
Graph choice_graph() {
  Graph nested;
  int n = nested.add("input", "in", {}, {{"channels", 3}});
  n = nested.add_choice("deep", {n}, {conv_alternative(3, 3, 1), conv_alternative(3, 3, 5)});
  nested.add("output", "out", {n});
  Graph g;
  int x = g.add("input", "image", {}, {{"channels", 2}});
  x = g.add("conv", "stem", {x}, {{"out_channels", 3}, {"kernel", 1}});
  x = g.add_choice("cell", {x}, {identity_alternative(3), conv_alternative(3, 3, 3), nested});
  x = g.add("conv", "head", {x}, {{"out_channels", 2}, {"kernel", 1}});
  g.add("output", "seg", {x});
  return g;
}

// ---- every operation of the table ----

struct TableCase {
  std::string op;
  std::size_t example = 0;
};

std::vector<TableCase> table_cases() {
  std::vector<TableCase> cases;
  for (const Operation& row : operations()) {
    for (std::size_t i = 0; i < row.examples.size(); ++i) cases.push_back({row.name, i});
  }
  return cases;
}

class EveryOperation : public testing::TestWithParam<TableCase> {
 protected:
  /// The operation of the case, fed from input nodes of 4 channels, as the node "op".
  static Graph graph() {
    const Operation& row = *find_operation(GetParam().op);
    Graph g;
    g.name = "single";
    if (row.kind == OperationKind::Input) {
      const int x = g.add("input", "op", {}, row.examples[GetParam().example]);
      g.add("output", "out", {x});
      return g;
    }
    std::vector<int> inputs;
    for (int i = 0; i < std::max(1, row.min_inputs); ++i) {
      inputs.push_back(g.add("input", "in" + std::to_string(i), {}, {{"channels", kChannels}}));
    }
    const int x = g.add(row.name, "op", inputs, row.examples[GetParam().example]);
    if (row.kind != OperationKind::Output) g.add("output", "out", {x});
    return g;
  }
};

/// Counts the positions of a window by walking over the padded axis: no formula.
std::int64_t walk_windows(std::int64_t size,
                          std::int64_t kernel,
                          std::int64_t stride,
                          std::int64_t padding,
                          std::int64_t dilation) {
  std::int64_t count = 0;
  for (std::int64_t begin = -padding; begin + dilation * (kernel - 1) < size + padding;
       begin += stride)
    ++count;
  return count;
}

/// Shapes by naive rules, written apart from the table.
TensorShape naive_shape(const Node& node, std::size_t inputs) {
  TensorShape out{kChannels, kSpace};
  const auto each_axis = [&](auto size_of) {
    for (std::size_t a = 0; a < 3; ++a) out.space[a] = size_of(a);
  };
  if (node.op == "conv") {
    const Extent3 k = attribute_extent(node, "kernel"), s = attribute_extent(node, "stride"),
                  p = attribute_extent(node, "padding"), d = attribute_extent(node, "dilation");
    out.channels = attribute_int(node, "out_channels");
    each_axis([&](std::size_t a) { return walk_windows(kSpace[a], k[a], s[a], p[a], d[a]); });
  } else if (node.op == "max_pool" || node.op == "avg_pool") {
    const Extent3 k = attribute_extent(node, "kernel"), s = attribute_extent(node, "stride"),
                  p = attribute_extent(node, "padding");
    each_axis([&](std::size_t a) { return walk_windows(kSpace[a], k[a], s[a], p[a], 1); });
  } else if (node.op == "conv_transpose") {
    const Extent3 k = attribute_extent(node, "kernel"), s = attribute_extent(node, "stride"),
                  p = attribute_extent(node, "padding");
    out.channels = attribute_int(node, "out_channels");
    each_axis([&](std::size_t a) {
      std::set<std::int64_t>
          touched;  // every result voxel that some input voxel reaches through the kernel
      for (std::int64_t i = 0; i < kSpace[a]; ++i) {
        for (std::int64_t j = 0; j < k[a]; ++j) touched.insert(i * s[a] + j);
      }
      return *touched.rbegin() + 1 - 2 * p[a];
    });
  } else if (node.op == "concat") {
    out.channels = kChannels * static_cast<std::int64_t>(inputs);
  } else if (node.op == "resize") {
    const Vec3 scale = attribute_vec3(node, "scale");
    each_axis([&](std::size_t a) {
      return static_cast<std::int64_t>(std::floor(static_cast<double>(kSpace[a]) * scale[a]));
    });
  } else if (node.op == "crop" || node.op == "pad") {
    const Extent3 b = attribute_extent(node, "begin"), e = attribute_extent(node, "end");
    const std::int64_t sign = node.op == "pad" ? 1 : -1;
    each_axis([&](std::size_t a) { return kSpace[a] + sign * (b[a] + e[a]); });
  } else if (node.op == "slice") {
    out.channels = attribute_int(node, "end") - attribute_int(node, "begin");
  }
  return out;
}

TEST_P(EveryOperation, ShapeFollowsTheNaiveRule) {
  const Graph g = graph();
  const int at = g.find("op");
  const Node& node = g.nodes[static_cast<std::size_t>(at)];
  const TensorShape shape = infer_shapes(g, kSpace)[static_cast<std::size_t>(at)];
  EXPECT_EQ(shape, naive_shape(node, node.inputs.size()));
  const std::vector<std::int64_t> channels(node.inputs.size(), kChannels);
  EXPECT_EQ(result_channels(node, channels), shape.channels);
}

TEST_P(EveryOperation, SurvivesTheJsonRoundTrip) {
  const Graph g = graph();
  validate(g);
  const Graph back = graph_from_json(parse_json(to_json(g).dump(), "test"), "test");
  EXPECT_EQ(back, g);
  EXPECT_EQ(graph_id(back), graph_id(g));
}

TEST_P(EveryOperation, ParametersAreTheElementsOfItsLearnableTensors) {
  const Graph g = graph();
  const auto at = static_cast<std::size_t>(g.find("op"));
  const Node& node = g.nodes[at];
  const std::vector<TensorShape> shapes = infer_shapes(g, kSpace);
  std::vector<TensorShape> inputs;
  for (const int i : node.inputs) inputs.push_back(shapes[static_cast<std::size_t>(i)]);
  std::int64_t parameters = 0;
  std::int64_t weight_elements = 0;
  for (const StateTensor& tensor : state_tensors(node, inputs)) {
    const std::int64_t elements = std::accumulate(
        tensor.shape.begin(), tensor.shape.end(), std::int64_t{1}, std::multiplies<>());
    if (tensor.learnable) parameters += elements;
    if (tensor.name == "weight") weight_elements = elements;
  }
  const Cost cost = node_costs(g, kSpace)[at];
  EXPECT_EQ(cost.parameters, parameters);
  EXPECT_EQ(cost.output_elements, shapes[at].elements());
  // Each weight of a convolution meets every voxel of the result once; of a transposed one, of the
  // input.
  std::int64_t macs = 0;
  if (node.op == "conv") macs = weight_elements * volume(shapes[at].space);
  if (node.op == "conv_transpose") macs = weight_elements * volume(kSpace);
  EXPECT_EQ(cost.macs, macs);
}

TEST_P(EveryOperation, DefaultsWrittenOutGiveTheSameGraph) {
  Graph g = graph();
  const auto at = static_cast<std::size_t>(g.find("op"));
  Node explicit_node = g.nodes[at];
  for (const AttributeSpec& spec : operation(explicit_node).attributes) {
    switch (spec.type) {
      case AttributeType::Integer:
        explicit_node.attributes[spec.name] = attribute_int(explicit_node, spec.name);
        break;
      case AttributeType::Real:
        explicit_node.attributes[spec.name] = attribute_real(explicit_node, spec.name);
        break;
      case AttributeType::Boolean:
        explicit_node.attributes[spec.name] = attribute_bool(explicit_node, spec.name);
        break;
      case AttributeType::Text:
        explicit_node.attributes[spec.name] = attribute_text(explicit_node, spec.name);
        break;
      case AttributeType::Integers3:
        explicit_node.attributes[spec.name] = attribute_ints(explicit_node, spec.name);
        break;
      case AttributeType::Reals3: {
        const Vec3 v = attribute_vec3(explicit_node, spec.name);
        explicit_node.attributes[spec.name] = std::vector<double>{v[0], v[1], v[2]};
        break;
      }
    }
  }
  canonicalize_attributes(explicit_node);
  EXPECT_EQ(explicit_node, g.nodes[at]);
}

TEST_P(EveryOperation, RefusesUnknownMistypedAndOutOfRangeAttributes) {
  const Graph g = graph();
  Node node = g.nodes[static_cast<std::size_t>(g.find("op"))];
  Node unknown = node;
  unknown.attributes["colour"] = std::int64_t{1};
  EXPECT_THAT(error_of([&] { canonicalize_attributes(unknown); }),
              AllOf(HasSubstr("node op"), HasSubstr("colour")));
  for (const AttributeSpec& spec : operation(node).attributes) {
    const std::vector<Attribute> wrong{std::string("no such word"),
                                       Ints{1, 2},
                                       std::int64_t{-(std::int64_t{1} << 62)},
                                       std::nan(""),
                                       std::vector<double>{1e300, 1, 1}};
    for (const Attribute& value : wrong) {
      Node bad = node;
      bad.attributes[spec.name] = value;
      EXPECT_THAT(error_of([&] { canonicalize_attributes(bad); }),
                  AllOf(HasSubstr("node op"), HasSubstr(spec.name)));
    }
  }
}

TEST_P(EveryOperation, IsDrawn) { EXPECT_THAT(to_dot(graph(), kSpace), HasSubstr("digraph")); }

INSTANTIATE_TEST_SUITE_P(Table,
                         EveryOperation,
                         testing::ValuesIn(table_cases()),
                         [](const testing::TestParamInfo<TableCase>& info) {
                           return info.param.op + "_" + std::to_string(info.param.example);
                         });

TEST(Operations, EveryRowIsComplete) {
  std::set<std::string> names;
  for (const Operation& row : operations()) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_NE(row.shape, nullptr) << row.name;
    const bool script = row.name == kScriptOp;  // needs a file of the user's
    EXPECT_EQ(row.examples.empty(), script) << row.name;
    const bool end = row.kind == OperationKind::Input || row.kind == OperationKind::Output;
    EXPECT_EQ(row.onnx.empty(), end || script) << row.name;
    EXPECT_EQ(find_operation(row.name), &row);
  }
  EXPECT_EQ(find_operation("choice"), nullptr);
}

// ---- rules and errors ----

TEST(Graph, ErrorsNameTheNodeAndTheNearestName) {
  Graph g = small_graph();
  EXPECT_THAT(error_of([&] { g.add("leaky_rely", "x", {0}); }),
              AllOf(HasSubstr("node x"), HasSubstr("leaky_relu")));
  EXPECT_THAT(error_of([&] {
                g.add("conv", "x", {0}, {{"out_channels", 3}, {"kernal", 3}});
              }),
              HasSubstr("'kernel'"));
  EXPECT_THAT(error_of([&] {
                g.add("conv", "x", {0}, {{"out_channels", 3}});
              }),
              HasSubstr("kernel is missing"));
  EXPECT_THAT(error_of([&] {
                g.add("conv", "head", {0}, {{"out_channels", 3}, {"kernel", 3}});
              }),
              HasSubstr("already taken"));
  EXPECT_THAT(error_of([&] { g.add("relu", "x", {17}); }),
              HasSubstr("input 17 is not an earlier node"));
  EXPECT_THAT(error_of([&] { g.add("add", "x", {0}); }),
              HasSubstr("expected at least 2 inputs, got 1"));
  EXPECT_THAT(error_of([&] { g.add("relu", "x y", {0}); }), HasSubstr("'x y'"));
  EXPECT_EQ(g, small_graph()) << "a refused node must leave the graph alone";
}

TEST(Graph, ShapeErrorsNameTheNodeAndBothShapes) {
  ErrorKind kind{};
  Graph g;
  const int x = g.add("input", "image", {}, {{"channels", 4}});
  const int down = g.add("max_pool", "down", {x}, {{"kernel", 2}});
  g.add("output", "out", {g.add("add", "sum", {x, down})});
  EXPECT_THAT(error_of(
                  [&] {
                    infer_shapes(g, {6, 8, 8});
                  },
                  &kind),
              AllOf(HasSubstr("node sum (add)"), HasSubstr("4x6x8x8"), HasSubstr("4x3x4x4")));
  EXPECT_EQ(kind, ErrorKind::Shape);
  g.nodes[2] = {"concat", "cat", {x, down}, {}, {}};
  EXPECT_THAT(error_of(
                  [&] {
                    infer_shapes(g, {6, 8, 8});
                  },
                  &kind),
              AllOf(HasSubstr("node cat (concat)"), HasSubstr("4x6x8x8"), HasSubstr("4x3x4x4")));
  EXPECT_THAT(error_of([&] {
                infer_shapes(g, {1, 8, 8});
              }),
              AllOf(HasSubstr("node down (max_pool)"), HasSubstr("2x2x2"), HasSubstr("4x1x8x8")));
}

TEST(Graph, CentreCropFollowsTheSecondInput) {
  Graph g;
  const int x = g.add("input", "image", {}, {{"channels", 4}});
  const int small = g.add("crop", "small", {x}, {{"begin", Ints{1, 1, 1}}, {"end", Ints{0, 2, 1}}});
  g.add("output", "out", {g.add("crop", "centre", {x, small})});
  const std::vector<TensorShape> shapes = infer_shapes(g, kSpace);
  EXPECT_EQ(shapes[2].space, shapes[1].space);
  const Margins margins = crop_margins(g.nodes[2], shapes[0].space, &shapes[1].space);
  EXPECT_EQ(margins.begin, (Extent3{0, 1, 1}));
  EXPECT_EQ(margins.end, (Extent3{1, 2, 1}));
}

TEST(Graph, ValidateFindsWhatAddCannotSee) {
  const auto broken = [](auto&& breaker) {
    Graph g = small_graph();
    breaker(g);
    return error_of([&] { validate(g); });
  };
  EXPECT_EQ(broken([](Graph&) {}), "");
  EXPECT_THAT(broken([](Graph& g) { g.nodes[2].inputs[0] = 2; }), HasSubstr("stem.norm"));
  EXPECT_THAT(broken([](Graph& g) { g.nodes[3].name = "stem.norm"; }), HasSubstr("used twice"));
  EXPECT_THAT(broken([](Graph& g) { g.nodes[3].name = "stem.norm.weight"; }),
              HasSubstr("collides"));
  EXPECT_THAT(broken([](Graph& g) { g.nodes[3].name = "stem.norm.bias.x"; }),
              HasSubstr("collides"));
  EXPECT_THAT(broken([](Graph& g) { g.nodes.pop_back(); }), HasSubstr("one output"));
  EXPECT_THAT(broken([](Graph& g) { g.nodes.clear(); }), HasSubstr("at least one input"));
  EXPECT_THAT(broken([](Graph& g) { g.add("relu", "late", {5}); }), HasSubstr("is an output"));
  EXPECT_THAT(broken([](Graph& g) { g.nodes[2].alternatives.push_back(small_graph()); }),
              HasSubstr("alternatives"));
}

TEST(Graph, HugeSizesAreErrorsNotOverflow) {
  Graph g;
  int x = g.add("input", "image", {}, {{"channels", 1}});
  for (int i = 0; i < 12; ++i) x = g.add("resize", "up" + std::to_string(i), {x}, {{"scale", 64}});
  g.add("output", "out", {x});
  ErrorKind kind{};
  EXPECT_THAT(error_of([&] { infer_shapes(g, {64, 64, 64}); }, &kind), HasSubstr("node up"));
  EXPECT_EQ(kind, ErrorKind::Shape);
  EXPECT_THAT(error_of([&] { infer_shapes(g, {1 << 30, 1, 1}); }), HasSubstr("input size"));
  EXPECT_THAT(error_of([&] { infer_shapes(g, {0, 4, 4}); }), HasSubstr("input size"));

  Graph wide;
  x = wide.add("input", "image", {}, {{"channels", 1 << 20}});
  for (int i = 0; i < 40; ++i) {
    x = wide.add(
        "conv", "c" + std::to_string(i), {x}, {{"out_channels", 1 << 20}, {"kernel", 1023}});
  }
  wide.add("output", "out", {x});
  EXPECT_THAT(error_of([&] { total_cost(wide, {64, 64, 64}); }, &kind), HasSubstr("too large"));
  EXPECT_EQ(kind, ErrorKind::Shape);
}

// ---- costs ----

TEST(Cost, OfASmallGraphByHand) {
  const std::vector<Cost> costs = node_costs(small_graph(), kSpace);
  const std::int64_t voxels = 6 * 7 * 8;
  EXPECT_EQ(costs[1].parameters, 3 * 2 * 27 + 3);
  EXPECT_EQ(costs[1].macs, voxels * 3 * 2 * 27);
  EXPECT_EQ(costs[2].parameters, 6);
  EXPECT_EQ(costs[3].parameters, 0);
  const Cost total = total_cost(small_graph(), kSpace);
  EXPECT_EQ(total.parameters, 165 + 6 + 8);
  EXPECT_EQ(total.macs, voxels * (162 + 6));
  // Kept: image (2), conv result for the norm (3), activation (3, in place), logits (2); plus
  // gradients of the two largest (2 x 3); parameters, gradients and one optimiser state in float32.
  EXPECT_EQ(training_memory_bytes(small_graph(), kSpace, 5, 2),
            voxels * (2 + 3 + 3 + 2 + 6) * 5 * 2 + 179 * 12);
  EXPECT_EQ(training_memory_bytes(small_graph(), kSpace, 5, 2, 2) -
                training_memory_bytes(small_graph(), kSpace, 5, 2),
            179 * 4);
}

TEST(Graph, FirstOutputOnlyDropsWhatOnlyOtherOutputsNeed) {
  Graph g = small_graph();
  const int extra = g.add("conv", "aux", {3}, {{"out_channels", 2}, {"kernel", 1}});
  g.add("output", "seg1", {extra});
  EXPECT_EQ(first_output_only(g), small_graph());
}

// ---- choices ----

TEST(Choices, AreCheckedCountedAndClosed) {
  const Graph open = choice_graph();
  validate(open);
  EXPECT_FALSE(open.is_closed());
  EXPECT_THAT(choice_sizes(open), ElementsAre(3, 2));
  const std::vector<TensorShape> shapes = infer_shapes(open, kSpace);
  EXPECT_EQ(shapes[2], (TensorShape{3, kSpace}));

  const Graph skip = close_choices(open, {0, 1});
  EXPECT_TRUE(skip.is_closed());
  EXPECT_EQ(skip.nodes.size(), 4u);
  const Graph conv = close_choices(open, {1, 0});
  ASSERT_GE(conv.find("cell.alt1.conv"), 0);
  const Graph deep = close_choices(open, {2, 1});
  ASSERT_GE(deep.find("cell.alt2.deep.alt1.conv"), 0);
  EXPECT_EQ(
      attribute_extent(deep.nodes[static_cast<std::size_t>(deep.find("cell.alt2.deep.alt1.conv"))],
                       "kernel"),
      (Extent3{5, 5, 5}));

  // Parameters of an open choice are those of all alternatives, MACs those of the largest.
  const std::int64_t voxels = volume(kSpace);
  const Cost cost = node_costs(open, kSpace)[2];
  EXPECT_EQ(cost.parameters, (81 * 3 + 3) + (9 + 3) + (125 * 9 + 3));
  EXPECT_EQ(cost.macs, voxels * 9 * 125);
  EXPECT_GE(training_memory_bytes(open, kSpace, 1, 4), training_memory_bytes(deep, kSpace, 1, 4));

  EXPECT_THAT(error_of([&] { close_choices(open, {0}); }), HasSubstr("expected 2 picks, got 1"));
  EXPECT_THAT(error_of([&] {
                close_choices(open, {3, 0});
              }),
              HasSubstr("pick 0 must be in [0, 3), got 3"));
  EXPECT_EQ(graph_from_json(to_json(open), "test"), open);
  EXPECT_THAT(to_dot(open, kSpace), HasSubstr("choice of 3"));
}

TEST(Choices, AlternativesMustAgree) {
  Graph g;
  const int x = g.add("input", "image", {}, {{"channels", 3}});
  EXPECT_THAT(error_of([&] {
                g.add_choice("cell", {x, x}, {identity_alternative(3)});
              }),
              AllOf(HasSubstr("node cell"), HasSubstr("expected 2 input nodes")));
  EXPECT_THAT(error_of([&] { g.add_choice("cell", {x}, {}); }), HasSubstr("no alternatives"));
  const int c = g.add_choice("cell", {x}, {conv_alternative(3, 3, 1), conv_alternative(3, 5, 1)});
  g.add("output", "out", {c});
  EXPECT_THAT(error_of([&] { infer_shapes(g, kSpace); }),
              AllOf(HasSubstr("node cell"), HasSubstr("5x6x7x8"), HasSubstr("3x6x7x8")));
  g.nodes[1].alternatives = {conv_alternative(2, 3, 1)};
  EXPECT_THAT(error_of([&] { infer_shapes(g, kSpace); }),
              AllOf(HasSubstr("node cell (choice), alternative 0"),
                    HasSubstr("expects 2 channels, got 3x6x7x8")));
  Graph nest = identity_alternative(3);
  for (int depth = 0; depth < 12; ++depth) {
    Graph outer;
    const int in = outer.add("input", "in", {}, {{"channels", 3}});
    outer.nodes.push_back({"choice", "c", {in}, {}, {nest}});
    outer.add("output", "out", {1});
    nest = outer;
  }
  EXPECT_THAT(error_of([&] { validate(nest); }), HasSubstr("nested deeper"));
  EXPECT_THAT(error_of([&] { graph_from_json(to_json(nest), "test"); }),
              HasSubstr("nested deeper"));
}

// ---- identity and JSON ----

TEST(GraphJson, IdsAreStableAcrossMachinesAndReleases) {
  // A change here orphans every results database: bump the format version instead.
  EXPECT_EQ(graph_id(small_graph()), "0d5c5f9bebba8bb7");
  EXPECT_EQ(graph_id(choice_graph()), "88d102d058235eca");
  Graph renamed = small_graph();
  renamed.name = "other";
  EXPECT_EQ(graph_id(renamed), graph_id(small_graph()));
  renamed.nodes[3].attributes["slope"] = 0.1000000001;
  EXPECT_NE(graph_id(renamed), graph_id(small_graph()));
}

TEST(GraphJson, KeepsDoublesExactly) {
  Rng rng("graph-doubles");
  for (int i = 0; i < 500; ++i) {
    Graph g = small_graph();
    g.nodes[3].attributes["slope"] =
        std::ldexp(rng.uniform(), static_cast<int>(rng.integer(-60, 20)));
    EXPECT_EQ(graph_from_json(parse_json(to_json(g).dump(), "t"), "t"), g);
  }
}

TEST(GraphJson, WritesAndReadsFiles) {
  const test::TempFolder folder;
  const std::string file = (folder / "network.json").string();
  write_graph(file, choice_graph());
  EXPECT_EQ(read_graph(file), choice_graph());
  EXPECT_THAT(error_of([&] { read_graph((folder / "absent.json").string()); }),
              HasSubstr("absent.json"));
}

TEST(GraphJson, ErrorsNameThePathInTheFile) {
  const auto broken = [](auto&& breaker) {
    Json json = to_json(small_graph());
    breaker(json);
    return error_of([&] { graph_from_json(json, "net.json"); });
  };
  EXPECT_THAT(broken([](Json& j) { j["nodes"][1]["inputs"] = {7}; }), HasSubstr("input 7"));
  EXPECT_THAT(broken([](Json& j) { j["nodes"][1]["inputs"] = {-1}; }),
              HasSubstr("net.json.nodes[1].inputs"));
  EXPECT_THAT(broken([](Json& j) { j["nodes"][1]["op"] = 3; }), HasSubstr("net.json.nodes[1].op"));
  EXPECT_THAT(broken([](Json& j) {
                j["nodes"][1]["attributes"]["kernel"] = {3, 3};
              }),
              AllOf(HasSubstr("net.json.nodes[1]"), HasSubstr("kernel")));
  EXPECT_THAT(broken([](Json& j) {
                j["nodes"][1]["attributes"]["kernel"] = {3, "x", 3};
              }),
              HasSubstr("net.json.nodes[1].attributes.kernel"));
  EXPECT_THAT(broken([](Json& j) { j["nodes"][1]["attributes"]["out_channels"] = 1e300; }),
              HasSubstr("out_channels"));
  EXPECT_THAT(
      broken([](Json& j) { j["nodes"][1]["attributes"]["out_channels"] = 18446744073709551615u; }),
      HasSubstr("out_channels"));
  EXPECT_THAT(broken([](Json& j) { j["nodes"][1].erase("name"); }),
              HasSubstr("\"name\" is missing"));
  EXPECT_THAT(broken([](Json& j) { j["nodes"][1]["colour"] = 1; }), HasSubstr("colour"));
  EXPECT_THAT(broken([](Json& j) { j["version"] = 2; }), HasSubstr("version"));
  EXPECT_THAT(broken([](Json& j) { j["format"] = "onnx"; }), HasSubstr("voxnas.graph"));
  EXPECT_THAT(broken([](Json& j) { j = Json::array(); }), HasSubstr("expected a graph"));
  EXPECT_THAT(broken([](Json& j) { j["nodes"] = 5; }), HasSubstr("net.json.nodes"));
}

/// Runs everything that a foreign graph goes through; anything but nas::Error is a failure.
void swallow(const std::string& text) {
  try {
    const Graph g = graph_from_json(parse_json(text, "fuzz"), "fuzz");
    graph_id(g);
    node_costs(g, {16, 16, 16});
    training_memory_bytes(g, {16, 16, 16}, 2, 2);
    first_output_only(g);
    to_dot(g, {16, 16, 16});
  } catch (const Error&) {
  }
}

TEST(GraphJson, DamagedTextNeverDoesMoreThanThrowAnError) {
  const std::string text = to_json(choice_graph()).dump();
  for (std::size_t cut = 0; cut < text.size(); cut += 3) swallow(text.substr(0, cut));
  Rng rng("graph-fuzz");
  const std::string tokens[] = {
      "-1", "99999999999999999999", "1e309", "null", "[]", "{}", "\"\"", "1048576", "0"};
  for (int i = 0; i < 6000; ++i) {
    std::string bad = text;
    for (std::int64_t k = rng.integer(1, 4); k > 0; --k) {
      const auto at =
          static_cast<std::size_t>(rng.integer(0, static_cast<std::int64_t>(bad.size())));
      if (rng.chance(0.5)) {
        bad[at] = static_cast<char>(bad[at] ^ (1 << rng.integer(0, 8)));
      } else {
        bad.replace(at, static_cast<std::size_t>(rng.integer(0, 4)), tokens[rng.integer(0, 9)]);
      }
    }
    ASSERT_NO_FATAL_FAILURE(swallow(bad));
  }
  // Still JSON, but with other values: reaches deeper than broken text.
  const Json whole = to_json(choice_graph());
  const Json flat = whole.flatten();
  std::vector<std::string> keys;
  for (const auto& [key, value] : flat.items()) keys.push_back(key);
  const Json values[] = {-1,
                         0,
                         1,
                         2,
                         7,
                         1 << 20,
                         std::int64_t{1} << 62,
                         1e18,
                         0.5,
                         "conv",
                         "choice",
                         "input",
                         "out",
                         nullptr,
                         true,
                         Json::array(),
                         Json::object(),
                         Json::array({1, 2, 3})};
  for (int i = 0; i < 6000; ++i) {
    Json bad = whole;
    for (std::int64_t k = rng.integer(1, 4); k > 0; --k) {
      const std::string& key =
          keys[static_cast<std::size_t>(rng.integer(0, static_cast<std::int64_t>(keys.size())))];
      try {
        bad[Json::json_pointer(key)] = values[rng.integer(0, 18)];
      } catch (const Json::exception&) {  // an earlier change removed the path
      }
    }
    ASSERT_NO_FATAL_FAILURE(swallow(bad.dump()));
  }
  swallow(std::string(100'000, '['));
  swallow(std::string(100'000, '{'));
}

// ---- drawing ----

TEST(Drawing, FusesConvolutionNormAndActivation) {
  const std::string dot = to_dot(small_graph(), kSpace);
  EXPECT_THAT(dot, HasSubstr("instance norm + leaky relu"));
  EXPECT_THAT(dot, HasSubstr("3 · 6×7×8"));
  std::size_t boxes = 0;
  for (std::size_t at = dot.find(" [label=<"); at != std::string::npos;
       at = dot.find(" [label=<", at + 1))
    ++boxes;
  EXPECT_EQ(boxes, 4u);  // image, stem, head, seg
}

/// Puts a program named dot, a shell script, first in PATH for the life of the object.
class FakeDot {
 public:
  FakeDot(const std::filesystem::path& folder, const std::string& script) {
    const std::filesystem::path file = folder / "dot";
    std::ofstream(file) << "#!/bin/sh\n" << script << "\n";
    std::filesystem::permissions(file, std::filesystem::perms::owner_all);
    ::setenv("PATH", (folder.string() + ":" + before_).c_str(), 1);
  }
  FakeDot(const FakeDot&) = delete;
  FakeDot& operator=(const FakeDot&) = delete;
  ~FakeDot() { ::setenv("PATH", before_.c_str(), 1); }

 private:
  std::string before_ = std::getenv("PATH");
};

TEST(Drawing, StopsADotThatTakesTooLong) {
  const test::TempFolder folder;
  const FakeDot dot(folder.path(), "exec sleep 100");
  const std::string error =
      error_of([&] { write_drawing(choice_graph(), kSpace, folder / "net.svg", 0.1); });
  EXPECT_THAT(error, AllOf(HasSubstr("net.svg"), HasSubstr("took longer")));
  EXPECT_FALSE(std::filesystem::exists(folder / "net.svg"));
}

TEST(Drawing, APathThatBeginsWithADashIsNoOption) {
  const test::TempFolder folder;
  // Fails on an option that dot does not know; else writes what it was given as the output.
  const FakeDot dot(
      folder.path(),
      "case \"$3$4\" in -*) exit 1;; esac\ncase \"$4\" in -*) exit 1;; esac\necho drawn > \"$3\"");
  const std::filesystem::path before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  const std::string error =
      error_of([&] { write_drawing(choice_graph(), kSpace, "-Kneato/net.svg"); });
  std::filesystem::current_path(before);
  EXPECT_EQ(error, "");
  EXPECT_TRUE(std::filesystem::exists(folder / "-Kneato" / "net.svg"));
}

TEST(Drawing, WritesAnSvgOrSaysWhatIsMissing) {
  const test::TempFolder folder;
  const std::filesystem::path file = folder / "net.svg";
  const std::string error = error_of([&] { write_drawing(choice_graph(), kSpace, file); });
  if (error.find("not installed") != std::string::npos) GTEST_SKIP() << error;
  ASSERT_EQ(error, "");
  EXPECT_THAT(read_file(file, 1 << 20), HasSubstr("<svg"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1)
      << "no leftovers";
  EXPECT_THAT(error_of([&] { write_drawing(choice_graph(), kSpace, folder / "net.doc"); }),
              HasSubstr(".svg"));
  // Errors call the file by its name, not by that of a temporary one.
  for (const std::filesystem::path& bad :
       {file / "net.svg", std::filesystem::path("/proc/net.svg")}) {
    EXPECT_THAT(error_of([&] { write_drawing(choice_graph(), kSpace, bad); }),
                AllOf(HasSubstr(bad.parent_path().string()), Not(HasSubstr(".tmp-"))));
  }
}

}  // namespace
}  // namespace nas
