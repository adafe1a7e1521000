// SPDX-License-Identifier: Apache-2.0
#include "nas/search/unit_space.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace nas {

UnitSpace::UnitSpace(const SearchSpace& space,
                     const std::vector<std::string>& groups,
                     Genotype start)
    : space_(&space), start_(std::move(start)) {
  for (std::size_t g = 0; g < space.genes().size(); ++g) {
    const Gene& gene = space.genes()[g];
    if (gene.count() < 2 || std::ranges::find(groups, gene.group) == groups.end()) continue;
    conditional_ |= gene.parent >= 0;
    const bool coarse = gene.ordered() && gene.count() <= UnitDimension::kFewValues;
    coarse_ |= coarse;
    dimensions_.push_back({g, !gene.ordered(), static_cast<int>(gene.count()), coarse});
  }
}

std::vector<double> UnitSpace::point(const Genotype& genotype) const {
  std::vector<double> point(size());
  for (std::size_t d = 0; d < size(); ++d) {
    const UnitDimension& dimension = dimensions_[d];
    const int value = genotype.values[dimension.gene];
    const bool active = space_->active(genotype, dimension.gene);
    point[d] = dimension.category ? (active ? value : kInactiveChoice)
               : active           ? gene(d).unit(value)
                                  : kInactiveNumber;
  }
  return point;
}

Genotype UnitSpace::genotype(std::span<const double> point) const {
  Genotype genotype = start_;
  for (std::size_t d = 0; d < size(); ++d) {
    const UnitDimension& dimension = dimensions_[d];
    genotype.values[dimension.gene] =
        dimension.category
            ? std::clamp(static_cast<int>(std::lround(point[d])), 0, dimension.count - 1)
            : gene(d).index_of_unit(point[d]);
  }
  return space_->canonical(std::move(genotype));
}

void UnitSpace::settle(std::span<double> point) const {
  for (std::size_t d = 0; coarse_ && d < size(); ++d) {
    if (dimensions_[d].coarse) point[d] = gene(d).unit(gene(d).index_of_unit(point[d]));
  }
  if (!conditional_) return;
  const Genotype whole = genotype(point);
  for (std::size_t d = 0; d < size(); ++d) {
    if (space_->active(whole, dimensions_[d].gene)) continue;
    point[d] = dimensions_[d].category ? kInactiveChoice : kInactiveNumber;
  }
}

bool UnitSpace::active(std::span<const double> settled, std::size_t dimension) const {
  return !conditional_ || space_->active(genotype(settled), dimensions_[dimension].gene);
}

std::vector<char> UnitSpace::active(std::span<const double> settled) const {
  std::vector<char> mask(size(), 1);
  if (!conditional_) return mask;
  const Genotype whole = genotype(settled);
  for (std::size_t d = 0; d < size(); ++d) mask[d] = space_->active(whole, dimensions_[d].gene);
  return mask;
}

double UnitSpace::spread(std::size_t dimension, double uniform) const {
  if (!dimensions_[dimension].category) return uniform;
  const int count = dimensions_[dimension].count;
  return std::min(count - 1, static_cast<int>(uniform * count));
}

std::vector<double> UnitSpace::spread(std::span<const double> uniform) const {
  std::vector<double> point(size());
  for (std::size_t d = 0; d < size(); ++d) point[d] = spread(d, uniform[d]);
  settle(point);
  return point;
}

}  // namespace nas
