// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "nas/core/extent.h"
#include "nas/network/graph.h"

namespace nas {

/// The graph in Graphviz's DOT language: a box per convolution with the norm and activation that
/// follow it, a frame per stage (from the dotted names), colours by kind of operation, tensor
/// shapes on the edges. An open choice is one box that lists its alternatives.
std::string to_dot(const Graph& graph, const Extent3& input_space);

/// Draws with Graphviz's `dot` program into an SVG, PNG or PDF file (by its extension).
/// \throws Error(Io) if `dot` is missing or fails, naming the Debian package to install.
void write_drawing(const Graph& graph,
                   const Extent3& input_space,
                   const std::filesystem::path& file);

}  // namespace nas
