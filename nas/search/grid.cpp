// SPDX-License-Identifier: Apache-2.0
#include "nas/search/grid.h"

#include <algorithm>
#include <utility>

namespace nas {

Grid::Grid(const SearchSpace& space,
           const std::vector<std::string>& groups,
           const Genotype& start,
           const std::function<std::vector<int>(std::size_t g)>& values)
    : start_(start) {
  const std::vector<Gene>& genes = space.genes();
  const LinkedGenes* linked = space.linked_genes();
  for (std::size_t g = 0; g < genes.size(); ++g) {
    if (std::ranges::find(groups, genes[g].group) == groups.end()) continue;
    Axis axis{g, {}};
    if (linked && g == linked->first) {
      axis.values = linked->combinations;
      std::ranges::sort(axis.values);
      g += axis.values.front().size() - 1;
    } else {
      for (const int value : values(g)) axis.values.push_back({value});
    }
    combinations_ *= static_cast<double>(axis.values.size());
    axes_.push_back(std::move(axis));
  }
}

void Grid::walk(const std::function<bool(const Genotype&)>& visit) const {
  Genotype genotype = start_;
  std::vector<std::size_t> at(axes_.size(), 0);
  for (bool more = true; more;) {
    for (std::size_t a = 0; a < axes_.size(); ++a) {
      std::ranges::copy(axes_[a].values[at[a]],
                        genotype.values.begin() + static_cast<std::ptrdiff_t>(axes_[a].first));
    }
    if (!visit(genotype)) return;
    more = false;
    for (std::size_t a = axes_.size(); a-- > 0 && !more;) {
      at[a] = (at[a] + 1) % axes_[a].values.size();
      more = at[a] > 0;
    }
  }
}

}  // namespace nas
