// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/beside_plan.h"

#include <algorithm>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/text.h"
#include "search_spaces/planned_unet/unet.h"

namespace nas {

BesidePlan::BesidePlan(Configuration planned) : planned_(std::move(planned)) {
  planned_parameters_ = total_cost(make_unet(planned_.architecture), planned_.patch).parameters;
}

void BesidePlan::set_genes(const std::string& kind,
                           std::vector<Gene> genes,
                           std::vector<int> start) {
  genes_ = {{"network", "network", {kind, "plan"}}};
  start_.values = {0};
  for (Gene& gene : genes) {
    if (gene.parent >= 0) ++gene.parent;  // "network" stands before all
    genes_.push_back(std::move(gene));
  }
  start_.values.insert(start_.values.end(), start.begin(), start.end());
}

Genotype BesidePlan::baseline() const {
  Genotype plan = start_;
  plan.values[0] = 1;
  return plan;
}

std::vector<Starter> BesidePlan::portfolio() const {
  return {{"plan", baseline()}, {genes_[0].values[0] + " start", start_}};
}

std::string BesidePlan::invalid_reason(const Genotype& genotype) const {
  if (std::string reason = malformed_reason(genotype); !reason.empty()) return reason;
  if (!is_plan(genotype)) return invalid_network(genotype);
  for (std::size_t g = 1; g < genes_.size(); ++g) {
    if (genotype.values[g] == start_.values[g]) continue;
    return "network=plan has no genes of its own: expected " + genes_[g].name + "=" +
           genes_[g].values[static_cast<std::size_t>(start_.values[g])] +
           ", as where searches start";
  }
  return "";
}

std::string BesidePlan::short_text(const Genotype& genotype, const Genotype* from) const {
  const bool planned = malformed_reason(genotype).empty() && is_plan(genotype);
  if (planned) return "plan";
  if (from != nullptr && is_plan(*from)) from = nullptr;
  const std::string genes = short_genes(genotype, from, 1);
  if (from != nullptr) return genes.empty() ? kAsTheStart : genes;
  return genes_[0].values[0] + " " + genes;
}

Phenotype BesidePlan::build(const Genotype& genotype) const {
  check(genotype);
  if (is_plan(genotype)) return {make_unet(planned_.architecture), planned_.patch, Json::object()};
  return network(genotype);
}

SuperNetwork BesidePlan::super_network(const Genotype& fixed) const {
  check(fixed);
  NAS_CHECK_KIND(Usage,
                 !is_plan(fixed),
                 "space ",
                 name(),
                 ": the planned network (network=plan) has nothing to choose; a super-network "
                 "needs a genotype with network=",
                 genes_[0].values[0]);
  return open_network(fixed);
}

std::size_t BesidePlan::one_of(const std::string& option,
                               const std::string& value,
                               const std::vector<std::string>& known) const {
  const auto found = std::ranges::find(known, value);
  if (found != known.end()) return static_cast<std::size_t>(found - known.begin());
  fail(ErrorKind::Usage,
       "search space ",
       name(),
       ": ",
       option,
       ": expected one of \"",
       joined(known, "\", \""),
       "\", found \"",
       value.substr(0, 64),
       "\"",
       did_you_mean(value, known, "\""));
}

double BesidePlan::count() const { return SearchSpace::count() / 2 + 1; }

}  // namespace nas
