// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "nas/core/json.h"
#include "nas/imaging/volume.h"

namespace nas {

/// Largest distance, in voxels, between grids that count as one.
inline constexpr double kGridTolerance = 0.1;

/// The sides of the patient that the file's x, y and z point to: "RAS", "LPS", ... Each axis gets
/// the nearest side of the closest rotation (polar decomposition), the most decided axis first, the
/// earlier one on a tie. Source: the rule of nibabel's io_orientation, in which rounding may decide
/// an exact tie (45 degrees) otherwise.
std::string axis_codes(const Geometry& geometry);
/// `text` in capitals. \throws Error(Usage) naming `where` unless it has one letter of each of RL,
/// AP, SI.
std::string parse_axis_codes(const std::string& text, const std::string& where);

/// The key "orientation" of a JSON object: left out and "" where nothing is known. \throws
/// Error(Input) naming the place if it holds anything else.
void write_orientation(Json& object, const std::string& codes);
std::string read_orientation(const JsonReader& object);

/// Axes permuted and reversed: axis i (D H W) of the result is axis `axis[i]` of the source, read
/// backwards where `reversed[i]`.
struct Turn {
  std::array<int, 3> axis{0, 1, 2};
  std::array<bool, 3> reversed{false, false, false};
  bool operator==(const Turn&) const = default;
  bool is_identity() const { return *this == Turn{}; }
};
Turn inverse(const Turn& turn);
Turn combined(const Turn& first, const Turn& then);

/// Values of the source's axes in the order of the result's.
template <class T>
std::array<T, 3> turned_values(const std::array<T, 3>& values, const Turn& turn) {
  std::array<T, 3> result{};
  for (std::size_t i = 0; i < 3; ++i) result[i] = values[static_cast<std::size_t>(turn.axis[i])];
  return result;
}
/// Where the turned voxels lie: every voxel stays at its place in the patient.
Geometry turned(const Geometry& source, const Turn& turn);
/// Voxels and geometry turned. For float and std::int16_t.
template <class T>
Volume<T> turned(const Volume<T>& source, const Turn& turn);
template <class T>
Volume<T> turned(Volume<T>&& source, const Turn& turn) {
  return turn.is_identity() ? std::move(source) : turned(std::as_const(source), turn);
}

/// The turn that brings a grid to axis codes ("" : as it is).
Turn turn_to(const Geometry& grid, const std::string& codes);
/// The turn after which the axes of `from` run as those of `to`, as nearly as turns can.
Turn turn_onto(const Geometry& from, const Geometry& to);
/// True if the grids have one shape and put no voxel further apart than `tolerance` of the smallest
/// voxel edge of `b`.
bool same_grid(const Geometry& a, const Geometry& b, double tolerance = kGridTolerance);

/// How a channel or label is turned onto the first image of its case: not at all if their axes run
/// alike or one of them says no orientation; none if the axes differ and the grids do not agree
/// after the turn either.
std::optional<Turn> turn_within_case(const Geometry& part, const Geometry& first);

/// Which orientation a data set is used in.
struct OrientationChoice {
  std::string codes;
  bool asked = false;                         // by the user; else the commonest
  std::map<std::string, std::int64_t> cases;  // codes -> cases
  std::int64_t unsaid = 0;                    // of the cases: files that say no orientation
};
/// The commonest codes (the first in the alphabet on a tie) unless `asked` names some.
OrientationChoice choose_orientation(std::map<std::string, std::int64_t> cases,
                                     std::int64_t unsaid,
                                     const std::string& asked);
/// "LPS, the commonest of 12 LPS, 3 RAS; the others are turned to it".
std::string to_text(const OrientationChoice& choice);

}  // namespace nas
