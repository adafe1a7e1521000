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
#include "search_spaces/network_file.h"
#include "search_spaces/plan.h"
#include "search_spaces/search_space.h"
#include "search_spaces/unet.h"
#include "search_spaces/unet_space.h"
#include "tests/support/support.h"

namespace nas {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

template <class Body>
std::string error_of(Body&& body, ErrorKind* kind = nullptr) {
  try {
    body();
  } catch (const Error& error) {
    if (kind) *kind = error.kind();
    return error.what();
  }
  return "";
}

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
    EXPECT_THAT((std::vector<std::string>{"topology", "operations", "scale", "training"}),
                testing::Contains(gene.group));
    EXPECT_GE(gene.values.size(), 1u) << gene.name;
    const std::set<std::string> values(gene.values.begin(), gene.values.end());
    EXPECT_EQ(values.size(), gene.values.size()) << gene.name;
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
    const auto [seen, added] =
        by_graph.emplace(graph_id(built.graph) + built.training.dump(), genotype);
    EXPECT_EQ(seen->second, genotype)
        << "two genotypes for one network: " << space->to_text(genotype);
    const std::vector<double> code = space->encode(genotype);
    EXPECT_EQ(std::ranges::count(code, 1.0), std::ssize(space->genes()));
  }
}

TEST_P(EverySpace, MutationStaysValidAndChangesTheGenotypeOnlyInItsGroup) {
  Rng rng("mutation-test");
  std::set<std::string> groups;
  for (const Gene& gene : space->genes()) {
    if (gene.values.size() > 1) groups.insert(gene.group);
  }
  for (int i = 0; i < 200; ++i) {
    const Genotype parent = space->sample(rng);
    const Genotype child = space->mutate(parent, rng);
    EXPECT_EQ(space->invalid_reason(child), "") << space->to_text(child);
    EXPECT_NE(space->genotype_id(child), space->genotype_id(parent));
    EXPECT_GT(space->distance(parent, child), 0);
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

TEST_P(EverySpace, CrossoverTakesEachGeneFromAParent) {
  Rng rng("crossover-test");
  for (int i = 0; i < 200; ++i) {
    const Genotype a = space->sample(rng);
    const Genotype b = space->sample(rng);
    const Genotype child = space->crossover(a, b, rng);
    EXPECT_EQ(space->invalid_reason(child), "");
    for (std::size_t g = 0; g < child.values.size(); ++g) {
      EXPECT_TRUE(child.values[g] == a.values[g] || child.values[g] == b.values[g]);
    }
  }
}

TEST_P(EverySpace, NeighboursDifferInOneGeneAndAreAllOfThem) {
  const Genotype centre = space->baseline();
  const std::vector<Genotype> neighbours = space->neighbours(centre);
  const std::set<Genotype> unique(neighbours.begin(), neighbours.end());
  EXPECT_EQ(unique.size(), neighbours.size());
  for (const Genotype& other : neighbours) {
    EXPECT_EQ(space->invalid_reason(other), "");
    int different = 0;
    for (std::size_t g = 0; g < other.values.size(); ++g)
      different += other.values[g] != centre.values[g];
    EXPECT_EQ(different, 1);
  }
  Rng rng("neighbour-test");
  for (int i = 0; i < 200; ++i) EXPECT_TRUE(unique.contains(space->mutate(centre, rng)));
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
  EXPECT_THROW(space->encode(genotype), Error);
}

TEST_P(EverySpace, TextErrorsAreUsageErrorsThatNameTheGene) {
  ErrorKind kind{};
  const std::string gene = space->genes()[0].name;
  EXPECT_THAT(error_of([&] { space->from_text(gene + "s=1"); }, &kind),
              HasSubstr("did you mean '" + gene + "'"));
  EXPECT_EQ(kind, ErrorKind::Usage);
  EXPECT_THAT(error_of([&] { space->from_text(gene + "=nonsense"); }),
              HasSubstr(space->genes()[0].values[0]));
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
