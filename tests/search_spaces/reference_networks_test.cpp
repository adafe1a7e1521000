// SPDX-License-Identifier: Apache-2.0
// Sizes of the reference networks against the figures of their sources. shared/facts/networks.md is
// "facts" below; "C" there means counted by a script without this code.
#include "search_spaces/reference_networks/reference_networks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/network/output_region.h"
#include "nas/network/summary.h"
#include "search_spaces/network_file.h"
#include "tests/support/support.h"

namespace nas {
namespace {

using test::error_of;
using testing::HasSubstr;

Graph make(const std::string& name, const NetworkIo& io) {
  return find_reference_network(name)->make(io);
}

/// Parameters, and multiply-adds without the deep-supervision heads.
Cost size_of(const std::string& name, const NetworkIo& io) {
  const Graph graph = make(name, io);
  Cost cost = total_cost(graph, io.patch);
  cost.macs = total_cost(first_output_only(graph), io.patch).macs;
  return cost;
}

constexpr Extent3 kCube{96, 96, 96};

struct CountedSize {
  const char* name;
  NetworkIo io;
  double parameters, digit;  // in the units and to the digit that the source prints
  double gmacs;
  const char* source;
  friend std::ostream& operator<<(std::ostream& out, const CountedSize& row) {
    return out << row.name << " of " << row.source;
  }
};

class CountedSizes : public testing::TestWithParam<CountedSize> {};

TEST_P(CountedSizes, AreTheSources) {
  const CountedSize& row = GetParam();
  const Cost cost = size_of(row.name, row.io);
  const double parameters = static_cast<double>(cost.parameters) / 1e6;
  // Sources round or cut off.
  EXPECT_GT(parameters, row.parameters - row.digit / 2) << row.source;
  EXPECT_LT(parameters, row.parameters + row.digit) << row.source;
  EXPECT_NEAR(static_cast<double>(cost.macs) / 1e9, row.gmacs, 0.01 * row.gmacs) << row.source;
}

INSTANTIATE_TEST_SUITE_P(
    Facts,
    CountedSizes,
    testing::Values(
        CountedSize{"unet3d", {4, 4, kCube}, 16.321, 0.001, 801.33, "facts 3, table"},
        CountedSize{"unet3d", {1, 2, kCube}, 16.318, 0.001, 798.92, "facts 3, variants"},
        CountedSize{"unet3d-deconv", {1, 2, kCube}, 19.070, 0.001, 824.29, "facts 3, variants"},
        CountedSize{"v-net", {4, 4, kCube}, 45.61, 0.01, 321.01, "slides; MACs facts 3"},
        CountedSize{"v-net", {1, 2, kCube}, 45.60, 0.01, 308.61, "facts 3, variants"},
        CountedSize{"v-net", {4, 2, kCube}, 45.60, 0.01, 313.92, "facts 3, variants"},
        CountedSize{"ah-net", {4, 4, kCube}, 27.11, 0.01, 28.79, "slides; MACs facts 3"},
        CountedSize{"ah-net", {1, 1, kCube}, 27.08, 0.01, 22.16, "facts 3, variants"},
        CountedSize{"attention-unet", {1, 3, kCube}, 103.88, 0.01, 1162.75, "C2FNAS, facts 2.3"},
        CountedSize{"dints", {1, 3, kCube}, 152.36, 0.01, 334.4, "facts 4.4"}),
    [](const testing::TestParamInfo<CountedSize>& row) {
      std::string text = row.param.name;
      std::ranges::replace(text, '-', '_');
      return text + "_" + std::to_string(row.param.io.in_channels) + "_" +
             std::to_string(row.param.io.classes);
    });

TEST(ReferenceNetworks, SizesEqualMonais) {
  NAS_SHARED_OR_SKIP(path, "oracles/other_networks.json");
  const std::map<std::string, std::pair<std::string, std::int64_t>> ours{
      {"monai.AHNet trilinear", {"ah-net", 4}},
      {"monai.BasicUNet (32,64,128,256,512,32)", {"basic-unet", 1}},
      {"monai.VNet", {"v-net", 4}}};
  const Json rows = read_json(path);
  ASSERT_EQ(rows.size(), ours.size());
  for (const Json& row : rows) {
    const auto& [name, classes] = ours.at(row["name"].get<std::string>());
    const auto input = row["input"].get<std::vector<std::int64_t>>();
    // MONAI's last axis is our first; only AH-Net tells them apart.
    const NetworkIo io{input[1], classes, {input[4], input[3], input[2]}};
    const Cost cost = size_of(name, io);
    EXPECT_EQ(cost.parameters, row["parameters"].get<std::int64_t>()) << name;
    const auto macs = row["macs"].get<double>();
    EXPECT_NEAR(static_cast<double>(cost.macs), macs, name == "ah-net" ? 0.01 * macs : 0) << name;
  }
}

TEST(ReferenceNetworks, NnUnetEqualsItsOracle) {
  NAS_SHARED_OR_SKIP(path, "oracles/unet_sizes.json");
  int found = 0;
  for (const Json& row : read_json(path)) {
    if (row["kind"] != "plain" || row["features"] != Json{32, 64, 128, 256, 320, 320}) continue;
    const Cost cost = size_of("nnunet", {row["in_channels"], row["classes"], {64, 64, 64}});
    EXPECT_EQ(cost.parameters, row["parameters"].get<std::int64_t>());
    EXPECT_EQ(cost.macs, row["macs_eval"].get<std::int64_t>());
    ++found;
  }
  EXPECT_EQ(found, 2);
}

TEST(ReferenceNetworks, PublishedSizesHoldWhereTheySaySo) {
  for (const ReferenceNetwork& row : reference_networks()) {
    for (const PublishedSize& size : row.published) {
      SCOPED_TRACE(row.name + ": " + size.source);
      const Cost cost = size_of(row.name, {size.input.channels, size.classes, size.input.space});
      const double parameters = static_cast<double>(cost.parameters);
      const bool same = parameters > size.parameters - 0.005e6 &&
                        parameters < size.parameters + 0.01e6 &&
                        std::abs(static_cast<double>(cost.macs) / size.macs - 1) < 0.03;
      EXPECT_EQ(same, size.reproducible) << parameters << " parameters, " << cost.macs << " MACs";
      EXPECT_EQ(size.note.empty(), size.reproducible);
    }
  }
}

TEST(ReferenceNetworks, EveryRowBuildsForAnyChannelsAndClasses) {
  for (const ReferenceNetwork& row : reference_networks()) {
    SCOPED_TRACE(row.name);
    EXPECT_FALSE(row.title.empty());
    EXPECT_FALSE(row.source.empty());
    for (const std::int64_t channels : {1, 3}) {
      NetworkIo io = row.defaults;
      io.in_channels = channels;
      io.classes = 5;
      const Graph graph = row.make(io);
      validate(graph);
      const auto shapes = infer_shapes(graph, io.patch);
      for (const int output : graph.output_nodes()) {
        EXPECT_EQ(shapes[static_cast<std::size_t>(output)].channels, 5);
      }
      EXPECT_NO_THROW(output_region(graph, io.patch));
    }
  }
}

// DiNTS.

Json code_json(const DintsCode& code) {
  return {{"arch_code_a", code.paths}, {"arch_code_c", code.operations}, {"node_a", code.nodes}};
}

TEST(DintsCodes, RoundTripThroughJsonAndCountAsTheSourceSays) {
  const DintsCode code = published_dints_code();
  EXPECT_EQ(dints_code_from_json(code_json(code), "code.json"), code);
  // Facts 4.4: 97 active paths; skip 24, 3x3x3 33, the three pseudo-3D ones 14, 12 and 14.
  std::map<int, int> counts;
  int active = 0;
  for (std::size_t b = 0; b < code.paths.size(); ++b) {
    for (std::size_t p = 0; p < code.paths[b].size(); ++p) {
      if (code.paths[b][p] == 0) continue;
      ++active;
      ++counts[code.operations[b][p]];
    }
  }
  EXPECT_EQ(active, 97);
  EXPECT_EQ(counts, (std::map<int, int>{{0, 24}, {1, 33}, {2, 14}, {3, 12}, {4, 14}}));
}

TEST(DintsCodes, BuildThroughAFile) {
  const test::TempFolder folder;
  const std::string file = (folder / "arch_code.json").string();
  Json json = code_json(published_dints_code());
  for (Json& row : json["arch_code_a"]) {
    for (Json& value : row) value = value.get<double>();  // as arrays are often dumped
  }
  write_json(file, json);
  const NetworkFile loaded = load_network(file, {.channels = 2, .classes = 4});
  EXPECT_EQ(loaded.graph, make("dints", {2, 4, kCube}));
  json["node_a"][3][2] = 0;
  write_json(file, json);
  EXPECT_THAT(error_of([&] { load_network(file); }), HasSubstr("node_a"));
}

TEST(DintsCodes, RefuseWhatDoesNotFitTogether) {
  const Json good = code_json(published_dints_code());
  const auto refused = [&](const std::function<void(Json&)>& damage) {
    Json bad = good;
    damage(bad);
    return error_of([&] { make_dints({}, dints_code_from_json(bad, "code.json")); });
  };
  EXPECT_EQ(refused([](Json&) {}), "");
  EXPECT_THAT(refused([](Json& j) { j["arch_code_c"][2][1] = 5; }), HasSubstr("from 0 to 4"));
  EXPECT_THAT(refused([](Json& j) { j["arch_code_a"][2].erase(0); }), HasSubstr("expected 10"));
  EXPECT_THAT(refused([](Json& j) { j["arch_code_a"].erase(0); }), HasSubstr("one more"));
  EXPECT_THAT(refused([](Json& j) { j["node_a"][0][0] = 0; }), HasSubstr("not active"));
  EXPECT_THAT(refused([](Json& j) { j.erase("node_a"); }), HasSubstr("node_a"));
  EXPECT_THAT(refused([](Json& j) { j["node_b"] = 1; }), HasSubstr("did you mean"));
}

// Patches.

TEST(OutputRegions, WholePatchOrItsMiddle) {
  const Graph unet = make("basic-unet-16", {1, 2, kCube});
  EXPECT_EQ(output_region(unet, {32, 48, 16}), (OutputRegion{{0, 0, 0}, {32, 48, 16}}));
  const Graph valid = make("deepmedic", {1, 2, {69, 69, 69}});
  EXPECT_EQ(output_region(valid, {69, 72, 51}), (OutputRegion{{24, 24, 24}, {21, 24, 3}}));
  EXPECT_THAT(error_of([&] { output_region(valid, {48, 69, 69}); }), HasSubstr("does not fit"));
  EXPECT_THAT(error_of([&] { output_region(valid, {70, 69, 69}); }), HasSubstr("join"));

  Graph half;
  int x = half.add("input", "x", {}, {{"channels", 1}});
  x = half.add("max_pool", "pool", {x}, {{"kernel", 2}});
  half.add("output", "y", {x});
  EXPECT_THAT(error_of([&] {
                output_region(half, {8, 8, 8});
              }),
              HasSubstr("the resolution of the input"));
}

TEST(OutputRegions, FittingPatchesCoverWhatIsWantedAndNoMore) {
  const auto fitted = [](const char* name, const Extent3& wanted) {
    return fitting_patch(make(name, {1, 2, {128, 128, 128}}), wanted);
  };
  EXPECT_EQ(fitted("unet3d", {40, 56, 40}), (Extent3{40, 56, 40}));
  EXPECT_EQ(fitted("v-net", {40, 56, 40}), (Extent3{48, 64, 48}));
  EXPECT_EQ(fitted("v-net", {20, 64, 40}), (Extent3{32, 64, 48}));
  EXPECT_EQ(fitted("dints", {40, 56, 40}), (Extent3{48, 64, 48}));
  EXPECT_EQ(fitted("deepmedic", {21, 21, 21}), (Extent3{69, 69, 69}));
  EXPECT_EQ(fitted("deepmedic", {40, 56, 40}), (Extent3{90, 105, 90}));
}

// Names.

TEST(NetworkNames, AnswerToChannelsClassesAndNearMisses) {
  const NetworkFile loaded = load_network("v-net", {.channels = 4, .classes = 3});
  EXPECT_EQ(loaded.graph, make("v-net", {4, 3, kCube}));
  EXPECT_EQ(loaded.patch, kCube);
  EXPECT_EQ(load_network("unet3d").graph, make("unet3d", {4, 4, kCube}));
  EXPECT_THAT(error_of([] { load_network("v-nett"); }), HasSubstr("did you mean 'v-net'"));
  EXPECT_THAT(error_of([] { load_network("v-net", {.genotype = "features=4"}); }),
              HasSubstr("needs a plan"));
}

TEST(NetworkNames, FinishedNetworksAreAdaptedOnlyWhenAsked) {
  const test::TempFolder folder;
  const std::string file = (folder / "network.json").string();
  for (const char* name : {"basic-unet-16", "attention-unet", "voxresnet", "nnunet"}) {
    write_graph(file, make(name, {1, 2, kCube}));
    EXPECT_THAT(error_of([&] { load_network(file, {.channels = 2, .classes = 2}); }),
                HasSubstr("reads 1 channels"));
    const NetworkFile adapted = load_network(file, {.channels = 2, .classes = 4, .adapt = true});
    EXPECT_TRUE(adapted.adapted);
    EXPECT_EQ(adapted.graph, make(name, {2, 4, kCube})) << name;
    EXPECT_FALSE(load_network(file, {.channels = 1, .classes = 2, .adapt = true}).adapted);
  }
  Graph odd;
  const int x = odd.add("input", "x", {}, {{"channels", 2}});
  odd.add("output", "y", {odd.add("sigmoid", "s", {x})});
  EXPECT_THAT(error_of([&] { adapt_network(odd, 2, 3); }), HasSubstr("expected a convolution"));
}

}  // namespace
}  // namespace nas
