// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "nas/network/graph.h"

namespace nas {

// A node "torchscript" stands for a module of the user's own: a file that torch.jit.script wrote,
// from the input to logits of its size. Attributes: `file` (where it lies: not part of what the
// graph is), `hash` of the file, `out_channels`, `settings` (what of the module's own attributes is
// set, a JSON object as text; ""), `multiple` (sizes that it takes).
inline constexpr const char* kScriptOp = "torchscript";
inline constexpr const char* kScriptFile = "file";

/// The first such node, at any depth; nullptr: none.
const Node* file_node(const Graph& graph);
/// \throws Error(Usage) if there is one: such a network cannot be written as `form`.
void refuse_file_nodes(const Graph& graph, std::string_view form);

/// A network that is one file. \throws Error(Io).
Graph torchscript_network(const std::string& file,
                          std::int64_t channels,
                          std::int64_t classes,
                          const std::string& settings = {});

/// Files whose names are relative: of `folder`. read_graph does it.
void resolve_files(Graph& graph, const std::string& folder);
/// With files beside or below `folder` named relative to it, as write_graph writes them.
Graph with_relative_files(Graph graph, const std::string& folder);
/// With no files named: what the graph is, wherever they lie.
Graph without_files(Graph graph);

}  // namespace nas
