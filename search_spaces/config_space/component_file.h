// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "nas/core/json.h"
#include "nas/network/graph.h"

namespace nas {

// A component of the user's own, which "path" names: a network or loss as TorchScript
// ("my_network.ts"), a network as a graph ("my_network.json"). Clara's "path" names a Python class
// ("my_code.MyNetwork"), which is refused: Python is never run.

/// The places in a description where a component may be a file.
struct FilePlaces {
  Json::json_pointer network, loss;
};
FilePlaces own_file_places();   // of our own form
FilePlaces mmar_file_places();  // of an MMAR

bool is_script_path(const std::string& path);  // "*.ts"
bool is_graph_path(const std::string& path);   // "*.json"

/// Relative files at these places of a resolved description become those of `folder`.
void resolve_component_files(Json& tree,
                             const FilePlaces& places,
                             const std::filesystem::path& folder);

/// \throws Error(Input) with the path of a component that brings Python code, or a file where none
/// is known.
void check_component_files(const Json& tree, const FilePlaces& places, const std::string& where);

/// Whether the component is a file, which then is there. \param component {"path", ...}. \throws
/// Error(Io) naming it.
bool has_component_file(const JsonReader& component);

/// The args of a TorchScript file as text, "" if there are none: each sets an attribute of the
/// module. \throws Error(Input) unless they are numbers, true or false, or text.
std::string script_settings(const JsonReader& args);

/// The network of a file. \param args but for channels and classes. \throws Error(Input|Shape)
/// naming the file, what it takes and gives and what the data set has.
Graph network_of_file(const std::string& file,
                      const JsonReader& args,
                      std::int64_t channels,
                      std::int64_t classes);

}  // namespace nas
