// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "nas/core/json.h"
#include "search_spaces/config_space/components.h"
#include "search_spaces/config_space/search_rules.h"

namespace nas {

/// A training description with what is searched in it: our own ("format": "voxnas.training",
/// "version": 1) or the training configuration of one of Clara Train's MMARs.
struct TrainingDescription {
  Json root;
  Json environment = Json::object();  // environment.json of an MMAR
  std::string where;                  // file, for messages
  std::filesystem::path folder;       // absolute; files that it names relatively lie there
  bool mmar = false;
  SearchRules rules;

  /// Concrete, in our own form. \param values per dimension, one value per arg; none: as written.
  /// \param notes on what has no effect here.
  Json concrete(const std::vector<std::optional<Json>>& values,
                std::vector<std::string>* notes = nullptr) const;
  /// The same in the form that the description has.
  Json resolved(const std::vector<std::optional<Json>>& values) const;
};

/// Checks form and search rules. \param where the file. \throws Error(Input|Usage) with the path.
TrainingDescription make_description(Json root, Json environment, std::string where);

/// What an MMAR's config_automl.json asks for.
struct AutomlSettings {
  std::string controller;       // "" if it does not say; else a kind of strategy
  std::int64_t max_rounds = 0;  // 0: not said
  std::int64_t keep = 0;        // trial folders that are kept, 0: not said
  double stop_at = 0;           // score, 0: not said (Clara's 1 is never reached)
  std::vector<std::string> notes;
};
/// \throws Error(Input) on a controller of its own (Python), naming the other way.
AutomlSettings read_automl_settings(const Json& value, const std::string& where);

/// What `voxnas automl CONFIG` reads.
struct AutomlFiles {
  TrainingDescription description;
  std::optional<AutomlSettings> automl;
};
/// CONFIG: a description, a training configuration of Clara's, or the folder of an MMAR, of which
/// config/`name` (config_train.json if empty), config/environment.json and config/config_automl.json
/// are read. Beside a configuration of Clara's its environment.json is read.
/// \throws Error(Io|Input|Usage) naming the file; JSON that is none with line and column.
AutomlFiles read_automl_files(const std::filesystem::path& config, const std::string& name);

}  // namespace nas
