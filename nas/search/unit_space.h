// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "nas/search/search_space.h"

namespace nas {

/// A gene that a stage may change, as a dimension of a model.
struct UnitDimension {
  std::size_t gene = 0;  // of the space
  bool category = false;
  int count = 0;        // values, 2 at least
  bool coarse = false;  // a number with so few values that what lies between them misleads a model
  static constexpr int kFewValues = 64;
};

/// The free genes of a stage as points for models of numbers: a number is its place in [0, 1], a
/// choice the index of its value. An inactive gene has kInactiveNumber or kInactiveChoice, so that
/// two genotypes in which it is inactive do not differ in it, and what distinguishes it from an
/// active one is above all the gene that it depends on.
class UnitSpace {
 public:
  static constexpr double kInactiveNumber = 0.5, kInactiveChoice = -1;

  /// \param groups of genes that may change; the others keep the value of `start`.
  UnitSpace(const SearchSpace& space, const std::vector<std::string>& groups, Genotype start);

  const std::vector<UnitDimension>& dimensions() const { return dimensions_; }
  std::size_t size() const { return dimensions_.size(); }
  const Gene& gene(std::size_t dimension) const {
    return space_->genes()[dimensions_[dimension].gene];
  }
  std::vector<double> point(const Genotype& genotype) const;
  /// The nearest genotype, inactive genes as planned; it may be invalid.
  Genotype genotype(std::span<const double> point) const;
  /// Makes a point that was made coordinate by coordinate one that point() may give: coarse numbers
  /// go to their nearest value, inactive genes get what they have there.
  void settle(std::span<double> point) const;
  bool active(std::span<const double> settled, std::size_t dimension) const;
  /// The same for every dimension.
  std::vector<char> active(std::span<const double> settled) const;
  /// From a point of [0, 1)^size, uniform over the values of every gene.
  std::vector<double> spread(std::span<const double> uniform) const;
  /// One coordinate of that.
  double spread(std::size_t dimension, double uniform) const;

 private:
  const SearchSpace* space_;
  Genotype start_;
  std::vector<UnitDimension> dimensions_;
  bool conditional_ = false, coarse_ = false;  // any of them
};

}  // namespace nas
