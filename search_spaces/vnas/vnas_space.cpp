// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/vnas/vnas_space.h"

#include <algorithm>
#include <vector>

#include "nas/core/error.h"
#include "search_spaces/alternatives.h"
#include "search_spaces/planned_unet/unet_space.h"

namespace nas {

VnasSpace::VnasSpace(Configuration given, const VnasOptions& options)
    : BesidePlan(std::move(given)) {
  const UnetArchitecture& a = planned().architecture;
  base_.in_channels = a.in_channels;
  base_.classes = a.classes;
  base_.width = options.width;
  base_.batch_norm = one_of("normalization", options.normalization, {"instance", "batch"}) == 1;
  base_.norm_after = one_of("norm", options.norm, {"inside", "after"}) == 1;
  base_.through_plane = through_plane_axis(planned().spacing);
  base_.name = "vnas: strides of the stem's two steps and of groups 2, 3, 4:";
  for (std::size_t s = 0; s < base_.strides.size(); ++s) {
    const bool planned_stage = s + 1 < a.strides.size();
    base_.strides[s] = planned_stage ? a.strides[s + 1] : Extent3{1, 1, 1};
    base_.name += (s ? ", " : " ") + nas::to_text(base_.strides[s]);
    if (!planned_stage) base_.name += " (deeper than the plan)";
  }

  std::vector<Gene> genes;
  for (std::size_t i = 0; i < base_.code.encoder.size(); ++i)
    genes.push_back({"enc" + std::to_string(i + 1), "operations", {"2d", "3d", "p3d"}});
  for (std::size_t i = 0; i < base_.code.decoder.size(); ++i)
    genes.push_back({"dec" + std::to_string(i + 1), "operations", {"2d", "3d", "p3d"}});
  std::vector<int> start(genes.size(), 1);
  set_genes("vnas", std::move(genes), std::move(start));
  infer_shapes(network(BesidePlan::start()).graph, planned().patch);  // proof that it can be built
}

VnasCode VnasSpace::code(const Genotype& genotype) const {
  check(genotype);
  VnasCode code;
  const auto from = [&](const char* gene) {
    return genotype.values.begin() + static_cast<std::ptrdiff_t>(place_of(gene));
  };
  std::copy_n(from("enc1"), code.encoder.size(), code.encoder.begin());
  std::copy_n(from("dec1"), code.decoder.size(), code.decoder.begin());
  return code;
}

Genotype VnasSpace::genotype(const VnasCode& code) const {
  Genotype result = start();
  const auto at = [&](const char* gene) {
    return result.values.begin() + static_cast<std::ptrdiff_t>(place_of(gene));
  };
  std::ranges::copy(code.encoder, at("enc1"));
  std::ranges::copy(code.decoder, at("dec1"));
  check(result);
  return result;
}

Phenotype VnasSpace::network(const Genotype& genotype) const {
  VnasNetwork network = base_;
  network.code = code(genotype);
  return {make_vnas(network), planned().patch, Json::object()};
}

SuperNetwork VnasSpace::open_network(const Genotype&) const {
  VnasNetwork network = base_;
  network.code.encoder.fill(kOpen);
  network.code.decoder.fill(kOpen);
  SuperNetwork open{make_vnas(network), {}, planned().patch};
  for (std::size_t g = place_of("enc1"); g < genes().size(); ++g) {
    const bool two = base_.norm_after && g >= place_of("dec1");
    open.genes.insert(open.genes.end(), two ? 2 : 1, g);
  }
  return open;
}

Json VnasSpace::describe() const {
  return {{"space", name()},
          {"configuration", to_json(planned())},
          {"normalization", base_.batch_norm ? "batch" : "instance"},
          {"norm", base_.norm_after ? "after" : "inside"},
          {"width", base_.width},
          {"adaptation", adaptation()}};
}

std::unique_ptr<SearchSpace> VnasSpace::make(const Json& description) {
  const std::string where = "search space vnas";
  const JsonReader reader(description, where);
  reader.check_keys({"space",
                     "configuration",
                     "normalization",
                     "norm",
                     "width",
                     "adaptation"});  // the last one is told, not read
  VnasOptions options;
  if (reader.has("normalization")) options.normalization = reader.at("normalization").text();
  if (reader.has("norm")) options.norm = reader.at("norm").text();
  if (reader.has("width")) options.width = reader.at("width").number();
  return std::make_unique<VnasSpace>(
      configuration_from_json(reader.at("configuration").json(), where + ": configuration"),
      options);
}

Json VnasSpace::example() {
  Json description{{"space", "vnas"}, {"width", 0.1}};
  description["configuration"] = UnetSpace::example()["configuration"];
  return make(description)->describe();
}

}  // namespace nas
