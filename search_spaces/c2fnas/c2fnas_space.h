// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "search_spaces/beside_plan.h"
#include "search_spaces/c2fnas/c2fnas.h"

namespace nas {

struct C2fnasOptions {
  std::string operations = "paper";  // or "slides": cell_operation_sets()
  /// Filters of the stem; 0: the largest of 32 (the paper's), 24, 16, 12, 8, 6, 4, 2 with which
  /// start() has at most half of the planned network's parameters (ours), 2 if none has.
  std::int64_t base_filters = 0;
  int deep_supervision = -1;  // outputs on levels 1 and 2 too: 1 yes, 0 no, -1 as planned
};

/// C2FNAS's networks (c2fnas.h) for a planned configuration. Genes:
///   network     network     c2fnas, plan
///   level1..12  topology    0 to 3, the level of each cell: one of macro_candidates()
///   op1..12     operations  of each cell: cell_operations()
///   patch       scale       1, 0.75, 1.25 of the planned edges, rounded to what the strides divide
///   cells       scale       12, 14, 16
///   filters     scale       1, 0.5, 0.75, 1.5 of the base
/// start() has C2FNAS-Panc's levels and 3x3x3 everywhere.
///
/// The paper halves every axis at every level. Here the plan decides (ours): a level takes the
/// per-axis strides of a planned stage. With five stages or more, level 0 is the plan's stage 1
/// (half resolution, as published); with fewer, level 0 has full resolution and a stem without
/// stride, so that small volumes keep four levels; levels below the plan's last stage keep its
/// resolution. describe() and the graph's name say what was done.
class C2fnasSpace : public BesidePlan {
 public:
  /// \throws Error(Input|Shape|Usage) if the plan cannot be built or an option is out of range.
  explicit C2fnasSpace(Configuration planned, const C2fnasOptions& options = {});

  std::string name() const override { return "c2fnas"; }
  const LinkedGenes* linked_genes() const override { return &levels_; }
  Json describe() const override;
  /// What a genotype of the space's own kind stands for.
  C2fnasNetwork describe_network(const Genotype& genotype) const;
  const std::string& adaptation() const { return base_.name; }

  static std::unique_ptr<SearchSpace> make(const Json& description);
  static Json example();

 private:
  std::string invalid_network(const Genotype& genotype) const override;
  Phenotype network(const Genotype& genotype) const override;
  SuperNetwork open_network(const Genotype& fixed) const override;
  Extent3 patch(const Genotype& genotype) const;
  std::string short_word(const std::string& name) const override;

  C2fnasNetwork base_;                 // what no gene changes
  LinkedGenes levels_;                 // genes 1 to 12
  std::vector<Extent3> patches_;       // of gene "patch"
  std::vector<std::int64_t> filters_;  // of gene "filters"
};

}  // namespace nas
