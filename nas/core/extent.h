// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace nas {

/// Voxels along D, H, W (z, y, x).
using Extent3 = std::array<std::int64_t, 3>;
/// Millimetres (or any real triple) along D, H, W (z, y, x).
using Vec3 = std::array<double, 3>;

constexpr std::int64_t volume(const Extent3& e) { return e[0] * e[1] * e[2]; }

/// "40x56x40".
inline std::string to_text(const Extent3& e) {
  return std::to_string(e[0]) + "x" + std::to_string(e[1]) + "x" + std::to_string(e[2]);
}

}  // namespace nas
