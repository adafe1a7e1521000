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

/// Draws with Graphviz's `dot` program into an SVG, PNG or PDF file (by its extension). `dot` is
/// stopped after `seconds`: its time grows with the square of a graph's edges.
/// \throws Error(Io) if `dot` is missing (naming the Debian package to install), fails or takes
/// longer.
void write_drawing(const Graph& graph,
                   const Extent3& input_space,
                   const std::filesystem::path& file,
                   double seconds = 60);

}  // namespace nas
