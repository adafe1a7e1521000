// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>  // Phenotype holds a Json

#include "nas/core/json.h"
#include "nas/core/rng.h"
#include "nas/network/graph.h"

namespace nas {

/// One gene: an integer in [0, values) with a meaning for each value.
struct Gene {
  std::string name;   // "stages"
  std::string group;  // "topology", "operations", "scale", "training"
  std::vector<std::string>
      values;  // text of each value, the planned default where there is one first
};

/// A point of a search space: one value index per gene, in the space's order.
struct Genotype {
  std::vector<int> values;
  auto operator<=>(const Genotype&) const = default;
};

/// What a genotype stands for: the network and, where the space searches them, patch size and
/// training settings.
struct Phenotype {
  Graph graph;
  Extent3 patch{0, 0, 0};  // voxels
  Json training;           // overrides of training options by name; empty object if none
};

/// A set of networks described by genes. Subclasses give the genes, validity and the graph; the
/// rest comes free.
class SearchSpace {
 public:
  virtual ~SearchSpace() = default;
  virtual std::string name() const = 0;
  virtual const std::vector<Gene>& genes() const = 0;
  /// "" if valid, else the reason.
  virtual std::string invalid_reason(const Genotype& genotype) const = 0;
  virtual Phenotype build(const Genotype& genotype) const = 0;  // \throws Error(Input) if invalid
  /// Individual 0: the planned baseline.
  virtual Genotype baseline() const = 0;
  /// Where searches start: a genotype of the space's own kind (the baseline where that is one).
  virtual Genotype start() const { return baseline(); }
  /// Everything needed to make this space again (with `make_space`).
  virtual Json describe() const = 0;

  // Free from the description. `groups` empty means all genes may change; others keep their value
  // of `parent` (or of the baseline). \throws Error(Input) where no valid genotype exists within
  // the groups.
  Genotype sample(Rng& rng,
                  const std::vector<std::string>& groups = {},
                  const Genotype* parent = nullptr) const;
  Genotype mutate(const Genotype& parent,
                  Rng& rng,
                  const std::vector<std::string>& groups = {}) const;  // valid, differs from parent
  Genotype crossover(const Genotype& a, const Genotype& b, Rng& rng) const;  // valid
  std::vector<Genotype> neighbours(
      const Genotype& genotype) const;  // valid ones that differ in one gene
  double count() const;  // product of gene sizes (an upper bound if some are invalid)
  std::vector<double> encode(const Genotype& genotype) const;   // one-hot
  double distance(const Genotype& a, const Genotype& b) const;  // L1 over value indices
  std::string to_text(const Genotype& genotype) const;          // "features=32 stages=4 ..."
  /// Genes that are left out keep the baseline's value. \throws Error(Usage) with the nearest known
  /// name.
  Genotype from_text(const std::string& text) const;
  std::string genotype_id(const Genotype& genotype) const;  // 16 hex digits, stable

 protected:
  /// "" if there is one value per gene and each is in range, else the reason: the first part of
  /// invalid_reason().
  std::string malformed_reason(const Genotype& genotype) const;
};

/// The factory: one visible table of spaces ("unet", ...) in search_space.cpp. `description` is
/// what describe() gave. \throws Error(Usage) on an unknown space, Error(Input) on a damaged
/// description.
std::unique_ptr<SearchSpace> make_space(const Json& description);
std::vector<std::string> space_names();
/// The description of a small space of this kind, for tests and examples.
Json example_description(const std::string& name);

}  // namespace nas
