// SPDX-License-Identifier: Apache-2.0
#include "supernet/gene_decisions.h"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>

#include "nas/core/error.h"
#include "nas/network/graph.h"

namespace nas {

std::vector<Decision> gene_decisions(const SearchSpace& space, const SuperNetwork& network) {
  const std::vector<int> sizes = choice_sizes(network.graph);
  NAS_CHECK_KIND(Internal,
                 sizes.size() == network.genes.size(),
                 "space ",
                 space.name(),
                 ": super-network with ",
                 sizes.size(),
                 " choices, genes for ",
                 network.genes.size());
  std::vector<Decision> decisions;
  for (std::size_t c = 0; c < sizes.size(); ++c) {
    const std::size_t gene = network.genes[c];
    const Gene& meaning = space.genes().at(gene);
    NAS_CHECK_KIND(Internal,
                   meaning.count() == sizes[c],
                   "space ",
                   space.name(),
                   ": gene ",
                   meaning.name,
                   " has ",
                   meaning.count(),
                   " values, its choice ",
                   c,
                   " ",
                   sizes[c],
                   " alternatives");
    auto found = std::find_if(decisions.begin(), decisions.end(), [&](const Decision& decision) {
      return decision.gene == gene;
    });
    if (found == decisions.end()) {
      Decision decision;
      decision.name = meaning.name;
      decision.gene = gene;
      decision.picks.resize(static_cast<std::size_t>(meaning.count()));
      found = decisions.insert(decisions.end(), std::move(decision));
    }
    found->choices.push_back(c);
    for (int o = 0; o < sizes[c]; ++o) found->picks[static_cast<std::size_t>(o)].push_back(o);
  }
  return decisions;
}

Genotype with_options(const Genotype& fixed,
                      const std::vector<Decision>& decisions,
                      const std::vector<int>& options) {
  Genotype genotype = fixed;
  for (std::size_t d = 0; d < decisions.size(); ++d) {
    genotype.values.at(decisions[d].gene.value()) = options[d];
  }
  return genotype;
}

std::function<bool(const std::vector<int>&)> acceptance(const SearchSpace& space,
                                                        const Genotype& fixed,
                                                        const SuperNetwork& network) {
  return [&space, &fixed, &network](const std::vector<int>& picked) {
    Genotype genotype = fixed;
    for (std::size_t c = 0; c < picked.size(); ++c) {
      genotype.values.at(network.genes[c]) = picked[c];
    }
    return space.invalid_reason(genotype).empty();
  };
}

bool belongs(const SearchSpace& space, const Genotype& genotype, const std::string& graph) {
  try {
    return graph_id(space.super_network(genotype).graph) == graph;
  } catch (const Error&) {
    return false;  // it has none
  }
}

}  // namespace nas
