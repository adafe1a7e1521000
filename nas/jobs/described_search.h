// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "nas/search/recipe.h"
#include "nas/search/run_search.h"
#include "search_spaces/config_space/config_space.h"

namespace nas {

// What a search over a training description (`voxnas automl`) adds to a search job: the space, a
// recipe around a controller, and what each trial was in the user's own words.

/// The description as a space without data: what can be said before any is read.
ConfigSpace preview_space(const TrainingDescription& description);

/// Whether the trainer knows what every choice asks for, as far as can be told without data: files of
/// the user's are opened and tried, which says their shapes. \throws Error(Io|Input|Usage|Shape).
void check_preview(const ConfigSpace& preview);

/// \param regions whether the data set has any. \param training_cases of a trial. \throws Error(Input|Usage) also where a choice asks for
/// training options that there are not, with its genotype.
std::unique_ptr<ConfigSpace> described_space(const TrainingDescription& description,
                                             const Configuration& planned,
                                             bool regions,
                                             std::int64_t training_cases);

/// Whether --controller names a file with a stage (JSON) and neither a kind nor a program.
bool is_stage_file(const std::string& controller);

/// A stage of kind `controller`, or as the file of that name says (a stage of a recipe without name
/// and share: kind, options, "stop", "pruner", ...), and the final trainings. \throws
/// Error(Usage|Input|Io) with the nearest kind.
Recipe described_recipe(const std::string& controller, const TrainingDescription& description);

}  // namespace nas
