// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "nas/search/search_space.h"
#include "supernet/search/decisions.h"

/// Genes of a search space and choices of its super-network, each in terms of the other.
namespace nas {

/// One decision per gene that decides a choice of `network`; option o is the gene's value o.
std::vector<Decision> gene_decisions(const SearchSpace& space, const SuperNetwork& network);

/// `fixed` with the genes that decide choices set to options.
Genotype with_options(const Genotype& fixed,
                      const std::vector<Decision>& decisions,
                      const std::vector<int>& options);

/// Whether the space allows what a path stands for: the picks of `network`, the other genes as in
/// `fixed`. Refers to its arguments.
std::function<bool(const std::vector<int>&)> acceptance(const SearchSpace& space,
                                                        const Genotype& fixed,
                                                        const SuperNetwork& network);

/// Whether `genotype` is a path of the super-network with this id.
bool belongs(const SearchSpace& space, const Genotype& genotype, const std::string& graph);

}  // namespace nas
