// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>  // Phenotype holds a Json

#include "nas/core/json.h"
#include "nas/core/rng.h"
#include "nas/network/graph.h"
#include "nas/search/gene.h"

namespace nas {

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

/// The part of a space that stays open when everything but the genes of group "operations" is
/// fixed: one network with choices.
struct SuperNetwork {
  Graph graph;
  /// The gene that decides choice i (order of choice_sizes); its value index is the alternative. A
  /// gene may decide several choices: a repeated cell, the two branches of a decoder block.
  std::vector<std::size_t> genes;
  Extent3 patch{0, 0, 0};  // voxels
};

/// What close_choices() needs to make the network of `genotype` from `network`.
std::vector<int> picks(const SuperNetwork& network, const Genotype& genotype);

/// Neighbouring genes of which few combinations are valid: drawn and inherited together.
struct LinkedGenes {
  std::size_t first = 0;                       // gene
  std::vector<std::vector<int>> combinations;  // value indices of genes first, first + 1, ...
};

/// A network that a search tries before it draws any.
struct Starter {
  std::string name;  // "plan", "half width", ...
  Genotype genotype;
  std::string missing = {};  // why the space has none of this name, or ""
  double shift = 0;  // what is known beforehand of its final score, against that of the others
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
  /// Where searches start: a genotype of the space's own kind (baseline() where that is one).
  virtual Genotype start() const { return baseline(); }
  /// Networks that are worth trying first, the plan before all; names that the space cannot express
  /// say why. Genotypes may repeat.
  virtual std::vector<Starter> portfolio() const;
  /// Everything needed to make this space again (with make_space() of search_spaces/spaces.h).
  virtual Json describe() const = 0;

  virtual bool has_super_network() const { return false; }
  /// `fixed` with the genes of group "operations" open. Closing the choices by picks(.., g) gives
  /// build(g).graph exactly, names included, for every g that differs from `fixed` in operations
  /// only: weights are inherited by name. \throws Error(Usage) where there is none.
  virtual SuperNetwork super_network(const Genotype& fixed) const;
  /// nullptr: no gene depends on another so much that drawing them one by one would be slow.
  virtual const LinkedGenes* linked_genes() const { return nullptr; }

  /// Whether gene `g` has a meaning in `genotype`; false for a conditional gene whose condition is
  /// not met.
  bool active(const Genotype& genotype, std::size_t g) const;
  /// `genotype` with the planned value in every inactive gene: the one form in which what is the
  /// same is equal. Genotypes in any other form are invalid.
  Genotype canonical(Genotype genotype) const;

  // Free from the description. `groups` empty means all genes may change; others keep their value
  // of `parent` (or of start()). \throws Error(Input) where no valid genotype exists within
  // the groups.
  Genotype sample(Rng& rng,
                  const std::vector<std::string>& groups = {},
                  const Genotype* parent = nullptr) const;
  Genotype mutate(const Genotype& parent,
                  Rng& rng,
                  const std::vector<std::string>& groups = {}) const;  // valid, differs from parent
  /// Valid genotypes a small step away in one active gene: the next choices, 5 % of the range up
  /// and down for numbers (one value at least).
  std::vector<Genotype> neighbours(const Genotype& genotype,
                                   const std::vector<std::string>& groups = {}) const;
  /// Gene by gene, for models: a choice as one number per value, 1 for the one it holds and 0 for
  /// the others; a number as its place in [0, 1].
  std::vector<double> encode(const Genotype& genotype) const;
  /// Product of gene sizes, linked genes together (an upper bound if some are invalid).
  virtual double count() const;
  /// 1 for every choice that differs, and the distance in [0, 1] of every number.
  double distance(const Genotype& a, const Genotype& b) const;
  /// L1 over value indices: for spaces whose choices stand in a meaningful order.
  double steps_between(const Genotype& a, const Genotype& b) const;
  /// All genes, for machines: "features=32 stages=4 ...".
  std::string to_text(const Genotype& genotype) const;
  /// For people: the kind of network, numbered genes together, and single genes where they differ
  /// from start(): "c2fnas 012223210010 ops 3d3d2d... filters=0.5".
  /// \param from a genotype that the reader knows, such as the start of a stage: only what differs
  /// from it is told.
  virtual std::string short_text(const Genotype& genotype, const Genotype* from = nullptr) const;
  /// Genes that are left out keep the value of start(); no gene at all is the baseline. \throws
  /// Error(Usage) with the nearest known name.
  Genotype from_text(const std::string& text) const;
  std::string genotype_id(const Genotype& genotype) const;  // 16 hex digits, stable

 protected:
  /// "" if there is one value per gene, each is in range, and inactive ones are as planned, else the
  /// reason: the first part of invalid_reason().
  std::string malformed_reason(const Genotype& genotype) const;
  void check_form(const Genotype& genotype) const;  // \throws Error(Input) if malformed
  /// \throws Error(Input) naming the space and the reason if the genotype is not valid.
  void check(const Genotype& genotype) const;
  /// Place of a gene. \throws Error(Internal) if there is none of that name.
  std::size_t place_of(std::string_view gene) const;
  /// The part of short_text() about genes `first` and later; "" where nothing is to be told.
  std::string short_genes(const Genotype& genotype,
                          const Genotype* from,
                          std::size_t first = 0) const;
  /// What short_text() calls the genes "<name>1", "<name>2", ... together; "" for no word.
  virtual std::string short_word(const std::string& name) const { return name; }

  static constexpr const char* kAsTheStart = "as the start";
};

}  // namespace nas
