// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/orientation.h"

#include <Eigen/Dense>
#include <algorithm>
#include <cctype>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "nas/core/error.h"
#include "nas/imaging/nifti.h"

namespace nas {
namespace {

constexpr std::array<const char*, 3> kSides{"RL", "AP", "SI"};  // towards +x, -x; +y, -y; +z, -z
constexpr double kTie = 1e-9;  // cosines that differ by less are equal but for rounding

Eigen::Matrix3d axes_of(const Geometry& g) {
  Eigen::Matrix3d m;
  for (int row = 0; row < 3; ++row) {
    for (int col = 0; col < 3; ++col)
      m(row, col) = g.affine[static_cast<std::size_t>(4 * row + col)];
  }
  return m;
}

/// The row nearest to each column, each row once, and whether the column points backwards along it.
struct NearestRows {
  std::array<int, 3> row{0, 1, 2};
  std::array<bool, 3> backwards{false, false, false};
};

/// The most decided column chooses first; on ties the earlier column and the earlier row.
NearestRows nearest_rows(Eigen::Matrix3d m) {
  const auto clearly_larger = [](double a, double b) { return a > b + kTie; };
  std::array<int, 3> order{0, 1, 2};
  const Eigen::RowVector3d strength = m.cwiseAbs().colwise().maxCoeff();
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return clearly_larger(strength[a], strength[b]);
  });
  NearestRows result;
  std::array<bool, 3> taken{false, false, false};
  for (const int col : order) {
    int best = -1;
    for (int row = 0; row < 3; ++row) {
      if (taken[static_cast<std::size_t>(row)]) continue;
      if (best < 0 || clearly_larger(std::abs(m(row, col)), std::abs(m(best, col)))) best = row;
    }
    taken[static_cast<std::size_t>(best)] = true;
    result.row[static_cast<std::size_t>(col)] = best;
    result.backwards[static_cast<std::size_t>(col)] = m(best, col) < 0;
  }
  return result;
}

/// The rotation (perhaps with a mirroring) nearest to the directions of the columns.
Eigen::Matrix3d closest_rotation(Eigen::Matrix3d m) {
  for (int col = 0; col < 3; ++col) {
    const double length = m.col(col).norm();
    if (length > 0) m.col(col) /= length;
  }
  const Eigen::JacobiSVD<Eigen::Matrix3d> svd(m, Eigen::ComputeFullU | Eigen::ComputeFullV);
  return svd.matrixU() * svd.matrixV().transpose();
}

bool are_axis_codes(const std::string& codes) {
  return codes.size() == 3 && std::ranges::all_of(kSides, [&](const char* side) {
           return std::ranges::count(codes, side[0]) + std::ranges::count(codes, side[1]) == 1;
         });
}

/// \param columns for each of the source's x, y, z the x, y or z of the result and its direction.
Turn turn_of(const NearestRows& columns) {
  Turn turn;
  for (std::size_t col = 0; col < 3; ++col) {
    const auto to = static_cast<std::size_t>(2 - columns.row[col]);
    turn.axis[to] = static_cast<int>(2 - col);
    turn.reversed[to] = columns.backwards[col];
  }
  return turn;
}

}  // namespace

std::string axis_codes(const Geometry& geometry) {
  const NearestRows nearest = nearest_rows(closest_rotation(axes_of(geometry)));
  std::string codes;
  for (std::size_t col = 0; col < 3; ++col) {
    codes += kSides[static_cast<std::size_t>(nearest.row[col])][nearest.backwards[col] ? 1 : 0];
  }
  return codes;
}

