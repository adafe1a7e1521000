// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "nas/core/extent.h"
#include "nas/network/graph.h"

namespace nas {

/// V-NAS's code: 0 2D, 1 3D, 2 P3D for each of 16 encoder cells and 5 decoder blocks; or kOpen.
struct VnasCode {
  std::array<int, 16> encoder{};
  std::array<int, 5> decoder{};
  bool operator==(const VnasCode&) const = default;
};

/// The paper's way to write it, in groups of 3, 4, 6, 3 and 5: "022 2000 221211 011 | 10201".
std::string to_text(const VnasCode& code);
/// Spaces and the bar may be left out. \throws Error(Usage) unless it is 21 digits 0, 1 or 2.
VnasCode vnas_code_from_text(const std::string& text);
/// "2d", "3d", "mix" (2D encoder, P3D decoder: the paper's baseline), "msd-pancreas" (the code the
/// paper found there) or a code. \throws Error(Usage) naming the nearest of these.
VnasCode named_vnas_code(const std::string& name);

/// Networks of V-NAS (Zhu et al., 3DV 2019, arXiv:1906.02817).
///
///   stem /2 -> /4 -> 3 cells -> /8, 4 cells -> /16, 6 cells -> /32, 3 cells
///     |s1       |s2     |g1        |g2             |g3             |
///     +- dec5 <-+- dec4 +- dec3 <--+- dec2 <-------+- dec1 <-------+  -> pyramid pooling
///                                                                                     -> classes
/// Widths 40, 60, 80, 160.
///
/// Stem: 7x7x1 to 24 channels, strided in the slices; pooling across them, 1x1x3 to 40; pooling.
/// Encoder cell: x + ReLU(norm(conv_b(conv_a(x)))), (conv_a, conv_b) = (3x3x1, 1x1x1) 2D,
/// (3x3x3, 1x1x1) 3D, (3x3x1, 1x1x3) P3D. Down: 1x1x1 strided in the slices, pooling across them,
/// 1x1x1 to the new width. Decoder block of C channels, c = C/2: left = 1x1x1 to c, k_a, 1x1x1,
/// norm, ReLU; right from left = 1x1x1, k_b, 1x1x1, norm, ReLU; x + concat(left, right), with the
/// cells' kernel pairs. Up: 1x1x1, trilinear; skips are added. Head: average pooling by 1, 2, 4, 8,
/// 1x1x1 to C/4 each, trilinear to the input's size, concatenated, 1x1x1 to the classes.
///
/// Published: the operations, 16 cells in groups of 3, 4, 6, 3, five decoder blocks, pyramid
/// pooling. The widths and the wiring follow a public re-implementation; norms behind the stem's
/// convolutions (with ReLU), the down and the up convolutions are ours.
struct VnasNetwork {
  std::int64_t in_channels = 1;
  std::int64_t classes = 2;  // background included
  VnasCode code;
  double width = 1;        // factor of all widths, which stay multiples of 4
  bool batch_norm = true;  // as the re-implementation; false: instance norm
  /// Norm and activation behind a choice instead of inside its alternatives, which then are two
  /// convolutions in a row, so that all of a choice can be merged into one kernel. A decoder block
  /// then has two choices that belong together (left, right).
  bool norm_after = false;
  /// Strides of the stem's two halvings and of the groups 2, 3, 4.
  std::array<Extent3, 5> strides{{{2, 2, 2}, {2, 2, 2}, {2, 2, 2}, {2, 2, 2}, {2, 2, 2}}};
  std::size_t through_plane = 0;  // axis across the slices
  std::string name = "vnas";
};

/// The graph. Choices are "encoder.1.op" .. "encoder.16.op", "decoder.1.op" .. "decoder.5.op" (with
/// norm_after "decoder.1.left.op", "decoder.1.right.op", ...). The pools are smaller where the
/// strides leave less to pool, so that every patch that the strides divide will do. \throws
/// Error(Input) if a number is out of range.
Graph make_vnas(const VnasNetwork& network);

}  // namespace nas
