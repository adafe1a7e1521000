// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <string>
#include <vector>

namespace nas::test {

/// The 48 ways to store a volume: "RAS", "LAS", ..., "SPR".
inline std::vector<std::string> all_orientations() {
  std::vector<std::string> result;
  std::string axes = "012";
  do {
    for (int flips = 0; flips < 8; ++flips) {
      std::string codes;
      for (std::size_t i = 0; i < 3; ++i) {
        const char* const sides[] = {"RL", "AP", "SI"};
        codes += sides[axes[i] - '0'][flips >> i & 1];
      }
      result.push_back(codes);
    }
  } while (std::next_permutation(axes.begin(), axes.end()));
  return result;
}

}  // namespace nas::test
