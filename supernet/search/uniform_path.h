// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "nas/core/rng.h"
#include "nas/network/graph.h"
#include "supernet/search/decisions.h"

namespace nas {

/// Draws paths uniformly over all closed graphs of a super-network (C2FNAS, Yu et al., CVPR 2020:
/// uniform single-path sampling). Choices inside an alternative are weighted by the number of
/// closed graphs behind it; they must be free (a decision of their own each).
class PathSampler {
 public:
  /// \throws Error(Usage) for nested choices that one decision ties together.
  PathSampler(const Graph& graph, std::vector<Decision> decisions);

  /// The path of step `step`: a function of both numbers alone, so that a resumed training draws
  /// what the straight one would have drawn. `accept`, if given, refuses some; \throws Error(Usage)
  /// if it refuses 1000 in a row.
  std::vector<int> draw(std::uint64_t seed,
                        std::int64_t step,
                        const std::function<bool(const std::vector<int>&)>& accept = {}) const;
  double count() const { return count_; }  // closed graphs

 private:
  struct Choice;
  struct Level {
    std::vector<Choice> choices;
  };
  struct Choice {
    std::size_t number = 0;
    std::vector<Level> alternatives;
    std::vector<double> counts;  // closed graphs behind each
  };
  static Level read(const Graph& graph, std::size_t& next, bool& nested);
  static double count(Level& level);
  static void draw(const Level& level, Rng& rng, std::vector<int>& picks);

  std::vector<Decision> decisions_;
  Level root_;
  std::size_t choice_count_ = 0;
  bool nested_ = false;
  double count_ = 0;
};

}  // namespace nas
