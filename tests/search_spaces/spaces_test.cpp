// SPDX-License-Identifier: Apache-2.0
// nnU-Net's U-Nets as graphs against its own sizes and names; plans as JSON; what every search
// space must keep.
#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/network/graph.h"
#include "nas/network/operations.h"
#include "nas/network/safetensors.h"
#include "nas/network/summary.h"
#include "search_spaces/alternatives.h"
#include "search_spaces/c2fnas/c2fnas.h"
#include "search_spaces/c2fnas/c2fnas_space.h"
#include "search_spaces/network_file.h"
#include "search_spaces/planned_unet/plan.h"
#include "search_spaces/planned_unet/unet.h"
#include "search_spaces/planned_unet/unet_space.h"
#include "search_spaces/spaces.h"
#include "search_spaces/vnas/vnas.h"
#include "search_spaces/vnas/vnas_space.h"
#include "tests/support/support.h"

namespace nas {
namespace {

using test::error_of;
using testing::ElementsAre;
using testing::HasSubstr;

std::vector<Extent3> extents(const Json& list) { return list.get<std::vector<Extent3>>(); }

/// State-dict names and shapes of a closed graph.
std::map<std::string, std::vector<std::int64_t>> state_of(const Graph& graph,
                                                          const Extent3& space) {
  const std::vector<TensorShape> shapes = infer_shapes(graph, space);
  std::map<std::string, std::vector<std::int64_t>> state;
  for (const Node& node : graph.nodes) {
    std::vector<TensorShape> inputs;
    for (const int i : node.inputs) inputs.push_back(shapes[static_cast<std::size_t>(i)]);
    for (const StateTensor& tensor : state_tensors(node, inputs))
      state[node.name + "." + tensor.name] = tensor.shape;
  }
  return state;
}

TEST(Unet, ArchitectureIsReadBackFromTheGraph) {
  for (const bool residual : {false, true}) {
    for (const bool deep : {false, true}) {
      const UnetArchitecture a{.residual = residual,
                               .in_channels = 2,
                               .classes = 4,
                               .features = {4, 8, 12},
                               .strides = {{1, 1, 1}, {1, 2, 2}, {2, 2, 2}},
                               .kernels = {{1, 3, 3}, {3, 3, 3}, {3, 3, 3}},
                               .blocks = {1, 3, 2},
                               .decoder_convs = {2, 1},
                               .deep_supervision = deep};
      const Graph graph = make_unet(a);
      EXPECT_EQ(unet_architecture(graph), a);
      UnetArchitecture plain = a;
      plain.deep_supervision = false;
      EXPECT_EQ(unet_architecture(first_output_only(graph)), plain);

      Graph other = graph;
      other.nodes[static_cast<std::size_t>(graph.find("decoder.transpconvs.1"))]
          .attributes["bias"] = false;
      EXPECT_THAT(error_of([&] { unet_architecture(other); }), HasSubstr("decoder.transpconvs.1"));
    }
  }
  Graph graph;
  graph.name = "other";
  const int image = graph.add("input", "image", {}, {{"channels", std::int64_t{1}}});
  graph.add("output", "seg0", {image});
  EXPECT_THAT(error_of([&] { unet_architecture(graph); }), HasSubstr("other: not a planned U-Net"));
}

TEST(Unet, ParametersAndMacsEqualNnUnetsForEveryRow) {
  NAS_SHARED_OR_SKIP(path, "oracles/unet_sizes.json");
  const Json rows = read_json(path);
  ASSERT_GE(rows.size(), 16u);
  for (const Json& row : rows) {
    UnetArchitecture a;
    a.residual = row["kind"] == "residual";
    a.in_channels = row["in_channels"];
    a.classes = row["classes"];
    a.features = row["features"].get<std::vector<std::int64_t>>();
    a.strides = extents(row["strides"]);
    a.kernels = extents(row["kernels"]);
    a.blocks = row["per_stage"].get<std::vector<std::int64_t>>();
    a.decoder_convs = row["decoder"].get<std::vector<std::int64_t>>();
    a.deep_supervision = row["deep_supervision"];
    const auto input = row["input"].get<std::vector<std::int64_t>>();
    const Extent3 space{input[2], input[3], input[4]};
    const Graph graph = make_unet(a);
    validate(graph);
    EXPECT_EQ(total_cost(graph, space).parameters, row["parameters"].get<std::int64_t>())
        << row.dump();
    EXPECT_EQ(total_cost(first_output_only(graph), space).macs,
              row["macs_eval"].get<std::int64_t>())
        << row.dump();
    EXPECT_EQ(graph.output_nodes().size(), a.features.size() - 1);
    a.deep_supervision = false;
    EXPECT_EQ(first_output_only(graph), make_unet(a));
  }
}

class ForwardOracle : public testing::TestWithParam<bool> {};

TEST_P(ForwardOracle, StateDictNamesAndShapesAreNnUnets) {
  NAS_SHARED_OR_SKIP(path,
                     GetParam() ? "oracles/residual_unet_forward.safetensors"
                                : "oracles/plain_unet_forward.safetensors");
  const SafetensorsFile file(path);
  UnetArchitecture a;
  a.residual = GetParam();
  a.in_channels = 2;
  a.classes = 3;
  a.features = {4, 8, 16};
  a.strides = {{1, 1, 1}, {1, 2, 2}, {2, 2, 2}};
  a.kernels = {{1, 3, 3}, {3, 3, 3}, {3, 3, 3}};
  a.blocks = GetParam() ? std::vector<std::int64_t>{1, 2, 2} : std::vector<std::int64_t>{2, 2, 2};
  a.decoder_convs = {1, 1};
  std::map<std::string, std::vector<std::int64_t>> expected;
  for (const auto& [name, tensor] : file.tensors()) {
    // nnU-Net's decoder holds the encoder once more under its own name.
    if (name.starts_with("weight.") && !name.starts_with("weight.decoder.encoder."))
      expected[name.substr(7)] = tensor.shape;
  }
  EXPECT_EQ(state_of(make_unet(a), {12, 24, 24}), expected);
  const Graph graph = make_unet(a);
  const std::vector<TensorShape> shapes = infer_shapes(graph, {12, 24, 24});
  for (std::size_t i = 0; i < 2; ++i) {
    const std::vector<std::int64_t>& shape = file.at("output." + std::to_string(i)).shape;
    EXPECT_EQ(shapes[static_cast<std::size_t>(graph.output_nodes()[i])],
              (TensorShape{shape[1], {shape[2], shape[3], shape[4]}}));
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds,
                         ForwardOracle,
                         testing::Bool(),
                         [](const testing::TestParamInfo<bool>& info) {
                           return info.param ? "Residual" : "Plain";
                         });

TEST(Unet, RefusesListsThatDoNotFitAndPatchesThatDoNotDivide) {
  UnetArchitecture a =
      UnetSpace(configuration_from_json(example_description("unet")["configuration"], "x"))
          .planned()
          .architecture;
  const Graph graph = make_unet(a);
  EXPECT_THAT(error_of([&] {
                infer_shapes(graph, {15, 32, 32});
              }),
              HasSubstr("decoder.stages.0.concat"));
  a.kernels.pop_back();
  EXPECT_THAT(error_of([&] { make_unet(a); }), HasSubstr("kernels"));
}

// ---- plans ----

Plan example_plan() {
  Plan plan;
  plan.dataset_name = "Dataset004_\"Hippo\"";
  plan.planner = "default";
  plan.gpu_memory_gb = 8.1;
  plan.transpose_forward = {1, 0, 2};
  plan.transpose_backward = {1, 0, 2};
  plan.original_median_spacing = {1.0 / 3, 1, 0.1};
  plan.original_median_shape = {35.5, 50, 36};
  plan.intensity = {{1.25, 2, 0.1, -1e-300, 1e300, 0.2, 0.30000000000000004}};
  plan.configurations.push_back(
      configuration_from_json(example_description("unet")["configuration"], "example"));
  plan.configurations.push_back(plan.configurations[0]);
  plan.configurations[1].name = "3d_lowres";
  plan.configurations[1].spacing = {1.0300000000000002, 2, 3};
  plan.configurations[1].next_stage = "3d_cascade_fullres";
  plan.configurations[1].architecture.residual = true;
  plan.configurations[1].use_mask_for_norm = {true};
  return plan;
}

TEST(PlanJson, RoundTripIsExact) {
  const Plan plan = example_plan();
  EXPECT_EQ(plan_from_json(parse_json(to_json(plan).dump(), "t"), "t"), plan);
  EXPECT_EQ(plan.configuration("3d_lowres").name, "3d_lowres");
  ErrorKind kind{};
  EXPECT_THAT(error_of([&] { plan.configuration("2d"); }, &kind),
              HasSubstr("3d_fullres, 3d_lowres"));
  EXPECT_EQ(kind, ErrorKind::Usage);
}

TEST(PlanJson, ErrorsNameTheKey) {
  const auto broken = [](auto&& breaker) {
    Json json = to_json(example_plan());
    breaker(json);
    return error_of([&] { plan_from_json(json, "plan.json"); });
  };
  EXPECT_THAT(broken([](Json& j) {
                j["configurations"][1]["patch"] = {1, 2};
              }),
              HasSubstr("plan.json.configurations[1]: patch"));
  EXPECT_THAT(broken([](Json& j) {
                j["transpose_forward"] = {0, 0, 2};
              }),
              HasSubstr("transpose_forward"));
  EXPECT_THAT(broken([](Json& j) { j["configurations"][0]["architecture"]["kind"] = "odd"; }),
              HasSubstr("kind"));
  EXPECT_THAT(broken([](Json& j) { j["configurations"][0]["architecture"]["features"][0] = -4; }),
              HasSubstr("features"));
  EXPECT_THAT(broken([](Json& j) { j["configurations"] = Json::array(); }),
              HasSubstr("configurations"));
  EXPECT_THAT(broken([](Json& j) { j["colour"] = 1; }), HasSubstr("colour"));
}

TEST(PlanJson, DamagedValuesNeverDoMoreThanThrowAnError) {
  const Json whole = to_json(example_plan());
  std::vector<std::string> keys;
  const Json flat = whole.flatten();
  for (const auto& [key, value] : flat.items()) keys.push_back(key);
  const Json values[] = {-1,
                         0,
                         1,
                         1 << 20,
                         std::int64_t{1} << 62,
                         0.5,
                         "x",
                         nullptr,
                         true,
                         Json::array(),
                         Json::object()};
  Rng rng("plan-fuzz");
  for (int i = 0; i < 3000; ++i) {
    Json bad = whole;
    for (int k = 0; k < 2; ++k) {
      const std::string& key =
          keys[static_cast<std::size_t>(rng.integer(0, static_cast<std::int64_t>(keys.size())))];
      try {
        bad[Json::json_pointer(key)] = values[rng.integer(0, 11)];
      } catch (const Json::exception&) {  // an earlier change removed the path
      }
    }
    try {
      const Plan plan = plan_from_json(bad, "fuzz");
      for (const Configuration& c : plan.configurations) UnetSpace{c};
    } catch (const Error&) {
    }
  }
}

// ---- what every search space must keep ----

class EverySpace : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<SearchSpace> space = make_space(example_description(GetParam()));
};

TEST_P(EverySpace, GenesAreNamedGroupedAndDistinct) {
  std::set<std::string> names;
  for (const Gene& gene : space->genes()) {
    EXPECT_TRUE(names.insert(gene.name).second) << gene.name;
    EXPECT_THAT(
        (std::vector<std::string>{"topology", "operations", "scale", "training", "network"}),
        testing::Contains(gene.group));
    EXPECT_EQ(gene.malformed_reason(static_cast<std::size_t>(&gene - space->genes().data())), "")
        << gene.name;
    for (const std::string& value : gene.values)
      EXPECT_EQ(value.find_first_of(" ="), std::string::npos) << value;
  }
}

TEST_P(EverySpace, SamplesAreValidBuildAndRoundTripAsText) {
  Rng rng("space-sample");
  std::map<std::string, Genotype> by_graph;
  for (int i = 0; i < 100; ++i) {
    const Genotype genotype = space->sample(rng);
    ASSERT_EQ(space->invalid_reason(genotype), "");
    EXPECT_EQ(space->from_text(space->to_text(genotype)), genotype);
    const Phenotype built = space->build(genotype);
    validate(built.graph);
    EXPECT_TRUE(built.graph.is_closed());
    EXPECT_NO_THROW(infer_shapes(built.graph, built.patch)) << space->to_text(genotype);
    EXPECT_TRUE(built.training.is_object());
    const auto [seen, added] = by_graph.emplace(
        graph_id(built.graph) + to_text(built.patch) + built.training.dump(), genotype);
    EXPECT_EQ(seen->second, genotype)
        << "two genotypes for one network: " << space->to_text(genotype);
  }
}

TEST_P(EverySpace, MutationStaysValidAndChangesTheGenotypeOnlyInItsGroup) {
  Rng rng("mutation-test");
  std::set<std::string> groups;
  for (const Gene& gene : space->genes()) {
    // "network" says whether this is the plan: alone it changes only where searches start.
    if (gene.count() > 1 && gene.group != "network") groups.insert(gene.group);
  }
  for (int i = 0; i < 200; ++i) {
    const Genotype parent = space->sample(rng);
    const Genotype child = space->mutate(parent, rng);
    EXPECT_EQ(space->invalid_reason(child), "") << space->to_text(child);
    EXPECT_NE(space->genotype_id(child), space->genotype_id(parent));
    EXPECT_GT(space->distance(parent, child), 0);
    // The plan beside a space of another kind is one network: nothing in it changes alone.
    if (space->genes()[0].group == "network" && parent == space->baseline()) continue;
    for (const std::string& group : groups) {
      const Genotype inside = space->mutate(parent, rng, {group});
      const Genotype drawn = space->sample(rng, {group}, &parent);
      for (std::size_t g = 0; g < space->genes().size(); ++g) {
        if (space->genes()[g].group == group) continue;
        EXPECT_EQ(inside.values[g], parent.values[g]);
        EXPECT_EQ(drawn.values[g], parent.values[g]);
      }
    }
  }
}

TEST_P(EverySpace, ShortTextTellsNetworksApartAndWhatDiffersFromAStart) {
  Rng rng("short-text-test");
  std::map<std::string, Genotype> by_text;
  for (int i = 0; i < 200; ++i) {
    const Genotype genotype = space->sample(rng);
    const std::string text = space->short_text(genotype);
    EXPECT_LE(text.size(), space->to_text(genotype).size() + 16);
    const auto [seen, added] = by_text.emplace(text, genotype);
    EXPECT_EQ(seen->second, genotype) << "two networks are called " << text;
  }
  const Genotype start = space->start();
  const std::string same = space->short_text(start, &start);
  EXPECT_EQ(same, "as the start");
}

TEST_P(EverySpace, IndividualZeroIsThePlanAndSearchesStartFromTheirOwnKind) {
  const Json description = space->describe();
  const Configuration planned = configuration_from_json(description["configuration"], "example");
  const Phenotype zero = space->build(space->baseline());
  const bool described = GetParam() == "config";  // individual 0 is what it describes
  if (!described) {
    EXPECT_EQ(zero.graph, make_unet(planned.architecture));
  }
  EXPECT_EQ(zero.patch, planned.patch);
  ASSERT_EQ(space->invalid_reason(space->start()), "");
  std::vector<std::string> searched;
  for (const Gene& gene : space->genes()) {
    if (gene.group != "network") searched.push_back(gene.group);
  }
  Rng rng("start-test");
  for (int i = 0; i < 200; ++i) {
    const Genotype drawn = space->sample(rng, searched);
    EXPECT_TRUE(drawn != space->baseline() || space->start() == space->baseline());
  }
  if (GetParam() != "training_genes" && !described) {  // the former: a wrapper around another space
    const auto again = space_for_plan(GetParam(), planned);
    EXPECT_EQ(again->build(again->baseline()).graph, zero.graph);
  }
}

TEST_P(EverySpace, ClosedSuperNetworksAreTheNetworksThemselves) {
  if (!space->has_super_network()) {
    EXPECT_THAT(error_of([&] { space->super_network(space->start()); }), HasSubstr(GetParam()));
    return;
  }
  Rng rng("super-network-test");
  for (int i = 0; i < 20; ++i) {
    const Genotype fixed = i == 0 ? space->start() : space->sample(rng);
    if (fixed == space->baseline()) continue;
    const SuperNetwork super = space->super_network(fixed);
    const std::vector<int> sizes = choice_sizes(super.graph);
    ASSERT_EQ(super.genes.size(), sizes.size());
    EXPECT_GE(sizes.size(), 1u);
    std::set<std::size_t> decided;
    for (std::size_t c = 0; c < sizes.size(); ++c) {
      const Gene& gene = space->genes()[super.genes[c]];
      EXPECT_EQ(gene.group, "operations");
      EXPECT_EQ(gene.count(), sizes[c]) << gene.name;
      decided.insert(super.genes[c]);
    }
    for (std::size_t g = 0; g < space->genes().size(); ++g)
      EXPECT_EQ(decided.contains(g), space->genes()[g].group == "operations");
    EXPECT_NO_THROW(infer_shapes(super.graph, super.patch));
    for (int k = 0; k < 3; ++k) {
      const Genotype closed = space->sample(rng, {"operations"}, &fixed);
      const Phenotype built = space->build(closed);
      EXPECT_EQ(close_choices(super.graph, picks(super, closed)), built.graph);
      EXPECT_EQ(super.patch, built.patch);
    }
  }
}

TEST_P(EverySpace, IsRebuiltFromItsDescription) {
  const std::unique_ptr<SearchSpace> again = make_space(parse_json(space->describe().dump(), "t"));
  EXPECT_EQ(again->describe(), space->describe());
  EXPECT_EQ(again->name(), GetParam());
  EXPECT_EQ(again->count(), space->count());
  Rng rng("describe-test");
  for (int i = 0; i < 20; ++i) {
    const Genotype genotype = space->sample(rng);
    EXPECT_EQ(again->genotype_id(genotype), space->genotype_id(genotype));
    EXPECT_EQ(again->build(genotype).graph, space->build(genotype).graph);
  }
}

TEST_P(EverySpace, DamagedDescriptionsNeverDoMoreThanThrowAnError) {
  const Json whole = space->describe();
  std::vector<std::string> keys;
  const Json flat = whole.flatten();
  for (const auto& [key, value] : flat.items()) keys.push_back(key);
  const Json values[] = {-1, 0, 1, 3, 1 << 20, std::int64_t{1} << 62, 0.5, 1e300, "x", nullptr, {}};
  Rng rng("damaged-description");
  int made = 0;
  for (int i = 0; i < 300; ++i) {
    Json bad = whole;
    const auto pick = [&](std::size_t count) {
      return static_cast<std::size_t>(rng.integer(0, static_cast<std::int64_t>(count)));
    };
    bad[Json::json_pointer(keys[pick(keys.size())])] = values[pick(std::size(values))];
    try {
      const std::unique_ptr<SearchSpace> other = make_space(bad);
      for (const Genotype& genotype : {other->baseline(), other->start(), other->sample(rng)}) {
        const Phenotype built = other->build(genotype);
        infer_shapes(built.graph, built.patch);
      }
      ++made;
    } catch (const Error&) {
    }
  }
  EXPECT_GT(made, 0);
  EXPECT_LT(made, 300);
}

TEST_P(EverySpace, SamplingDependsOnlyOnTheSeed) {
  Rng first("seed"), second("seed");
  for (int i = 0; i < 50; ++i) EXPECT_EQ(space->sample(first), space->sample(second));
}

TEST_P(EverySpace, MalformedGenotypesHaveAReasonAndDoNotBuild) {
  Genotype genotype = space->baseline();
  EXPECT_EQ(space->invalid_reason(genotype), "");
  genotype.values.push_back(0);
  EXPECT_NE(space->invalid_reason(genotype), "");
  EXPECT_THROW(space->build(genotype), Error);
  EXPECT_THROW(space->to_text(genotype), Error);
  genotype = space->baseline();
  genotype.values[0] = -1;
  EXPECT_THAT(space->invalid_reason(genotype), HasSubstr(space->genes()[0].name));
  EXPECT_THROW(space->short_text(genotype), Error);
}

TEST_P(EverySpace, TextErrorsAreUsageErrorsThatNameTheGene) {
  ErrorKind kind{};
  const std::string gene = space->genes()[0].name;
  EXPECT_THAT(error_of([&] { space->from_text(gene + "s=1"); }, &kind),
              HasSubstr("did you mean '" + gene + "'"));
  EXPECT_EQ(kind, ErrorKind::Usage);
  EXPECT_THAT(error_of([&] { space->from_text(gene + "=nonsense"); }),
              HasSubstr(space->genes()[0].text(0)));
  EXPECT_THAT(error_of([&] { space->from_text(gene); }), HasSubstr("gene=value"));
  EXPECT_EQ(space->from_text(""), space->baseline());
}

INSTANTIATE_TEST_SUITE_P(Spaces, EverySpace, testing::ValuesIn(space_names()));

TEST(SearchSpace, UnknownNamesAreUsageErrors) {
  ErrorKind kind{};
  EXPECT_THAT(error_of(
                  [] {
                    make_space(Json{{"space", "unte"}});
                  },
                  &kind),
              HasSubstr("did you mean 'unet'"));
  EXPECT_EQ(kind, ErrorKind::Usage);
  const auto space = make_space(example_description("unet"));
  Rng rng(1);
  EXPECT_THAT(error_of([&] { space->sample(rng, {"topologie"}); }),
              HasSubstr("did you mean 'topology'"));
}

// ---- the space of U-Nets around a plan ----

/// The planned 3d_fullres configuration of a real fingerprint, read from nnU-Net's plan.
Configuration real_configuration(const Json& row, const std::string& planner) {
  const Json& planned = row["plans"][planner]["configurations"]["3d_fullres"];
  const Json& kwargs = planned["architecture"]["arch_kwargs"];
  Configuration c;
  c.name = "3d_fullres";
  c.patch = planned["patch_size"].get<Extent3>();
  c.batch = planned["batch_size"];
  UnetArchitecture& a = c.architecture;
  a.residual = kwargs.contains("n_blocks_per_stage");
  a.in_channels = static_cast<std::int64_t>(row["dataset"]["channel_names"].size());
  a.classes = static_cast<std::int64_t>(row["dataset"]["labels"].size());
  a.features = kwargs["features_per_stage"].get<std::vector<std::int64_t>>();
  a.strides = extents(kwargs["strides"]);
  a.kernels = extents(kwargs["kernel_sizes"]);
  a.blocks = kwargs[a.residual ? "n_blocks_per_stage" : "n_conv_per_stage"]
                 .get<std::vector<std::int64_t>>();
  a.decoder_convs = kwargs["n_conv_per_stage_decoder"].get<std::vector<std::int64_t>>();
  c.normalization.assign(static_cast<std::size_t>(a.in_channels), "ZScoreNormalization");
  c.use_mask_for_norm.assign(static_cast<std::size_t>(a.in_channels), false);
  return c;
}

TEST(UnetSpace, IndividualZeroIsThePlanForEveryMsdTaskAndAllPointsBuild) {
  NAS_SHARED_OR_SKIP(path, "oracles/msd_plans.json");
  for (const Json& row : read_json(path)) {
    for (const char* planner : {"default", "resenc_m"}) {
      const Configuration planned = real_configuration(row, planner);
      const UnetSpace space(planned);
      SCOPED_TRACE(row["name"].get<std::string>() + " " + planner);
      EXPECT_EQ(space.build(space.baseline()).graph, make_unet(planned.architecture));
      EXPECT_EQ(space.build(space.baseline()).patch, planned.patch);
      EXPECT_GE(space.count(), 100);
      EXPECT_LE(space.count(), 1000);
      Rng rng("msd");
      for (int i = 0; i < 10; ++i) {
        const Genotype genotype = space.sample(rng);
        const Phenotype built = space.build(genotype);
        EXPECT_NO_THROW(infer_shapes(built.graph, built.patch)) << space.to_text(genotype);
      }
    }
  }
}

TEST(Unet, TrainingMemoryIsWhatAutogradSaves) {
  NAS_SHARED_OR_SKIP(path, "oracles/msd_plans.json");
  const Configuration planned = real_configuration(read_json(path)[3], "default");
  ASSERT_EQ(planned.patch, (Extent3{40, 56, 40}));
  // PyTorch 2.11's saved tensors of one forward pass of this network, counted by storage,
  // parameters aside. Of these the model leaves out 3 floats a norm channel (statistics); it adds
  // the logits, the gradients of the two largest results, and 3 floats a parameter.
  const std::int64_t saved = 151'620'096;
  const std::int64_t statistics = 3 * (2 * (32 + 64 + 128 + 256) + 2 * (128 + 64 + 32)) * 4;
  const std::int64_t voxels = 40 * 56 * 40;
  const std::int64_t logits = 3 * (voxels + voxels / 8 + voxels / 64) * 4;
  const std::int64_t gradients = 2 * 64 * voxels * 4;
  EXPECT_EQ(training_memory_bytes(make_unet(planned.architecture), planned.patch, 1, 4),
            saved - statistics + logits + gradients + 5'603'177 * 12);
}

TEST_P(EverySpace, PortfolioBeginsWithThePlanAndIsValid) {
  const auto space = make_space(example_description(GetParam()));
  const std::vector<Starter> starters = space->portfolio();
  ASSERT_FALSE(starters.empty());
  EXPECT_EQ(starters[0].genotype, space->baseline());
  std::set<std::string> names;
  bool start = false;
  for (const Starter& s : starters) {
    EXPECT_TRUE(names.insert(s.name).second) << s.name;
    if (!s.missing.empty()) continue;
    EXPECT_EQ(space->invalid_reason(s.genotype), "") << s.name;
    start = start || s.genotype == space->start();
  }
  EXPECT_TRUE(start);
}

TEST(UnetSpace, PortfolioIsWhatItsNamesSay) {
  const auto made = make_space(UnetSpace::example());
  const auto& space = dynamic_cast<const UnetSpace&>(*made);
  std::map<std::string, Starter> by_name;
  for (const Starter& s : space.portfolio()) by_name[s.name] = s;
  EXPECT_EQ(space.architecture(by_name.at("half width").genotype).features[0], 4);
  EXPECT_EQ(space.architecture(by_name.at("double width").genotype).features[0], 16);
  EXPECT_TRUE(space.architecture(by_name.at("residual").genotype).residual);
  EXPECT_EQ(space.architecture(by_name.at("a stage less").genotype).features.size(), 2U);
  EXPECT_NE(by_name.at("c2fnas start").missing, "");
}

TEST(UnetSpace, GenesDoWhatTheySay) {
  const auto space = make_space(example_description("unet"));
  const auto& unets = dynamic_cast<const UnetSpace&>(*space);
  const auto built = [&](const std::string& text) {
    return unets.architecture(space->from_text(text));
  };
  EXPECT_EQ(built(""), unets.planned().architecture);
  EXPECT_THAT(built("features=4").features, ElementsAre(4, 8, 16));
  EXPECT_THAT(built("features=12").features, ElementsAre(12, 24, 48));
  EXPECT_THAT(built("stages=2").strides, ElementsAre(Extent3{1, 1, 1}, Extent3{1, 2, 2}));
  EXPECT_EQ(built("stages=2").decoder_convs.size(), 1u);
  const UnetArchitecture deeper = built("stages=4 blocks=3 decoder_convs=1");
  EXPECT_EQ(deeper.strides.back(), (Extent3{2, 2, 2}));
  EXPECT_THAT(deeper.features, ElementsAre(8, 16, 32, 64));
  EXPECT_THAT(deeper.blocks, ElementsAre(3, 3, 3, 3));
  EXPECT_THAT(deeper.decoder_convs, ElementsAre(1, 1, 1));
  EXPECT_TRUE(built("kind=residual").residual);
}

TEST(UnetSpace, APlannedListOfBlocksBelongsToItsKind) {
  Configuration planned =
      configuration_from_json(example_description("unet")["configuration"], "x");
  planned.architecture.residual = true;
  planned.architecture.blocks = {1, 3, 4};
  const UnetSpace space(planned);
  EXPECT_THAT(space.invalid_reason(space.from_text("kind=plain")), HasSubstr("kind=residual"));
  EXPECT_EQ(space.invalid_reason(space.from_text("kind=plain blocks=2")), "");
  EXPECT_THAT(space.architecture(space.from_text("stages=2")).blocks, ElementsAre(1, 3));
}

TEST(UnetSpace, RefusesAPlanThatCannotBeBuilt) {
  Configuration planned =
      configuration_from_json(example_description("unet")["configuration"], "x");
  planned.patch = {15, 32, 32};
  EXPECT_THAT(error_of([&] { UnetSpace{planned}; }), HasSubstr("decoder.stages.0.concat"));
}

// ---- C2FNAS ----

TEST(C2fnas, MacroCandidatesAreThe957WalksOfTheRule) {
  const std::vector<CellLevels>& all = macro_candidates();
  EXPECT_EQ(all.size(), 957u);
  const std::set<CellLevels> unique(all.begin(), all.end());
  EXPECT_EQ(unique.size(), all.size());
  // Every sequence of eleven moves by at most one level, judged by itself.
  int counts[3] = {0, 0, 0};  // to level 3, to level 2, twice to level 2
  for (int code = 0; code < 177147; ++code) {
    CellLevels levels{};
    bool inside = true;
    std::string walk = "0";
    for (std::size_t c = 1, rest = static_cast<std::size_t>(code); c < 12; ++c, rest /= 3) {
      levels[c] = levels[c - 1] + static_cast<int>(rest % 3) - 1;
      inside = inside && levels[c] >= 0 && levels[c] <= 3;
      if (levels[c] != levels[c - 1]) walk += std::to_string(levels[c]);
    }
    const bool wanted = inside && (walk == "0123210" || walk == "01210" || walk == "012101210");
    EXPECT_EQ(is_macro_candidate(levels), wanted);
    EXPECT_EQ(unique.contains(levels), wanted);
    if (wanted) ++counts[walk.size() == 7 ? 0 : walk.size() == 5 ? 1 : 2];
  }
  EXPECT_THAT(counts, ElementsAre(462, 330, 165));
}

std::size_t inputs_of_cell(const Graph& graph, const std::string& cell) {
  const int choice = graph.find(cell + ".op");
  return choice < 0 ? 0 : graph.nodes[static_cast<std::size_t>(choice)].inputs.size();
}

TEST(C2fnas, PancHasThePublishedSizeAndWiring) {
  const NetworkFile preset = load_network("c2fnas-panc", {.classes = 3});
  EXPECT_EQ(preset.patch, (Extent3{96, 96, 96}));
  const Cost cost = total_cost(preset.graph, {96, 96, 96});
  EXPECT_NEAR(static_cast<double>(cost.parameters), 17.02e6, 0.01 * 17.02e6);
  EXPECT_NEAR(static_cast<double>(cost.macs), 150.78e9, 0.02 * 150.78e9);
  C2fnasNetwork open = c2fnas_panc(1, 3);
  open.operations.fill(kOpen);
  const Graph super = make_c2fnas(open);
  for (int cell = 1; cell <= 12; ++cell) {
    const bool two = cell == 2 || cell == 7 || cell == 9 || cell == 10 || cell == 12;
    EXPECT_EQ(inputs_of_cell(super, "cells." + std::to_string(cell)), two ? 2u : 1u) << cell;
  }
  const auto source = [&](const std::string& node) {
    return super
        .nodes[static_cast<std::size_t>(
            super.nodes[static_cast<std::size_t>(super.find(node))].inputs.back())]
        .name;
  };
  EXPECT_EQ(source("cells.2.op"), "stem.norm3");
  EXPECT_EQ(source("cells.7.op"), "cells.5.norm");
  EXPECT_EQ(source("cells.9.op"), "cells.4.norm");
  EXPECT_EQ(source("cells.10.op"), "cells.2.norm");
  EXPECT_EQ(source("cells.12.op"), "cells.10.norm");
  EXPECT_EQ(source("head.concat"), "cells.12.norm");
}

TEST(C2fnas, EveryMacroCandidateBuildsAtEveryCellCount) {
  C2fnasNetwork network = c2fnas_panc(1, 2);
  network.base_filters = 2;
  network.deep_supervision = true;
  for (const CellLevels& levels : macro_candidates()) {
    network.levels = levels;
    network.cells = 12 + 2 * (levels[5] % 3);
    const Graph graph = make_c2fnas(network);
    const std::vector<TensorShape> shapes = infer_shapes(graph, {32, 32, 32});
    const std::vector<int> outputs = graph.output_nodes();
    ASSERT_EQ(outputs.size(), 3u);
    EXPECT_EQ(shapes[static_cast<std::size_t>(outputs[0])], (TensorShape{2, {32, 32, 32}}));
    EXPECT_EQ(shapes[static_cast<std::size_t>(outputs[2])], (TensorShape{2, {4, 4, 4}}));
    const std::vector<Cost> costs = node_costs(graph, {32, 32, 32});
    std::vector<char> used(graph.nodes.size(), 0);
    for (const Node& node : graph.nodes) {
      for (const int input : node.inputs) used[static_cast<std::size_t>(input)] = 1;
    }
    for (std::size_t i = 0; i < graph.nodes.size(); ++i)
      EXPECT_TRUE(used[i] || graph.nodes[i].op == "output") << graph.nodes[i].name;
  }
}

TEST(C2fnasSpace, CountsItsNetworksAndDrawsTopologiesEvenly) {
  const auto space = make_space(example_description("c2fnas"));
  EXPECT_EQ(space->count(), 957.0 * 531441 * 36 + 1);
  Rng rng("topologies");
  std::map<std::vector<int>, int> seen;
  for (int i = 0; i < 9570; ++i) {
    const Genotype drawn = space->sample(rng, {"topology"});
    ++seen[{drawn.values.begin() + 1, drawn.values.begin() + 13}];
  }
  EXPECT_GE(seen.size(), 950u);  // 957 (1 - exp(-10))
  for (const auto& [levels, times] : seen) EXPECT_LE(times, 35);
  Json slides = example_description("c2fnas");
  slides["operations"] = "slides";
  EXPECT_EQ(make_space(slides)->count(), 957.0 * 2176782336 * 36 + 1);
  slides["operations"] = "slide";
  EXPECT_THAT(error_of([&] { make_space(slides); }), HasSubstr("did you mean \"slides\""));
}

TEST(C2fnasSpace, ShortTextIsLevelsOperationsAndWhatDiffersInScale) {
  const auto space = make_space(example_description("c2fnas"));
  Genotype genotype = space->start();
  EXPECT_EQ(space->short_text(genotype), "c2fnas 001123221000 ops 3d3d3d3d3d3d3d3d3d3d3d3d");
  const Genotype start = genotype;
  genotype.values[14] = 2 - genotype.values[14];
  genotype.values[26] = 1;
  const std::string second = space->genes()[14].text(2);
  EXPECT_EQ(space->short_text(genotype),
            "c2fnas 001123221000 ops 3d" + second + "3d3d3d3d3d3d3d3d3d3d cells=14");
  EXPECT_EQ(space->short_text(genotype, &start),
            "ops 3d" + second + "3d3d3d3d3d3d3d3d3d3d cells=14");
  EXPECT_EQ(space->short_text(start, &start), "as the start");
  EXPECT_EQ(space->short_text(space->baseline(), &start), "plan");
  const Genotype plan = space->baseline();
  EXPECT_EQ(space->short_text(start, &plan), space->short_text(start)) << "of another kind";
  const auto unet = make_space(example_description("unet"));
  EXPECT_EQ(unet->short_text(unet->baseline()), "unet as planned");
  EXPECT_THAT(make_space(example_description("vnas"))
                  ->short_text(make_space(example_description("vnas"))->start()),
              testing::StartsWith("vnas enc 3d3d3d"));
}

TEST(C2fnasSpace, TakesThePlansStridesAndSaysSo) {
  NAS_SHARED_OR_SKIP(path, "oracles/msd_plans.json");
  for (const Json& row : read_json(path)) {
    const Configuration planned = real_configuration(row, "default");
    SCOPED_TRACE(row["name"].get<std::string>());
    const C2fnasSpace space(planned);
    const C2fnasNetwork start = space.describe_network(space.start());
    const std::vector<Extent3>& strides = planned.architecture.strides;
    const bool deep = strides.size() >= 5;
    EXPECT_EQ(start.stem_stride, deep ? strides[1] : (Extent3{1, 1, 1}));
    EXPECT_EQ(start.strides[0], strides[deep ? 2 : 1]);
    EXPECT_EQ(start.strides[2], strides[deep ? 4 : 3]);
    EXPECT_THAT(space.describe()["adaptation"].get<std::string>(),
                HasSubstr(deep ? "as published" : "full resolution"));
    EXPECT_EQ(space.build(space.start()).graph.name, space.describe()["adaptation"]);
    const auto cost = [&](const Genotype& genotype) {
      const Phenotype built = space.build(genotype);
      return total_cost(built.graph, built.patch).parameters;
    };
    EXPECT_LE(2 * cost(space.start()), cost(space.baseline()));
    Rng rng("msd");
    for (int i = 0; i < 10; ++i) {
      const Phenotype built = space.build(space.sample(rng));
      EXPECT_NO_THROW(infer_shapes(built.graph, built.patch));
    }
  }
}

TEST(C2fnasSpace, StaysWithinHalfOfASmallPlan) {
  Configuration planned =
      configuration_from_json(example_description("unet")["configuration"], "x");
  planned.patch = {12, 16, 12};
  UnetArchitecture& a = planned.architecture;
  a.strides = {{1, 1, 1}, {2, 2, 2}};
  a.kernels = {{3, 3, 3}, {3, 3, 3}};
  a.blocks = {2, 2};
  a.decoder_convs = {2};
  for (const std::int64_t features : {64, 32}) {
    a.features = {features, 2 * features};
    const C2fnasSpace space(planned);
    const auto parameters = [&](const Genotype& genotype) {
      const Phenotype built = space.build(genotype);
      return total_cost(built.graph, built.patch).parameters;
    };
    EXPECT_LE(2 * parameters(space.start()), parameters(space.baseline())) << features;
  }
}

// ---- V-NAS ----

TEST(Vnas, CodesAreWrittenAsThePaperWritesThem) {
  const std::string text = "022 2000 221211 011 | 10201";
  const VnasCode code = vnas_code_from_text(text);
  EXPECT_EQ(to_text(code), text);
  EXPECT_THAT(code.encoder, ElementsAre(0, 2, 2, 2, 0, 0, 0, 2, 2, 1, 2, 1, 1, 0, 1, 1));
  EXPECT_THAT(code.decoder, ElementsAre(1, 0, 2, 0, 1));
  EXPECT_EQ(vnas_code_from_text("0222000221211011 10201"), code);
  EXPECT_EQ(named_vnas_code("msd-pancreas"), code);
  for (const char* bad : {"022",
                          "",
                          "022 2000 221211 011 | 1020",
                          "022 2000 221211 011 | 102011",
                          "022 2000 221211 | 011 10201",
                          "032 2000 221211 011 | 10201"})
    EXPECT_THAT(error_of([&] { vnas_code_from_text(bad); }), HasSubstr("16 digits")) << bad;
  EXPECT_THAT(error_of([] { named_vnas_code("msd-pancreass"); }), HasSubstr("msd-pancreas"));
  const auto space = make_space(example_description("vnas"));
  const auto& vnas = dynamic_cast<const VnasSpace&>(*space);
  EXPECT_EQ(vnas.code(vnas.genotype(code)), code);
  EXPECT_EQ(space->count(), 10460353203.0 + 1);  // 3^21
}

TEST(Vnas, PresetsHaveTheSizesOfTheTable) {
  const struct {
    const char* name;
    double parameters, macs;
  } rows[] = {{"vnas:2d", 1.46e6, 2.64e9},
              {"vnas:mix", 1.47e6, 2.76e9},
              {"vnas:3d", 3.95e6, 5.50e9},
              {"vnas:msd-pancreas", 2.82e6, 3.67e9}};
  for (const auto& row : rows) {
    const NetworkFile preset = load_network(row.name, {.classes = 3});
    const Cost cost = total_cost(preset.graph, preset.patch);
    EXPECT_NEAR(static_cast<double>(cost.parameters), row.parameters, 0.03 * row.parameters)
        << row.name;
    EXPECT_NEAR(static_cast<double>(cost.macs), row.macs, 0.03 * row.macs) << row.name;
  }
  const NetworkFile code = load_network("vnas:022 2000 221211 011 | 10201", {.classes = 3});
  EXPECT_EQ(code.graph, load_network("vnas:msd-pancreas", {.classes = 3}).graph);
  EXPECT_EQ(load_network("vnas:2d", {.channels = 4}).graph.nodes[0].attributes.at("channels"),
            Attribute(std::int64_t{4}));
}

TEST(VnasSpace, BuildsForEveryPlanWithNormInsideAndAfterTheChoices) {
  NAS_SHARED_OR_SKIP(path, "oracles/msd_plans.json");
  for (const Json& row : read_json(path)) {
    const Configuration planned = real_configuration(row, "default");
    SCOPED_TRACE(row["name"].get<std::string>());
    for (const char* norm : {"inside", "after"}) {
      const auto space = space_for_plan("vnas", planned, {{"norm", norm}});
      const SuperNetwork super = space->super_network(space->start());
      EXPECT_EQ(super.genes.size(), norm == std::string("inside") ? 21u : 26u);
      Rng rng("msd");
      for (int i = 0; i < 5; ++i) {
        const Genotype genotype = space->sample(rng);
        const Phenotype built = space->build(genotype);
        const std::vector<TensorShape> shapes = infer_shapes(built.graph, planned.patch);
        EXPECT_EQ(shapes.back(), (TensorShape{planned.architecture.classes, planned.patch}));
        EXPECT_EQ(close_choices(super.graph, picks(super, genotype)), built.graph);
      }
    }
  }
}

/// Every alternative of every choice: convolutions in a row and nothing else.
void expect_only_convolutions(const SuperNetwork& super) {
  for (const Node& node : super.graph.nodes) {
    for (const Graph& alternative : node.alternatives) {
      for (std::size_t i = 1; i + 1 < alternative.nodes.size(); ++i) {
        EXPECT_EQ(alternative.nodes[i].op, "conv") << node.name;
        EXPECT_THAT(alternative.nodes[i].inputs, ElementsAre(static_cast<int>(i) - 1));
      }
    }
  }
}

TEST(Spaces, NormAfterTheChoiceLeavesOnlyConvolutionsInIt) {
  const Configuration planned =
      configuration_from_json(example_description("unet")["configuration"], "x");
  for (const char* name : {"vnas", "mixed-unet"}) {
    const auto space = space_for_plan(name, planned, {{"norm", "after"}});
    expect_only_convolutions(space->super_network(space->start()));
    EXPECT_THAT(error_of([&] {
                  space_for_plan(name, planned, {{"norm", "aftr"}});
                }),
                HasSubstr("did you mean \"after\""));
  }
}

// ---- the planned U-Net with its convolutions open ----

TEST(MixedUnetSpace, StartComputesWhatThePlanComputesAndFlatKernelsStay) {
  Configuration planned =
      configuration_from_json(example_description("unet")["configuration"], "x");
  for (const bool residual : {false, true}) {
    planned.architecture.residual = residual;
    for (const char* norm : {"inside", "after"}) {
      const auto space = space_for_plan("mixed-unet", planned, {{"norm", norm}});
      Graph start = space->build(space->start()).graph;
      const Graph plan = make_unet(planned.architecture);
      ASSERT_EQ(start.nodes.size(), plan.nodes.size());
      start.name = plan.name;
      for (std::size_t i = 0; i < plan.nodes.size(); ++i) start.nodes[i].name = plan.nodes[i].name;
      EXPECT_EQ(start, plan);
      const SuperNetwork super = space->super_network(space->start());
      // Stage 0 has kernels 1x3x3, in the encoder and in the decoder.
      for (const Node& node : super.graph.nodes) {
        EXPECT_TRUE(node.op != "choice" || !node.name.starts_with("encoder.stages.0")) << node.name;
        EXPECT_TRUE(node.op != "choice" || !node.name.starts_with("decoder.stages.1")) << node.name;
      }
      EXPECT_EQ(super.genes.size(), residual ? 10u : 6u);
    }
  }
  planned.architecture.kernels.assign(3, Extent3{1, 3, 3});
  EXPECT_THAT(error_of([&] { space_for_plan("mixed-unet", planned); }),
              HasSubstr("nothing to choose"));
}

TEST(MixedUnetSpace, SlicesLieAcrossTheCoarsestSpacing) {
  Configuration planned =
      configuration_from_json(example_description("unet")["configuration"], "x");
  planned.architecture.kernels.assign(3, Extent3{3, 3, 3});
  planned.architecture.strides.assign(3, Extent3{2, 2, 2});
  planned.architecture.strides[0] = {1, 1, 1};
  planned.spacing = {1, 1, 2.5};
  const auto space = space_for_plan("mixed-unet", planned);
  const Graph graph = space->build(space->from_text("enc1.0=p3d enc1.1=2d")).graph;
  const auto attributes = [&](const std::string& name) {
    const int node = graph.find(name);
    return node < 0 ? Attributes{} : graph.nodes[static_cast<std::size_t>(node)].attributes;
  };
  using Ints = std::vector<std::int64_t>;
  const std::string p3d = "encoder.stages.1.0.convs.0.alt2.conv_";
  EXPECT_EQ(attributes(p3d + "a").at("kernel"), Attribute(Ints{3, 3, 1}));
  EXPECT_EQ(attributes(p3d + "a").at("stride"), Attribute(Ints{2, 2, 1}));
  EXPECT_EQ(attributes(p3d + "a").at("bias"), Attribute(false));
  EXPECT_EQ(attributes(p3d + "b").at("kernel"), Attribute(Ints{1, 1, 3}));
  EXPECT_EQ(attributes(p3d + "b").at("stride"), Attribute(Ints{1, 1, 2}));
  EXPECT_EQ(attributes("encoder.stages.1.0.convs.1.alt1.conv").at("kernel"),
            Attribute(Ints{3, 3, 1}));
}

TEST(MixedUnetSpace, BuildsForEveryPlan) {
  NAS_SHARED_OR_SKIP(path, "oracles/msd_plans.json");
  for (const Json& row : read_json(path)) {
    for (const char* planner : {"default", "resenc_m"}) {
      const Configuration planned = real_configuration(row, planner);
      SCOPED_TRACE(row["name"].get<std::string>() + " " + planner);
      const auto space = space_for_plan("mixed-unet", planned);
      Rng rng("msd");
      for (int i = 0; i < 3; ++i) {
        const Phenotype built = space->build(space->sample(rng));
        EXPECT_NO_THROW(infer_shapes(built.graph, built.patch));
      }
    }
  }
}

TEST(SpaceForPlan, ErrorsNameTheNearestKnownNameOrKey) {
  const Configuration planned =
      configuration_from_json(example_description("unet")["configuration"], "x");
  ErrorKind kind{};
  EXPECT_THAT(error_of([&] { space_for_plan("c2fns", planned); }, &kind),
              HasSubstr("did you mean 'c2fnas'"));
  EXPECT_EQ(kind, ErrorKind::Usage);
  EXPECT_THAT(error_of(
                  [&] {
                    space_for_plan("c2fnas", planned, {{"base_filter", 8}});
                  },
                  &kind),
              HasSubstr("base_filters"));
  EXPECT_EQ(kind, ErrorKind::Usage);
  EXPECT_THAT(error_of([&] {
                space_for_plan("unet", planned, {{"space", "unet"}});
              }),
              HasSubstr("comes from"));
  EXPECT_EQ(space_for_plan("c2fnas", planned, {{"base_filters", 6}})->describe()["base_filters"],
            6);
}

// ---- networks from files ----

TEST(NetworkFile, GraphsModelsPlansAndNamesAllGiveTheNetwork) {
  const test::TempFolder folder;
  const Plan plan = example_plan();
  const Graph graph = make_unet(plan.configurations[0].architecture);
  write_graph((folder / "graph.json").string(), graph);
  EXPECT_EQ(load_network((folder / "graph.json").string()).graph, graph);
  EXPECT_EQ(load_network((folder / "graph.json").string()).patch, (Extent3{0, 0, 0}));

  write_graph((folder / "model/network.json").string(), graph);
  write_json(folder / "model/preprocessing.json", Json{{"patch", {16, 32, 32}}});
  EXPECT_EQ(load_network((folder / "model").string()).patch, (Extent3{16, 32, 32}));

  write_json(folder / "plan.json", to_json(plan));
  const NetworkFile planned = load_network((folder / "plan.json").string());
  EXPECT_EQ(planned.graph, graph);
  EXPECT_EQ(planned.batch, 2);
  const NetworkFile residual =
      load_network((folder / "plan.json").string(), {.configuration = "3d_lowres"});
  EXPECT_EQ(residual.graph, make_unet(plan.configurations[1].architecture));
  const NetworkFile other =
      load_network((folder / "plan.json").string(), {.genotype = "features=4"});
  EXPECT_LT(total_cost(other.graph, other.patch).parameters,
            total_cost(graph, other.patch).parameters);

  EXPECT_EQ(load_network("unet").graph, graph);
  EXPECT_THAT(
      error_of([&] { load_network((folder / "plan.json").string(), {.configuration = "2d"}); }),
      HasSubstr("3d_lowres"));
  EXPECT_THAT(
      error_of([&] { load_network((folder / "graph.json").string(), {.genotype = "features=4"}); }),
      HasSubstr("needs a plan"));
  EXPECT_THAT(error_of([&] { load_network((folder / "absent").string()); }),
              HasSubstr("search space (unet"));
  EXPECT_THAT(error_of([&] { load_network(folder.path().string()); }), HasSubstr("network.json"));
}

TEST(NetworkFile, ReadsNnUnetsPlans) {
  NAS_SHARED_OR_SKIP(path, "oracles/msd_plans.json");
  const test::TempFolder folder;
  const Json rows = read_json(path);
  for (const char* planner : {"default", "resenc_m"}) {
    write_json(folder / "plans.json", rows[3]["plans"][planner]);
    const Configuration planned = real_configuration(rows[3], planner);
    const NetworkFile network =
        load_network((folder / "plans.json").string(), {.classes = planned.architecture.classes});
    EXPECT_EQ(network.graph, make_unet(planned.architecture));
    EXPECT_EQ(network.patch, planned.patch);
    EXPECT_EQ(network.batch, planned.batch);
  }
}

TEST(Summary, SaysWhatTheCostsSay) {
  const NetworkFile network = load_network("unet");
  const Summary summary = summarize(network.graph, network.patch, 3);
  EXPECT_EQ(summary.rows.size(), network.graph.nodes.size());
  EXPECT_EQ(summary.total.parameters, total_cost(network.graph, network.patch).parameters);
  EXPECT_LT(summary.first_output_macs, summary.total.macs);
  EXPECT_EQ(summary.training_bytes_16, training_memory_bytes(network.graph, network.patch, 3, 2));
  const std::string text = to_text(summary);
  EXPECT_THAT(text, HasSubstr("encoder.stages.1.0.convs.0.conv"));
  EXPECT_THAT(text, HasSubstr("conv 3³ / 1×2×2"));
  EXPECT_THAT(text, HasSubstr("16x16x16x16"));
  const Json json = to_json(summary);
  EXPECT_EQ(json["nodes"].size(), summary.rows.size());
  EXPECT_EQ(json["id"], graph_id(network.graph));
}

}  // namespace
}  // namespace nas
