// SPDX-License-Identifier: Apache-2.0
// Genes of training settings around another space: what they ask of a training, and how dropout and
// activation change graphs, open or closed.
#include <algorithm>
#include <set>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/network/graph.h"
#include "nas/network/operations.h"
#include "search_spaces/spaces.h"
#include "search_spaces/training_genes.h"

namespace nas {
namespace {

using testing::HasSubstr;

std::unique_ptr<SearchSpace> around(const std::string& name) {
  return with_training_genes(make_space(example_description(name)));
}

std::int64_t count_ops(const Graph& graph, const std::string& op) {
  return std::ranges::count(graph.nodes, op, &Node::op);
}

class TrainingGenes : public testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<SearchSpace> inner = make_space(example_description(GetParam()));
  std::unique_ptr<SearchSpace> space = around(GetParam());
};

TEST_P(TrainingGenes, IndividualZeroAndTheStartStayWhatTheyAre) {
  const Phenotype planned = inner->build(inner->baseline());
  const Phenotype found = space->build(space->baseline());
  EXPECT_EQ(found.graph, planned.graph);
  EXPECT_EQ(found.patch, planned.patch);
  EXPECT_EQ(found.training, Json::object());
  EXPECT_EQ(space->build(space->start()).graph, inner->build(inner->start()).graph);
  EXPECT_EQ(space->has_super_network(), inner->has_super_network());
}

TEST_P(TrainingGenes, SamplingTheGroupTrainingLeavesTheArchitectureAlone) {
  Rng rng("training-genes");
  const Genotype start = space->start();
  for (int i = 0; i < 50; ++i) {
    const Genotype drawn = space->sample(rng, {"training"}, &start);
    for (std::size_t g = 0; g < inner->genes().size(); ++g) {
      EXPECT_EQ(drawn.values[g], start.values[g]);
    }
    const Phenotype built = space->build(drawn);
    validate(built.graph);
    const auto before = infer_shapes(inner->build(inner->start()).graph, built.patch);
    EXPECT_EQ(infer_shapes(built.graph, built.patch).back(), before.back());
  }
}

TEST_P(TrainingGenes, OpenNetworksCloseToWhatTheGenotypesBuild) {
  if (!space->has_super_network()) GTEST_SKIP() << "no super-network";
  Rng rng("open-training-genes");
  for (int i = 0; i < 10; ++i) {
    const Genotype start = space->start();
    const Genotype fixed = space->sample(rng, {"training"}, &start);
    const SuperNetwork network = space->super_network(fixed);
    const Genotype g = space->sample(rng, {"operations"}, &fixed);
    EXPECT_EQ(close_choices(network.graph, picks(network, g)), space->build(g).graph)
        << space->to_text(g);
  }
}

TEST_P(TrainingGenes, DropoutStandsBeforeEveryNormOfAConvolution) {
  const Graph plain = space->build(space->start()).graph;
  const Graph dropped = with_dropout(plain, 0.25);
  std::int64_t wanted = 0;
  for (const Node& node : plain.nodes) {
    wanted += operation(node).kind == OperationKind::Norm &&
              operation(plain.nodes[static_cast<std::size_t>(node.inputs[0])]).kind ==
                  OperationKind::Convolution;
  }
  EXPECT_GT(wanted, 0);
  EXPECT_EQ(count_ops(dropped, "dropout"), wanted);
  for (const Node& node : dropped.nodes) {
    if (node.op != "dropout") continue;
    EXPECT_EQ(attribute_real(node, "p"), 0.25);
    EXPECT_EQ(operation(dropped.nodes[static_cast<std::size_t>(node.inputs[0])]).kind,
              OperationKind::Convolution);
  }
  // Taking the dropouts out again gives the graph back: nothing else has changed.
  Graph again;
  again.name = dropped.name;
  std::vector<int> place;
  for (Node node : dropped.nodes) {
    for (int& from : node.inputs) from = place[static_cast<std::size_t>(from)];
    if (node.op == "dropout") {
      place.push_back(node.inputs[0]);
      continue;
    }
    place.push_back(static_cast<int>(again.nodes.size()));
    again.nodes.push_back(std::move(node));
  }
  EXPECT_EQ(again, plain);
}

TEST_P(TrainingGenes, ActivationsAreReplacedAndNamesStay) {
  const Graph plain = space->build(space->start()).graph;
  const Extent3 patch = space->build(space->start()).patch;
  const Graph elu = with_activation(plain, "elu");
  ASSERT_EQ(elu.nodes.size(), plain.nodes.size());
  for (std::size_t i = 0; i < plain.nodes.size(); ++i) {
    EXPECT_EQ(elu.nodes[i].name, plain.nodes[i].name);
    EXPECT_EQ(elu.nodes[i].inputs, plain.nodes[i].inputs);
  }
  EXPECT_EQ(count_ops(elu, "elu"), count_ops(plain, "relu") + count_ops(plain, "leaky_relu"));
  EXPECT_EQ(count_ops(elu, "relu") + count_ops(elu, "leaky_relu"), 0);
  EXPECT_EQ(total_cost(elu, patch).parameters, total_cost(plain, patch).parameters);
  const Graph prelu = with_activation(plain, "prelu");
  EXPECT_EQ(total_cost(prelu, patch).parameters,
            total_cost(plain, patch).parameters + count_ops(prelu, "prelu"))
      << "one slope each";
  Graph sigmoid;
  sigmoid.add("input", "x", {}, {{"channels", 2}});
  sigmoid.add("sigmoid", "gate", {0});
  sigmoid.add("output", "y", {1});
  EXPECT_EQ(with_activation(sigmoid, "elu"), sigmoid) << "a gate is no activation";
}

INSTANTIATE_TEST_SUITE_P(Around,
                         TrainingGenes,
                         testing::Values("unet", "c2fnas", "vnas", "mixed-unet"),
                         [](const testing::TestParamInfo<std::string>& info) {
                           return info.param == "mixed-unet" ? "mixed_unet" : info.param;
                         });

TEST(TrainingGenesText, BecomesChangesOfTrainingOptions) {
  const auto space = around("unet");
  const Phenotype built = space->build(
      space->from_text("optimizer=sgd learning_rate=x0.5 schedule=poly weight_decay=x10 loss=ce "
                       "foreground=0.67 augmentation=x0 dropout=0.2 activation=relu"));
  EXPECT_EQ(built.training,
            (Json{{"optimizer", "sgd"},
                  {"learning_rate_factor", 0.5},
                  {"schedule", "poly"},
                  {"weight_decay_factor", 10.0},
                  {"loss", "ce"},
                  {"foreground_fraction", 0.67},
                  {"augmentation_factor", 0.0}}));
  EXPECT_GT(count_ops(built.graph, "dropout"), 0);
  EXPECT_GT(count_ops(built.graph, "relu"), 0);
  EXPECT_EQ(count_ops(built.graph, "leaky_relu"), 0);
}

/// A race compares mirroring and strengths of augmentation: individual 0 is trained without mirroring,
/// and one cheap network takes part once more with every other value.
TEST(RaceGenes, TwinsOfOneNetworkTellSettingsApart) {
  const auto inner = make_space(example_description("unet"));
  const auto space = with_training_genes(make_space(example_description("unet")), kRaceGenes);
  EXPECT_TRUE(mirroring_is_searched(*space));
  EXPECT_FALSE(mirroring_is_searched(*inner));
  EXPECT_FALSE(mirroring_is_searched(*around("unet")));
  EXPECT_EQ(space->genes().size(), inner->genes().size() + 2);
  EXPECT_EQ(space->build(space->baseline()).training, (Json{{"mirror", false}}));
  EXPECT_EQ(space->build(space->from_text("mirror=rule")).training, Json::object());
  EXPECT_EQ(space->build(space->from_text("augmentation=x1.5")).training,
            (Json{{"mirror", false}, {"augmentation_factor", 1.5}}));
  // What an earlier version recorded is understood.
  EXPECT_EQ(space->from_text(inner->to_text(inner->baseline())), space->baseline());

  std::vector<std::string> twins;
  std::set<std::string> graphs;
  for (const Starter& starter : space->portfolio()) {
    if (!starter.missing.empty() || starter.name.find(", ") == std::string::npos) continue;
    if (starter.name.find("augmentation") == std::string::npos &&
        starter.name.find("mirror") == std::string::npos) {
      continue;
    }
    twins.push_back(starter.name);
    graphs.insert(graph_id(space->build(starter.genotype).graph));
  }
  EXPECT_THAT(twins,
              testing::ElementsAre("half width, augmentation x0.5",
                                   "half width, augmentation x1.5",
                                   "half width, mirror rule"));
  EXPECT_EQ(graphs.size(), 1U) << "the same network";
  const auto again = make_space(space->describe());
  EXPECT_EQ(again->describe(), space->describe());
  EXPECT_EQ(again->to_text(again->baseline()), space->to_text(space->baseline()));
  EXPECT_FALSE(around("unet")->describe().contains("genes")) << "as before";
  try {
    with_training_genes(make_space(example_description("unet")), {"miror"});
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("did you mean 'mirror'"));
  }
}

TEST(TrainingGenesText, TwiceIsAnError) {
  try {
    with_training_genes(around("unet"));
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("optimizer"));
  }
}

}  // namespace
}  // namespace nas
