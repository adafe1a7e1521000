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
  built_.emplace_front(genotype, phenotype);
  if (built_.size() > kKeptNetworks) built_.pop_back();
  return phenotype;
}

TrialCost NetworkCosts::of(const Genotype& genotype) {
  const auto phenotype = build(genotype);
  const std::int64_t batch = std::min<std::int64_t>(batch_, 4);
  TrialCost cost;
  cost.graph_id = graph_id(phenotype->graph);
  cost.parameters = total_cost(phenotype->graph, phenotype->patch).parameters;
  cost.macs = total_cost(first_output_only(phenotype->graph), phenotype->patch).macs;
  if (plan_work_ == 0) {
    const auto baseline = build(space_->baseline());
    plan_work_ = training_work(baseline->graph, baseline->patch);
  }
  cost.relative_cost = training_work(phenotype->graph, phenotype->patch) / plan_work_;
  cost.memory_bytes = training_memory_bytes(phenotype->graph, phenotype->patch, batch, 4, 2);
  return cost;
}

}  // namespace nas
