// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "nas/search/search_space.h"

namespace nas {

/// All combinations of values of the genes of some groups around one genotype; linked genes are one
/// axis, whose values are their combinations.
class Grid {
 public:
  /// \param groups genes of other groups keep their value of `start`.
  /// \param values which values of gene g take part, in their order.
  Grid(const SearchSpace& space,
       const std::vector<std::string>& groups,
       const Genotype& start,
       const std::function<std::vector<int>(std::size_t g)>& values);

  double combinations() const { return combinations_; }  // valid or not
  std::size_t axes() const { return axes_.size(); }
  /// Shows each combination, the last axis running fastest, until `visit` returns false.
  void walk(const std::function<bool(const Genotype&)>& visit) const;

 private:
  struct Axis {
    std::size_t first;                     // gene
    std::vector<std::vector<int>> values;  // of genes first, first + 1, ...
  };
  Genotype start_;
  std::vector<Axis> axes_;
  double combinations_ = 1;
};

}  // namespace nas
