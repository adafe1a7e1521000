// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nas/search/search_space.h"
#include "search_spaces/config_space/components.h"
#include "search_spaces/config_space/description.h"
#include "search_spaces/planned_unet/plan.h"

namespace nas {

/// The settings of a training as a search space: what a training description (Clara Train's AutoML
/// rules) searches. A gene per dimension, named by Clara's key.
///
/// Individual 0 is the configuration as written, without any searched value. Where the values as
/// written are not among the searched ones, a gene "configuration" (group "network") stands before
/// all: "searched", for which the others are active, or "as_written". Where the description is
/// nothing as written (two alternatives are enabled), it is the first valid genotype.
class ConfigSpace : public SearchSpace {
 public:
  using MakeSpace = std::unique_ptr<SearchSpace> (*)(const Json&);

  /// \param training_cases what an epoch is. \throws Error(Input) with the path where the
  /// description, or what some choice makes of it, is not understood, and where no combination is
  /// valid.
  ConfigSpace(TrainingDescription description,
              Configuration planned,
              std::int64_t training_cases,
              MakeSpace make_space);

  std::string name() const override { return "config"; }
  const std::vector<Gene>& genes() const override { return genes_; }
  std::string invalid_reason(const Genotype& genotype) const override;
  Phenotype build(const Genotype& genotype) const override;
  Genotype baseline() const override { return baseline_; }
  Genotype start() const override { return start_; }
  std::vector<Starter> portfolio() const override;
  Json describe() const override;
  std::string short_text(const Genotype& genotype, const Genotype* from = nullptr) const override;

  const TrainingDescription& description() const { return description_; }
  /// The description of a genotype, concrete: in our own form, or in the one that it has.
  Json concrete(const Genotype& genotype, std::vector<std::string>* notes = nullptr) const;
  Json resolved(const Genotype& genotype) const;
  /// Of individual 0; steps, seed and data settings are those of all.
  ConcreteTraining settings() const;
  /// What the user should know: parked keys, ignored blocks, combinations that are not valid.
  const std::vector<std::string>& notes() const { return notes_; }
  /// Combinations of choices, if nothing but choices is searched.
  std::optional<std::int64_t> product() const;
  /// A genotype for every value of every choice, and both ends of every range, the rest as the
  /// first valid one: what to try before a search begins.
  std::vector<Genotype> probes() const;

  static std::unique_ptr<SearchSpace> make(const Json& description, MakeSpace make_space);
  static Json example();  // a small description, for tests

 private:
  std::vector<std::optional<Json>> values(const Genotype& genotype) const;
  void make_genes();
  void choose_baseline();
  void check_choices();
  void note_files(const Genotype& genotype);
  std::size_t gene_of(std::size_t dimension) const { return dimension + (written_gene_ ? 1 : 0); }
  ConcreteTraining read(const Genotype& genotype) const;

  TrainingDescription description_;
  Configuration planned_;
  std::int64_t training_cases_;
  MakeSpace make_space_;
  bool written_gene_ = false;
  std::vector<char> written_;  // per dimension: its values as written are those of planned
  std::vector<Gene> genes_;
  std::map<std::string, std::string> files_;  // of the user's own components -> hash
  Genotype baseline_, start_;
  std::vector<std::string> notes_;
};

/// What `voxnas automl --dry-run` prints: dimensions with their keys, their product, notes.
std::string dry_run_text(const ConfigSpace& space);

/// A configuration for looking at a description without data: patch, channels and classes as the
/// description says, else small ones.
Configuration stand_in_configuration(const TrainingDescription& description);

}  // namespace nas