std::string parse_axis_codes(const std::string& text, const std::string& where) {
  std::string codes;
  for (const char c : text) {
    codes += static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  bool good = codes.size() == 3;
  for (const char* side : kSides) {
    good = good && std::ranges::count(codes, side[0]) + std::ranges::count(codes, side[1]) == 1;
  }
  NAS_CHECK_KIND(
      Usage,
      good,
      where,
      ": expected the sides that x, y and z point to, one letter each of R or L, A or P, "
      "S or I (as RAS, LPS), got \"",
      text,
      "\"");
  return codes;
}

void write_orientation(Json& object, const std::string& codes) {
  if (!codes.empty()) object["orientation"] = codes;
}

std::string read_orientation(const JsonReader& object) {
  if (!object.has("orientation")) return "";
  std::string codes = object.at("orientation").text();
  NAS_CHECK(are_axis_codes(codes),
            object.at("orientation").where(),
            ": expected axis codes as RAS or LPS, found \"",
            codes,
            "\"");
  return codes;
}

Turn inverse(const Turn& turn) {
  Turn result;
  for (std::size_t i = 0; i < 3; ++i) {
    const auto from = static_cast<std::size_t>(turn.axis[i]);
    result.axis[from] = static_cast<int>(i);
    result.reversed[from] = turn.reversed[i];
  }
  return result;
}

Turn combined(const Turn& first, const Turn& then) {
  Turn result;
  for (std::size_t i = 0; i < 3; ++i) {
    const auto middle = static_cast<std::size_t>(then.axis[i]);
    result.axis[i] = first.axis[middle];
    result.reversed[i] = then.reversed[i] != first.reversed[middle];
  }
  return result;
}

Geometry turned(const Geometry& source, const Turn& turn) {
  if (turn.is_identity()) return source;
  Geometry result;
  result.shape = turned_values(source.shape, turn);
  result.spacing_mm = turned_values(source.spacing_mm, turn);
  for (std::size_t row = 0; row < 3; ++row) {
    double origin = source.affine[4 * row + 3];
    for (std::size_t i = 0; i < 3; ++i) {
      const auto axis = static_cast<std::size_t>(turn.axis[i]);
      const double step = source.affine[4 * row + (2 - axis)];
      result.affine[4 * row + (2 - i)] = turn.reversed[i] ? -step : step;
      if (turn.reversed[i]) origin += static_cast<double>(source.shape[axis] - 1) * step;
    }
    result.affine[4 * row + 3] = origin;
  }
  return result;
}

template <class T>
Volume<T> turned(const Volume<T>& source, const Turn& turn) {
  if (turn.is_identity()) return source;
  Volume<T> result;
  result.geometry = turned(source.geometry, turn);
  result.channels = source.channels;
  result.voxels.resize(source.voxels.size());
  const Extent3& from = source.geometry.shape;
  Extent3 strides = turned_values(Extent3{from[1] * from[2], from[2], 1}, turn);
  const Extent3& to = result.geometry.shape;
  std::int64_t start = 0;
  for (std::size_t i = 0; i < 3; ++i) {
    if (!turn.reversed[i]) continue;
    start += (to[i] - 1) * strides[i];
    strides[i] = -strides[i];
  }
  for (std::int64_t c = 0; c < source.channels; ++c) {
    const T* read = source.channel(c).data() + start;
    T* write = result.channel(c).data();
    for (std::int64_t d = 0; d < to[0]; ++d) {
      for (std::int64_t h = 0; h < to[1]; ++h) {
        const std::int64_t row = d * strides[0] + h * strides[1];
        for (std::int64_t w = 0; w < to[2]; ++w) *write++ = read[row + w * strides[2]];
      }
    }
  }
  return result;
}
template Image turned(const Image&, const Turn&);
template LabelMap turned(const LabelMap&, const Turn&);

Turn turn_to(const Geometry& grid, const std::string& codes) {
  if (codes.empty()) return {};
  const std::string own = axis_codes(grid);
  NearestRows columns;
  for (std::size_t col = 0; col < 3; ++col) {
    for (const char* side : kSides) {
      const std::string_view pair(side);
      if (pair.find(own[col]) == std::string_view::npos) continue;
      const std::size_t to = codes.find_first_of(side);
      columns.row[col] = static_cast<int>(to);
      columns.backwards[col] = codes[to] != own[col];
    }
  }
  return turn_of(columns);
}

Turn turn_onto(const Geometry& from, const Geometry& to) {
  // Directions of the axes of `from` in the axes of `to`; a rotation's inverse is its transpose.
  return turn_of(
      nearest_rows(closest_rotation(axes_of(to)).transpose() * closest_rotation(axes_of(from))));
}

bool same_grid(const Geometry& a, const Geometry& b, double tolerance) {
  return a.shape == b.shape &&
         grid_distance_mm(a, b) <= tolerance * *std::ranges::min_element(b.spacing_mm);
}

std::optional<Turn> turn_within_case(const Geometry& part, const Geometry& first) {
  if (!part.oriented() || !first.oriented()) return Turn{};
  const Turn turn = turn_onto(part, first);
  if (turn.is_identity() || same_grid(turned(part, turn), first)) return turn;
  return std::nullopt;
}

OrientationChoice choose_orientation(std::map<std::string, std::int64_t> cases,
                                     std::int64_t unsaid,
                                     const std::string& asked) {
  OrientationChoice choice{.codes = asked, .asked = !asked.empty(), .cases = {}, .unsaid = unsaid};
  std::int64_t most = 0;
  for (const auto& [codes, count] : cases) {
    if (choice.asked || count <= most) continue;
    choice.codes = codes;
    most = count;
  }
  choice.cases = std::move(cases);
  return choice;
}

std::string to_text(const OrientationChoice& choice) {
  std::string counts;
  for (const auto& [codes, count] : choice.cases) {
    counts += concat_text(counts.empty() ? "" : ", ", count, " ", codes);
  }
  std::string text = choice.codes;
  if (choice.asked) {
    text += concat_text(", as asked (cases: ", counts, ")");
  } else if (choice.cases.size() > 1) {
    text += concat_text(", the commonest (cases: ", counts, "); the others are turned to it");
  }
  if (choice.unsaid > 0) {
    text += concat_text("; ",
                        choice.unsaid,
                        choice.unsaid == 1 ? " file says" : " files say",
                        " none (neither qform nor sform) and count as RAS");
  }
  return text;
}

}  // namespace nas
