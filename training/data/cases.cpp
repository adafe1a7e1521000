// SPDX-License-Identifier: Apache-2.0
#include "training/data/cases.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/rng.h"

namespace nas {

InnerSplit draw_inner_validation(const std::vector<std::string>& ids,
                                 double share,
                                 std::uint64_t seed) {
  NAS_CHECK(ids.size() >= 2,
            "fold: a search needs at least 2 training cases (one to learn, one to validate), "
            "found ",
            ids.size());
  std::vector<std::string> shuffled = ids;
  Rng rng = Rng(seed).split("inner validation");
  rng.shuffle(shuffled);
  const auto n = static_cast<std::int64_t>(shuffled.size());
  const auto wanted = std::llround(share * static_cast<double>(n));
  const auto count = static_cast<std::ptrdiff_t>(
      std::clamp<std::int64_t>(wanted, 1, std::min(kMostValidation, n - 1)));
  InnerSplit split;
  split.validation.assign(shuffled.begin(), shuffled.begin() + count);
  split.training.assign(shuffled.begin() + count, shuffled.end());
  std::sort(split.validation.begin(), split.validation.end());
  std::sort(split.training.begin(), split.training.end());
  return split;
}

CaseSelection select_cases(const Split& fold, double share, std::uint64_t seed) {
  InnerSplit inner = draw_inner_validation(fold.train, share, seed);
  NAS_CHECK(!fold.val.empty(), "fold: expected at least one held-out case, found none");
  CaseSelection cases;
  cases.training = fold.train;
  cases.held_out = fold.val;
  cases.inner_validation = std::move(inner.validation);
  cases.inner_training = std::move(inner.training);
  return cases;
}

Json to_json(const CaseSelection& cases) {
  return {{"training", cases.training},
          {"inner_training", cases.inner_training},
          {"inner_validation", cases.inner_validation},
          {"held_out", cases.held_out}};
}

CaseSelection case_selection_from_json(const Json& value, const std::string& where) {
  const JsonReader reader(value, where);
  return {reader.at("training").texts(),
          reader.at("inner_training").texts(),
          reader.at("inner_validation").texts(),
          reader.at("held_out").texts()};
}

}  // namespace nas
