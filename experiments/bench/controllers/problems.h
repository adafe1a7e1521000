// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "nas/search/search_space.h"

namespace nas {

/// Functions to minimise that controllers are compared on; bench_peers.py holds the same ones.
struct Problem {
  std::string name;
  std::vector<Gene> genes;
  double minimum = 0;
  std::function<double(const SearchSpace&, const Genotype&)> value;
};

/// "branin" (2 reals), "hartmann6" (6 reals), "mixed" (a choice, two rates on a log scale, an
/// integer and a real, shaped like the settings of a training).
std::vector<Problem> controller_problems();

/// A gene of group "training", planned in the middle.
Gene number_gene(std::string name, Gene::Kind kind, double lo, double hi, bool log = false);

/// The genes of a problem as a space; its baseline holds the planned values.
class ProblemSpace : public SearchSpace {
 public:
  explicit ProblemSpace(const Problem& problem) : name_(problem.name), genes_(problem.genes) {}
  std::string name() const override { return name_; }
  const std::vector<Gene>& genes() const override { return genes_; }
  std::string invalid_reason(const Genotype& g) const override { return malformed_reason(g); }
  Phenotype build(const Genotype&) const override { return {}; }
  Genotype baseline() const override {
    Genotype genotype;
    for (const Gene& gene : genes_) genotype.values.push_back(gene.planned);
    return genotype;
  }
  Json describe() const override { return {{"name", name_}}; }

 private:
  std::string name_;
  std::vector<Gene> genes_;
};

}  // namespace nas
