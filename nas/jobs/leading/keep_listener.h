// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "nas/search/run_search.h"

namespace nas {

/// Keeps disk use of a long search bounded: of every stage the `most` best finished trials keep all
/// files of their folders; of the others only settings.json, training.json, config_train.json,
/// log.txt and TensorBoard's events stay (Trial::folder_state "key"). Rows of the database are never
/// removed.
/// Never touched are trials that somebody may still go on from: open ones, those of a stage whose
/// trainings are continued (its controller removes their checkpoints), super-networks, and trials
/// whose weights another one uses.
///
/// While a search stage runs, RUN/best is a link to the folder of its best trial so far; final
/// trainings, whose model lies there in the end, begin without it.
std::unique_ptr<SearchListener> make_keep_listener(const std::filesystem::path& run_folder,
                                                   std::int64_t most);

}  // namespace nas
