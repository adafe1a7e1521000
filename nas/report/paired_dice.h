// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "nas/core/json.h"

namespace nas {

/// Dice of two final trainings on the cases that both were scored on.
class PairedDice {
 public:
  /// \param cases list of {"best_classes", "baseline_classes"}, each as in a run's details.
  explicit PairedDice(const Json& cases);

  std::size_t size() const { return best_.size(); }
  /// ForegroundMean of the cases given by their indices, repetitions count; NaN if not scored.
  double best(std::span<const std::size_t> cases) const { return figure(best_, cases); }
  double baseline(std::span<const std::size_t> cases) const { return figure(baseline_, cases); }
  double difference(std::span<const std::size_t> cases) const {
    return best(cases) - baseline(cases);
  }

 private:
  using Table = std::vector<std::vector<std::optional<double>>>;  // [case][class]
  static double figure(const Table& table, std::span<const std::size_t> cases);
  Table best_, baseline_;
};

}  // namespace nas
