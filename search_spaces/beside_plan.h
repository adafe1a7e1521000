// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "nas/search/search_space.h"
#include "search_spaces/planned_unet/plan.h"

namespace nas {

/// A space whose networks are of another kind than the planned U-Net, which takes part as
/// individual 0. The first gene, "network" (group "network"), says which: its first value is the
/// space's own kind, its second "plan", and then all other genes stand as in start().
/// Subclasses call set_genes() once, in their constructor.
class BesidePlan : public SearchSpace {
 public:
  const std::vector<Gene>& genes() const final { return genes_; }
  Genotype baseline() const final;  // the plan, built with its own names
  Genotype start() const final { return start_; }
  std::vector<Starter> portfolio() const override;  // the plan and start()
  std::string invalid_reason(const Genotype& genotype) const final;
  Phenotype build(const Genotype& genotype) const final;
  bool has_super_network() const final { return true; }
  SuperNetwork super_network(const Genotype& fixed) const final;
  double count() const override;
  std::string short_text(const Genotype& genotype, const Genotype* from = nullptr) const final;
  const Configuration& planned() const { return planned_; }

 protected:
  /// \throws Error(Input|Shape) if the planned network cannot be built.
  explicit BesidePlan(Configuration planned);
  /// `start`: values of `genes`, which come after the gene "network".
  void set_genes(const std::string& kind, std::vector<Gene> genes, std::vector<int> start);
  /// What the genes of a well-formed genotype of the space's own kind forbid each other.
  virtual std::string invalid_network(const Genotype&) const { return ""; }
  /// Network and patch of a valid genotype of the space's own kind.
  virtual Phenotype network(const Genotype& genotype) const = 0;
  virtual SuperNetwork open_network(const Genotype& fixed) const = 0;

  /// Place of an option's value among the known ones. \throws Error(Usage) naming the option, the
  /// known values and the nearest one.
  std::size_t one_of(const std::string& option,
                     const std::string& value,
                     const std::vector<std::string>& known) const;

  /// Parameters of the planned network.
  std::int64_t planned_parameters() const { return planned_parameters_; }

 private:
  bool is_plan(const Genotype& genotype) const { return genotype.values[0] == 1; }
  Configuration planned_;
  std::int64_t planned_parameters_ = 0;
  std::vector<Gene> genes_;
  Genotype start_;
};

}  // namespace nas
