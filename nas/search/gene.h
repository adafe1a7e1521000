// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nas/core/rng.h"

namespace nas {

/// One dimension of a search space. A genotype holds an index in [0, count()) for it, also where
/// the gene stands for a number: a real gene has many levels, so that genotypes stay lists of
/// integers with exact texts and ids.
struct Gene {
  enum class Kind {
    Choice,   // one of `values`
    Integer,  // lo, lo + 1, ... hi
    Real      // `levels` numbers from lo to hi, in equal steps or equal ratios
  };

  std::string name;  // "stages"
  /// "topology", "operations", "scale", "training"; "network" where a gene says whether this is the
  /// planned network or one of the space's own kind.
  std::string group;
  /// Choice: text of each value, the planned default where there is one first. Empty for numbers.
  std::vector<std::string> values;
  Kind kind = Kind::Choice;
  double lo = 0, hi = 1;    // Integer, Real: both ends belong to it
  bool log = false;         // steps are ratios; lo > 0
  std::int64_t levels = 0;  // Real; 0 for kLevels
  /// Conditional: active only where gene `parent` (an earlier one) is active and holds one of the
  /// indices `active_for`. An inactive gene holds `planned`. -1: always active.
  std::int64_t parent = -1;
  std::vector<int> active_for = {};
  int planned = 0;  // index of the planned value

  static constexpr std::int64_t kLevels = 10'001;  // over four decades a step is 0.09 %

  bool ordered() const { return kind != Kind::Choice; }  // a number
  std::int64_t count() const;
  /// Text of value `i`: the choice, or the shortest decimal within [lo, hi] that index() gives `i`
  /// for. \throws Error(Internal) unless 0 <= i < count().
  std::string text(int i) const;
  /// The number `i` stands for. \throws Error(Internal) for a choice.
  double value(int i) const;
  /// The value of this text; of a number within [lo, hi], the nearest level. nullopt if none.
  std::optional<int> index(std::string_view text) const;
  /// Place of value `i` in [0, 1], equal distances for equal steps (ratios where `log`).
  double unit(int i) const;
  int index_of_unit(double u) const;  // the nearest value; u is held to [0, 1]
  /// A value at random: each index alike, but integers with `log` evenly over their logarithm.
  int draw(Rng& rng) const;
  /// "a, b, c" or "0.001 to 0.1 (log)", for messages.
  std::string range_text() const;
  /// "" if well formed, else what is wrong: bounds, duplicate or unwritable texts, planned.
  /// \param place of this gene in its space.
  std::string malformed_reason(std::size_t place) const;
};

}  // namespace nas
