// SPDX-License-Identifier: Apache-2.0
#include "nas/report/paired_dice.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "nas/imaging/metrics.h"
#include "nas/report/text.h"

namespace nas {

PairedDice::PairedDice(const Json& cases) {
  for (const Json& one : cases) {
    best_.push_back(class_dice(part(one, "best_classes")));
    baseline_.push_back(class_dice(part(one, "baseline_classes")));
  }
}

double PairedDice::figure(const Table& table, std::span<const std::size_t> cases) {
  std::size_t classes = 0;
  for (const auto& row : table) classes = std::max(classes, row.size());
  ForegroundMean mean(classes);
  for (const std::size_t i : cases) {
    for (std::size_t k = 0; k < table[i].size(); ++k) mean.add(k, table[i][k]);
  }
  return mean.value().value_or(NAN);
}

}  // namespace nas
