// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "search_spaces/beside_plan.h"

namespace nas {

struct UnetBlock;

/// The planned U-Net with its convolutions open: V-NAS's question asked of the baseline's own
/// skeleton (ours). Genes:
///   network               network     mixed-unet, plan
///   enc0.0 .. dec2.1 ...  operations  3d (the planned kernel), 2d (flat across the slices), p3d
///                                     (2d, then along the axis across them)
///   features              scale       of the first stage: planned, 3/4, 1/2, 3/8, 1/4 in multiples
///                                     of 4; later stages in proportion
/// One choice for each block of the plan whose kernel extends across the slices; flat kernels stay.
/// Strides, patch and everything else are as planned: start(), 3d everywhere, computes what the
/// planned network computes and differs in names only.
/// "norm": norm and activation "inside" the alternatives (default), or "after" the choice, which
/// then is between convolutions only and can be merged into one kernel.
class MixedUnetSpace : public BesidePlan {
 public:
  /// \throws Error(Input|Shape|Usage) if the plan cannot be built, has no such block, or an option
  /// is unknown.
  explicit MixedUnetSpace(Configuration planned, const std::string& norm = "inside");

  std::string name() const override { return "mixed-unet"; }
  Json describe() const override;

  static std::unique_ptr<SearchSpace> make(const Json& description);
  static Json example();

 private:
  Phenotype network(const Genotype& genotype) const override;
  SuperNetwork open_network(const Genotype& fixed) const override;
  bool opens(const UnetBlock& block) const;
  /// The planned network at the width of `genotype`, with its operations or (open) choices.
  Graph write(const Genotype& genotype, bool open) const;

  std::size_t axis_ = 0;  // across the slices
  bool norm_after_ = false;
  std::size_t blocks_ = 0;              // open ones: genes 1 .. blocks_
  std::vector<std::int64_t> features_;  // of gene "features"
};

}  // namespace nas
