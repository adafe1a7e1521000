// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <utility>

#include "nas/core/extent.h"
#include "nas/search/evaluator.h"
#include "nas/search/search_space.h"

namespace nas {

/// What the networks of a space cost, by their graphs alone: all that who decides, but trains
/// nothing, asks of an evaluator. The last few networks are kept.
class NetworkCosts {
 public:
  /// \param space outlives this. \param patch of networks that have none of their own.
  /// \param batch planned; memory is counted for 4 patches at most, as the search trains.
  /// \param finish what only LibTorch knows of a network (probe_script); empty: nothing.
  NetworkCosts(const SearchSpace& space,
               const Extent3& patch,
               std::int64_t batch,
               std::function<void(Phenotype&)> finish = {})
      : space_(&space), patch_(patch), batch_(batch), finish_(std::move(finish)) {}

  /// \throws Error(Input|Shape) if the network cannot be built.
  std::shared_ptr<const Phenotype> build(const Genotype& genotype);
  TrialCost of(const Genotype& genotype);

 private:
  const SearchSpace* space_;
  Extent3 patch_;
  std::int64_t batch_;
  std::function<void(Phenotype&)> finish_;
  std::list<std::pair<Genotype, std::shared_ptr<const Phenotype>>> built_;
  double plan_work_ = 0;  // training_work of the plan; 0: not asked for yet
};

}  // namespace nas
