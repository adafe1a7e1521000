// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "nas/core/extent.h"
#include "nas/network/graph.h"

namespace nas {

/// A choice that is left open when a network is written.
constexpr int kOpen = -1;

/// Writes a choice of `count` alternatives, or, with pick >= 0, only the picked one under the names
/// that close_choices() would give it, so that a closed network need not write the others. Returns
/// the node of the result. \throws Error(Internal) unless kOpen <= pick < count.
int add_alternatives(Graph& graph,
                     const std::string& name,
                     const std::vector<int>& inputs,
                     int count,
                     int pick,
                     const std::function<Graph(int)>& alternative);

/// The axis (0 D, 1 H, 2 W) across the slices: that of the coarsest spacing, D where all are alike.
/// The papers' kernels "3x3x1" are flat along it.
std::size_t through_plane_axis(const Vec3& spacing_mm);

/// `kernel` (3x3x3) within the slices (2D: 3x3x1), and along the axis across them (1x1x3).
Extent3 in_plane(Extent3 kernel, std::size_t axis);
Extent3 through_plane(const Extent3& kernel, std::size_t axis);

/// Convolutions with nothing between them.
struct ConvChain {
  std::vector<Extent3> kernels;
  Extent3 stride{
      1, 1, 1};  // of the whole: each axis strides in the first kernel that extends along it
  std::int64_t dilation = 1;
  bool bias = false;  // of the last one; a bias before it would only move its result
};
/// Nodes "<name>conv", or "<name>conv_a", "<name>conv_b", ... if there are several. Returns the
/// last.
int add_conv_chain(Graph& graph,
                   const std::string& name,
                   int input,
                   std::int64_t channels,
                   const ConvChain& chain);

inline std::vector<std::int64_t> axes(const Extent3& e) { return {e[0], e[1], e[2]}; }

}  // namespace nas
