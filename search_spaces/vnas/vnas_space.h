// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "search_spaces/beside_plan.h"
#include "search_spaces/vnas/vnas.h"

namespace nas {

struct VnasOptions {
  /// "instance" or "batch". The re-implementation has batch norm; a search here trains the
  /// super-net with two samples a step, from which running statistics of a mixture of operations
  /// are worth little, so the default is instance norm (ours).
  std::string normalization = "instance";
  std::string norm = "inside";  // the alternatives, or "after" the choice: VnasNetwork::norm_after
  double width = 1;             // factor of the published widths
};

/// V-NAS's networks (vnas.h) for a planned configuration. Genes:
///   network     network     vnas, plan
///   enc1..16    operations  2d, 3d, p3d: the paper's digits 0, 1, 2
///   dec1..5     operations  likewise
/// start() is 3D everywhere, as the paper starts from a 3D U-Net. The patch is the plan's. Strides
/// are the plan's, stage by stage; where the plan has fewer than six stages the last groups keep
/// the resolution (ours). describe() and the graph's name say so.
class VnasSpace : public BesidePlan {
 public:
  /// \throws Error(Input|Shape|Usage) if the plan cannot be built or an option is out of range.
  explicit VnasSpace(Configuration planned, const VnasOptions& options = {});

  std::string name() const override { return "vnas"; }
  Json describe() const override;
  VnasCode code(const Genotype& genotype) const;
  Genotype genotype(const VnasCode& code) const;
  const std::string& adaptation() const { return base_.name; }

  static std::unique_ptr<SearchSpace> make(const Json& description);
  static Json example();

 private:
  Phenotype network(const Genotype& genotype) const override;
  SuperNetwork open_network(const Genotype& fixed) const override;

  VnasNetwork base_;  // what no gene changes
};

}  // namespace nas
