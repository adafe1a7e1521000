// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/planned_unet/mixed_unet_space.h"

#include <algorithm>

#include "nas/core/error.h"
#include "search_spaces/alternatives.h"
#include "search_spaces/planned_unet/unet.h"
#include "search_spaces/planned_unet/unet_space.h"

namespace nas {
namespace {

constexpr std::size_t kFirstBlockGene = 1;
constexpr double kFeatureFactors[] = {0.75, 0.5, 0.375, 0.25};

enum Kind { kFull, kFlat, kPseudo, kKinds };  // values of the genes
constexpr const char* kKindNames[] = {"3d", "2d", "p3d"};

/// "enc0.1" of "encoder.stages.0.0.convs.1", "enc2.0.1" of "encoder.stages.2.blocks.0.conv1".
std::string short_name(std::string name) {
  const std::pair<const char*, const char*> parts[] = {{"encoder.stages.", "enc"},
                                                       {"encoder.stem.convs.", "stem"},
                                                       {"decoder.stages.", "dec"},
                                                       {".0.convs.", "."},
                                                       {".convs.", "."},
                                                       {".blocks.", "."},
                                                       {".conv", "."}};
  for (const auto& [from, to] : parts) {
    if (const std::size_t at = name.find(from); at != std::string::npos)
      name.replace(at, std::string_view(from).size(), to);
  }
  return name;
}

/// The convolutions of `block` in one of three ways, with nodes "<prefix>conv" (p3d: "conv_a",
/// "conv_b").
int add_convs(Graph& graph,
              const std::string& prefix,
              int input,
              const UnetBlock& block,
              int kind,
              std::size_t axis) {
  ConvChain chain{{}, block.stride, 1, block.bias};
  if (kind == kFull) chain.kernels = {block.kernel};
  if (kind == kFlat) chain.kernels = {in_plane(block.kernel, axis)};
  if (kind == kPseudo)
    chain.kernels = {in_plane(block.kernel, axis), through_plane(block.kernel, axis)};
  return add_conv_chain(graph, prefix, input, block.channels, chain);
}

}  // namespace

MixedUnetSpace::MixedUnetSpace(Configuration given, const std::string& norm)
    : BesidePlan(std::move(given)), axis_(through_plane_axis(planned().spacing)) {
  norm_after_ = one_of("norm", norm, {"inside", "after"}) == 1;
  std::vector<Gene> genes;
  make_unet(planned().architecture, [&](Graph& graph, const UnetBlock& block) {
    if (opens(block)) {
      genes.push_back(
          {short_name(block.name), "operations", {std::begin(kKindNames), std::end(kKindNames)}});
    }
    return add_unet_block(graph, block);
  });
  blocks_ = genes.size();
  NAS_CHECK(blocks_ > 0,
            "space mixed-unet: the planned network has no kernel that extends across the slices, "
            "so there is nothing to choose");
  const std::int64_t first = planned().architecture.features[0];
  features_ = feature_choices(first, {std::begin(kFeatureFactors), std::end(kFeatureFactors)});
  Gene features{"features", "scale", {}};
  for (const std::int64_t value : features_) features.values.push_back(std::to_string(value));
  genes.push_back(std::move(features));
  std::vector<int> start(genes.size(), 0);
  set_genes("mixed-unet", std::move(genes), std::move(start));
}

bool MixedUnetSpace::opens(const UnetBlock& block) const {
  return block.kernel[axis_] > 1 && volume(in_plane(block.kernel, axis_)) > 1;
}

Graph MixedUnetSpace::write(const Genotype& genotype, bool open) const {
  UnetArchitecture a = planned().architecture;
  set_first_features(a, features_[static_cast<std::size_t>(genotype.values[place_of("features")])]);
  std::size_t gene = kFirstBlockGene;
  Graph graph = make_unet(a, [&](Graph& g, const UnetBlock& block) {
    if (!opens(block)) return add_unet_block(g, block);
    const int pick = open ? kOpen : genotype.values[gene];
    ++gene;
    const auto alternative = [&](int kind) {
      Graph inside;
      inside.name = kKindNames[kind];
      int x = inside.add("input", "x", {}, {{"channels", block.in_channels}});
      x = add_convs(inside, "", x, block, kind, axis_);
      if (!norm_after_) x = add_norm_act(inside, "", x, block.activation);
      inside.add("output", "out", {x});
      return inside;
    };
    const std::string name = norm_after_ ? block.name + ".conv" : block.name;
    const int x = add_alternatives(g, name, {block.input}, kKinds, pick, alternative);
    return norm_after_ ? add_norm_act(g, block.name + ".", x, block.activation) : x;
  });
  graph.name = "mixed_unet";
  return graph;
}

Phenotype MixedUnetSpace::network(const Genotype& genotype) const {
  return {write(genotype, false), planned().patch, Json::object()};
}

SuperNetwork MixedUnetSpace::open_network(const Genotype& fixed) const {
  SuperNetwork open{write(fixed, true), {}, planned().patch};
  for (std::size_t b = 0; b < blocks_; ++b) open.genes.push_back(kFirstBlockGene + b);
  return open;
}

Json MixedUnetSpace::describe() const {
  return {{"space", name()},
          {"configuration", to_json(planned())},
          {"norm", norm_after_ ? "after" : "inside"}};
}

std::unique_ptr<SearchSpace> MixedUnetSpace::make(const Json& description) {
  const std::string where = "search space mixed-unet";
  const JsonReader reader(description, where);
  reader.check_keys({"space", "configuration", "norm"});
  return std::make_unique<MixedUnetSpace>(
      configuration_from_json(reader.at("configuration").json(), where + ": configuration"),
      reader.has("norm") ? reader.at("norm").text() : "inside");
}

Json MixedUnetSpace::example() {
  Json description{{"space", "mixed-unet"}};
  description["configuration"] = UnetSpace::example()["configuration"];
  return make(description)->describe();
}

}  // namespace nas
