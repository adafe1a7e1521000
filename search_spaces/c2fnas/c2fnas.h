// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "nas/core/extent.h"
#include "nas/network/graph.h"

namespace nas {

/// The level of each cell.
using CellLevels = std::array<int, 12>;

/// The macro candidates: all ways to walk over the levels in twelve cells that begin and end on
/// level 0, one level at most per move: down to level 3 and back (462), to level 2 and back (330),
/// twice to level 2 and back (165, the stacked hourglass). The paper says "at most about 1000";
/// the rule is ours. In a fixed order.
const std::vector<CellLevels>& macro_candidates();
bool is_macro_candidate(std::span<const int, 12> levels);

/// Operations that a cell chooses from: "paper" {3x3x3, P3D, 2D} or "slides" (the authors' slides'
/// six). \throws Error(Usage) on another name.
const std::vector<std::string>& cell_operations(const std::string& set);
/// The names of the sets.
std::vector<std::string> cell_operation_sets();

/// Networks of C2FNAS (Yu et al., CVPR 2020, arXiv:1912.09628): twelve cells on four levels.
///
///   stem -> cell 1 .. cell 12 -> head          level l has 2 * base_filters * 2^l channels
///
/// Stem: 3x3x3 to base_filters, 3x3x3 with the stem's stride to twice that, 3x3x3; norms and ReLU
/// between. Cell: every input is brought to the cell's level (a finer one by ReLU, a strided 3x3x3,
/// norm; a coarser one by ReLU, 1x1x1, norm, trilinear resizing); the cell's operation (ReLU,
/// convolution, norm) is applied to each input with weights of its own; sum; 1x1x1; norm.
/// Inputs of a cell: the cell before it, and
///   - the second cell: the stem;
///   - a cell that comes up a level: the last cell on its level before the way down;
///   - the last cell, unless it has just come up: the cell that came up to its level (if that is
///     not the cell before it).
/// Head: the last two cells' results (each on level 0), concatenated, ReLU, 3x3x3, norm, ReLU,
/// 1x1x1 to the classes, trilinear to the input's size.
///
/// Published: levels, operations, stem and head in outline, inputs of C2FNAS-Panc's cells. Ours:
/// these rules for other topologies, and 1x1x1 before the resizing instead of after it, which
/// computes the same (both are linear, one in channels and one in space) for an eighth of the work.
struct C2fnasNetwork {
  std::int64_t in_channels = 1;
  std::int64_t classes = 2;  // background included
  CellLevels levels{};
  std::array<int, 12> operations{};  // index into cell_operations(set), or kOpen: a choice
  std::string set = "paper";
  std::int64_t base_filters = 32;
  /// 12, 14 or 16 (ours): more than 12 repeat evenly spaced cells, level and operation included.
  std::int64_t cells = 12;
  Extent3 stem_stride{2, 2, 2};
  std::array<Extent3, 3> strides{
      {{2, 2, 2}, {2, 2, 2}, {2, 2, 2}}};  // level 0 to 1, 1 to 2, 2 to 3
  std::size_t through_plane = 0;           // axis along which 2D kernels are flat
  /// Also outputs on levels 1 and 2, from the last cell there (ours; the plan's trainer weighs
  /// them).
  bool deep_supervision = false;
  std::string name = "c2fnas";
};

/// Which of the twelve cells stands at each place of a network of `cells` cells, and whether it is
/// a repetition.
struct CellPlace {
  int cell = 0;  // 0 .. 11
  bool repeated = false;
};
std::vector<CellPlace> cell_places(std::int64_t cells);

/// The graph. Cells are "cells.1" .. "cells.12" (repetitions "repeats.<cell>"), their choices
/// "cells.1.op" in the order of cell_places(). \throws Error(Input) unless the levels are a macro
/// candidate and the numbers are in range.
Graph make_c2fnas(const C2fnasNetwork& network);

/// The network the paper found on MSD's pancreas: 17.02 M parameters, 150.78 G multiply-adds for
/// one 96x96x96 patch, one channel, three classes.
C2fnasNetwork c2fnas_panc(std::int64_t in_channels, std::int64_t classes);

}  // namespace nas
