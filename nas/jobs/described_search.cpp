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

/// Whose trials are trainings of their own, and which is not a program: a file starts none.
bool may_control(const StrategyKind& kind) {
  return !kind.final && !kind.needs_super_network && !kind.starts_programs;
}

const StrategyKind& controller_kind(const std::string& name, const std::string& where) {
  std::vector<std::string> known;
  for (const StrategyKind* kind : strategy_kinds()) {
    if (!may_control(*kind)) continue;
    if (name == kind->name) return *kind;
    known.push_back(kind->name);
  }
  fail(ErrorKind::Usage,
       where,
       ": expected one of ",
       joined(known),
       ", found '",
       name,
       "'",
       did_you_mean(name, known));
}

constexpr const char* kStage = "search";
constexpr double kSearchShare = 0.3, kFinalShare = 0.7;

Recipe recipe_of_kind(const std::string& controller) {
  Recipe recipe;
  recipe.name = "automl";
  recipe.space = "config";
  recipe.stages = {make_stage(controller_kind(controller, "controller"), kStage, kSearchShare),
                   make_stage(*find_kind(strategy_kinds(), "retrain"), "final", kFinalShare)};
  return recipe;
}

/// A stage as in a recipe: its kind with options, stop rules and a pruner.
Recipe recipe_of_file(const std::string& file) {
  Json stage = read_json(file);
  const JsonReader reader(stage, file);
  controller_kind(reader.at("kind").text(), reader.at("kind").where());
  for (const char* key : {"name", "share"}) {
    NAS_CHECK_KIND(
        Usage, !reader.has(key), file, ": ", key, ": is that of the recipe, leave it out");
  }
  stage["name"] = kStage;
  stage["share"] = kSearchShare;
  const Json recipe{
      {"format", "voxnas.recipe"},
      {"version", 1},
      {"name", "automl"},
      {"space", "config"},
      {"stages", {stage, {{"name", "final"}, {"kind", "retrain"}, {"share", kFinalShare}}}}};
  return recipe_from_json(recipe, file, strategy_kinds());
}

}  // namespace

bool is_stage_file(const std::string& controller) { return controller.ends_with(".json"); }

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
  Recipe recipe =
      is_stage_file(controller) ? recipe_of_file(controller) : recipe_of_kind(controller);
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
