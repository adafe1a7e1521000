// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "nas/core/json.h"
#include "nas/search/gene.h"

namespace nas {

// How a training description says what is searched, and how it becomes concrete. The rules are
// those of NVIDIA Clara Train 4.x AutoML (user guide and the configurations of its examples); they
// look at "search", "apply", "disabled" and "ref" alone and know no component by name.
//
// A component is an object with "args". Its "search" lists dimensions: {"domain", "type", "args",
// "targets"}, also at top level for first-level parameters. Ours: "type": "int", "log", "default"
// and "when".

/// One dimension of the search.
struct Dimension {
  /// What a value of the dimension is written to.
  struct Arg {
    std::string name;         // "prob", "disabled"
    bool attribute = false;   // "@disabled": of the component, not of its args
    bool is_virtual = false;  // top level, no parameter of that name: only applied elsewhere
    std::string alias;        // "" if it has none
  };
  std::string key;     // Clara's: "net.enum.train.model$0:channels"
  std::string domain;  // "lr", "net", "transform": a label
  std::string type;    // "enum", "float", "int"
  std::string path;    // of the component: "train.model"; "" at top level
  Json::json_pointer at;
  std::size_t index = 0;  // in the component's search list
  std::vector<Arg> args;
  Json choices;           // enum: a list with a list of one value per arg for each choice
  double lo = 0, hi = 0;  // float, int: one drawn number goes to all args
  bool log = false;
  /// One value per arg as written; null where there is none (virtual). With "default": that.
  Json written;
  bool has_default = false;
  /// "when": active for choices `when_choices` of dimension `when`. -1: always.
  std::int64_t when = -1;
  std::vector<int> when_choices;
};

/// "apply": {"prob": "myProb"}.
struct Apply {
  std::string path;  // of the component
  Json::json_pointer at;
  std::string name;  // "prob", or "disabled"
  bool attribute = false;
  std::size_t dimension = 0, arg = 0;  // whose value it takes
};

struct SearchRules {
  std::vector<Dimension> dimensions;  // in the order of paths; what "when" asks for before
  std::vector<Apply> applies;
  std::vector<std::string> notes;  // parked keys, virtual args that nobody applies
};

/// Checks every search and apply of the tree. \throws Error(Input|Usage) naming `where`, the path,
/// what was expected and found.
SearchRules find_search_rules(const Json& root, const std::string& where);

/// The gene of a dimension. Its planned value is the one as written.
/// \param written set to whether the values as written are among those of the gene.
Gene make_gene(const Dimension& dimension, bool* written);
/// One value per arg for value `i` of the gene: as written for the planned one.
Json dimension_values(const Dimension& dimension, const Gene& gene, int i, bool written);

/// "train.pre_transforms[6]".
std::string path_text(const Json::json_pointer& pointer);

/// Keys that begin so are parked: ignored with a note.
constexpr const char* kParked = "__";

}  // namespace nas
