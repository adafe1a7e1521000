// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/network_costs.h"

#include <algorithm>

#include "nas/network/graph.h"

namespace nas {
namespace {

constexpr std::size_t kKeptNetworks = 4;

}  // namespace

std::shared_ptr<const Phenotype> NetworkCosts::build(const Genotype& genotype) {
  for (const auto& [built, phenotype] : built_) {
    if (built == genotype) return phenotype;
  }
  auto phenotype = std::make_shared<Phenotype>(space_->build(genotype));
  if (volume(phenotype->patch) == 0) phenotype->patch = patch_;
  if (finish_) finish_(*phenotype);
  built_.emplace_front(genotype, phenotype);
  if (built_.size() > kKeptNetworks) built_.pop_back();
  return phenotype;
}

TrialCost NetworkCosts::of(const Genotype& genotype) {
  const auto phenotype = build(genotype);
  TrialCost cost = network_size(*phenotype, std::min<std::int64_t>(batch_, 4));
  if (plan_work_ == 0) {
    const auto baseline = build(space_->baseline());
    plan_work_ = training_work(baseline->graph, baseline->patch);
  }
  cost.relative_cost = training_work(phenotype->graph, phenotype->patch) / plan_work_;
  return cost;
}

}  // namespace nas
