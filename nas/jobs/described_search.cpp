// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/described_search.h"

#include <optional>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/text.h"
#include "nas/jobs/strategies/strategies.h"
#include "nas/network/file_nodes.h"
#include "nas/network/operations.h"
#include "nas/network/output_region.h"
#include "nas/search/strategy_kind.h"
#include "search_spaces/spaces.h"
#include "training/fit/script_loss.h"
#include "training/model/script_file.h"
#include "training/settings/plan_training.h"

namespace nas {
namespace {

/// Opens what of the user's own a training names: that the network of a file takes the patch, that
/// the loss is one.
void check_files(Phenotype built,
                 const TrainOptions& options,
                 std::int64_t classes,
                 std::optional<bool> regions,
                 const std::string& where) {
  probe_loss_file(options, classes, regions);
  if (file_node(built.graph) == nullptr) return;
  probe_script(built.graph, built.patch);
  const Extent3 fits = fitting_patch(built.graph, built.patch);
  NAS_CHECK(fits == built.patch,
            where,
            ": sampling.args.patch: expected a size that ",
            attribute_text(*file_node(built.graph), kScriptFile),
            " takes, as ",
            to_text(fits),
            " (D H W), found ",
            to_text(built.patch));
}

/// Whether the trainer knows what every choice asks for, before anything is trained.
void check_trainings(const ConfigSpace& space, std::int64_t classes, std::optional<bool> regions) {
  for (const Genotype& genotype : space.probes()) {
    if (!space.invalid_reason(genotype).empty()) continue;
    const std::string where = space.description().where + " (" + space.short_text(genotype) + ")";
    const Phenotype built = space.build(genotype);
    check_files(built, adjust_train_options(built.training, where, {}), classes, regions, where);
  }
}

}  // namespace

ConfigSpace preview_space(const TrainingDescription& description) {
  return {description, stand_in_configuration(description), 1, make_space};
}

void check_preview(const ConfigSpace& preview) {
  check_trainings(
      preview, stand_in_configuration(preview.description()).architecture.classes, std::nullopt);
}

std::unique_ptr<ConfigSpace> described_space(const TrainingDescription& description,
                                             const Configuration& planned,
                                             bool regions,
                                             std::int64_t training_cases) {
  auto space = std::make_unique<ConfigSpace>(description, planned, training_cases, make_space);
  check_trainings(*space, planned.architecture.classes, regions);
  return space;
}

Recipe described_recipe(const std::string& controller, const TrainingDescription& description) {
  const StrategyKinds& kinds = strategy_kinds();
  std::vector<std::string> known;
  for (const StrategyKind* kind : kinds) {
    if (!kind->final && !kind->needs_super_network) known.push_back(kind->name);
  }
  const StrategyKind* kind = find_kind(kinds, controller);
  if (kind == nullptr || kind->final || kind->needs_super_network)
    fail(ErrorKind::Usage,
         "controller: expected one of ",
         joined(known),
         ", found '",
         controller,
         "'",
         did_you_mean(controller, known));
  Recipe recipe;
  recipe.name = "automl";
  recipe.space = "config";
  recipe.stages = {make_stage(*kind, "search", 0.3),
                   make_stage(*find_kind(kinds, "retrain"), "final", 0.7)};
  const ConcreteTraining settings = preview_space(description).settings();
  recipe.metric = settings.metric;
  if (const auto share = settings.validation) {
    NAS_CHECK(*share > 0 && *share <= 0.5,
              description.where,
              ": validation.args.share: expected more than 0, at most 0.5, found ",
              *share);
    recipe.validation = *share;
  }
  return recipe;
}

}  // namespace nas
