// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nas/search/search_space.h"
#include "search_spaces/planned_unet/plan.h"

namespace nas {

/// U-Nets around a planned configuration. Patch, strides and kernels stay as planned; genes,
/// planned value first:
/// - kind (topology): plain, residual
/// - stages (topology): planned, one and two fewer, one more (if the bottleneck keeps
///   4 voxels)
/// - blocks (topology): per encoder stage, the planned list or 1 to 3: convolutions (plain) or
///   residual blocks
/// - decoder_convs (topology): per decoder stage: the planned list, 1 or 2
/// - features (scale): of the first stage: planned and 1/4 .. 2 of it in multiples of 4; later
///   stages in proportion
class UnetSpace : public SearchSpace {
 public:
  explicit UnetSpace(
      Configuration planned);  // \throws Error(Input|Shape) if the planned network cannot be built

  std::string name() const override { return "unet"; }
  const std::vector<Gene>& genes() const override { return genes_; }
  std::string invalid_reason(const Genotype& genotype) const override;
  Phenotype build(const Genotype& genotype) const override;
  Genotype baseline() const override;
  /// The plan; half and a quarter of its width; the other kind of block, also at half width; a
  /// stage less; double width. The starts of other spaces say that this one lacks them.
  std::vector<Starter> portfolio() const override;
  Json describe() const override;

  /// The network that `build` makes a graph of. \throws Error(Input) if invalid.
  UnetArchitecture architecture(const Genotype& genotype) const;
  const Configuration& planned() const { return planned_; }

  static std::unique_ptr<SearchSpace> make(const Json& description);
  static Json example();

 private:
  int value(const Genotype& genotype, std::string_view gene) const;
  const std::string& text(const Genotype& genotype, std::string_view gene) const;
  Configuration planned_;
  std::vector<Gene> genes_;
  std::vector<int> stage_values_;             // of gene "stages"
  std::vector<std::int64_t> feature_values_;  // of gene "features"
};

}  // namespace nas
