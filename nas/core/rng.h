// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "nas/core/philox.h"

namespace nas {

/// Counter-based random numbers as a value: a key (the stream) and a counter (the place in it).
/// The same seed and splits give the same numbers on every machine, thread and worker count.
///   Rng rng = Rng(seed).split("augment", step, sample);
class Rng {
 public:
  explicit Rng(std::uint64_t seed = 0);
  explicit Rng(std::string_view seed);

  /// An independent stream named by `label` and any number of integers. Does not advance this one.
  Rng split(std::string_view label) const;
  template <class... Numbers>
  Rng split(std::string_view label, Numbers... numbers) const {
    Rng child = split(label);
    ((child = child.mixed(static_cast<std::uint64_t>(numbers))), ...);
    return child;
  }

  std::uint32_t bits();                     // uniform over 32 bits
  std::uint64_t bits64();                   // uniform over 64 bits
  double uniform();                         // [0, 1), 53 bits
  double uniform(double low, double high);  // [low, high)
  std::int64_t integer(std::int64_t low,
                       std::int64_t high);  // [low, high), unbiased; throws unless low < high
  double normal();                          // mean 0, deviation 1 (Box-Muller)
  bool chance(double probability);          // true with `probability`

  /// Fisher-Yates.
  template <class T>
  void shuffle(std::vector<T>& items) {
    for (std::size_t i = items.size(); i > 1; --i) {
      std::swap(items[i - 1],
                items[static_cast<std::size_t>(integer(0, static_cast<std::int64_t>(i)))]);
    }
  }

  std::uint64_t key() const { return key_; }
  std::uint64_t counter() const { return counter_; }
  /// Puts a stream back where it was saved.
  static Rng restore(std::uint64_t key, std::uint64_t counter);
  bool operator==(const Rng&) const = default;

 private:
  Rng mixed(std::uint64_t number) const;
  std::uint64_t key_ = 0;
  std::uint64_t counter_ = 0;  // in 32-bit words
};

}  // namespace nas
