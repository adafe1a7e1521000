// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "nas/search/search_space.h"

namespace nas {

/// Another space with genes of group "training" behind its own. The first value of each gene leaves
/// the plan alone, so that individual 0 stays individual 0:
/// - optimizer: planned, adamw, sgd, muon; with the learning rate and decay that belong to it
/// - learning_rate: x1, x0.5, x2, x0.25, x4 of what the schedule rule plans
/// - schedule: planned, cosine, poly, constant
/// - weight_decay: x1, x0.1, x10, x0 of the optimizer's
/// - loss: planned (Dice and cross-entropy), dice_focal, ce
/// - foreground: planned, 0.1, 0.5, 0.67: share of patches centred on a labelled voxel
/// - augmentation: x1, x0, x0.5, x1.5, x2 of the planned strength, 2 at most
/// - dropout: 0, 0.1, 0.2, 0.3 between each convolution and its norm (nnU-Net's place)
/// - activation: planned, relu, leaky_relu, elu, prelu instead of every one but sigmoid; without
///   the one that individual 0 has
/// - mirror: no, rule: mirrored images where the schedule rule mirrors; individual 0 is trained
///   without
/// Which of them there are is up to the caller: all but mirror, or what a race of trainings that are
/// continued compares (kRaceGenes): settings that leave steps and learning rate alone. There the
/// portfolio has its first network beside the plan once more with each other value of these.
/// The texts become changes of training options (adjust_train_options) in Phenotype::training;
/// dropout and activation change the graph, also inside open choices. Names of other nodes stay.
/// description: {"space": "training_genes", "configuration": planned, "inner": what the other
/// space's has besides, {"space": "unet"} if left out, "genes": names, if not all but mirror}.
class TrainingGenesSpace : public SearchSpace {
 public:
  /// \param names of its genes; empty: all but mirror. \throws Error(Input) if the inner space has a
  /// gene of the same name, Error(Usage) on an unknown name.
  explicit TrainingGenesSpace(std::unique_ptr<SearchSpace> inner,
                              const std::vector<std::string>& names = {});

  std::string name() const override { return "training_genes"; }
  const std::vector<Gene>& genes() const override { return genes_; }
  std::string invalid_reason(const Genotype& genotype) const override;
  Phenotype build(const Genotype& genotype) const override;
  Genotype baseline() const override { return with_planned(inner_->baseline()); }
  Genotype start() const override { return with_planned(inner_->start()); }
  std::vector<Starter> portfolio() const override;  // the inner space's; in a race its twins too
  Json describe() const override;
  bool has_super_network() const override { return inner_->has_super_network(); }
  SuperNetwork super_network(const Genotype& fixed) const override;
  const LinkedGenes* linked_genes() const override { return inner_->linked_genes(); }
  double count() const override;
  std::string short_text(const Genotype& genotype, const Genotype* from = nullptr) const override;

  const SearchSpace& inner() const { return *inner_; }
  /// The part of `genotype` that belongs to the inner space.
  Genotype inner_part(const Genotype& genotype) const;

  /// \param make_inner makes the other space from its description.
  static std::unique_ptr<SearchSpace> make(const Json& description,
                                           std::unique_ptr<SearchSpace> (*make_inner)(const Json&));

 private:
  Genotype with_planned(Genotype inner) const;
  bool has(std::string_view gene) const;
  /// Of the gene; `planned` where there is none of that name.
  std::string text(const Genotype& genotype,
                   std::string_view gene,
                   const std::string& planned) const;
  Graph changed(const Graph& graph, const Genotype& genotype) const;  // activation, dropout
  std::unique_ptr<SearchSpace> inner_;
  std::vector<Gene> genes_;  // the inner space's first
};

inline const std::vector<std::string> kRaceGenes = {"augmentation", "mirror"};

std::unique_ptr<SearchSpace> with_training_genes(std::unique_ptr<SearchSpace> space,
                                                 const std::vector<std::string>& names = {});
/// Whether mirrored images are a gene of the space, so that nobody else has to decide about them.
bool mirroring_is_searched(const SearchSpace& space);

/// `graph` with other activations: every one but sigmoid becomes `op`, with its default attributes.
Graph with_activation(const Graph& graph, const std::string& op);
/// `graph` with dropout of probability `p` between every convolution and the norm that takes it; a
/// choice counts as a convolution if all of its alternatives end in one.
Graph with_dropout(const Graph& graph, double p);

}  // namespace nas
