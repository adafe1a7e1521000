// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nas/core/json.h"
#include "nas/imaging/dataset.h"

namespace nas {

/// Who learns from which cases. The held-out cases score retrain trials only, that is, the final
/// comparison; search trials never see them.
struct CaseSelection {
  std::vector<std::string> training;          // of the fold; = inner_training + inner_validation
  std::vector<std::string> inner_training;    // every training learns from these
  std::vector<std::string> inner_validation;  // and are scored on these
  std::vector<std::string> held_out;          // the fold's validation cases
  bool operator==(const CaseSelection&) const = default;
};

/// Training cases that learn, and those that judge the learnt.
struct InnerSplit {
  std::vector<std::string> training, validation;  // sorted
};
/// Draws the inner validation cases: `share` of `ids`, at least 1, at most kMostValidation and all
/// but one. \throws Error(Input) of fewer than two cases.
InnerSplit draw_inner_validation(const std::vector<std::string>& ids,
                                 double share,
                                 std::uint64_t seed);

/// Draws the inner validation cases: `share` of the training cases, at least 1, at most
/// kMostValidation. \throws Error(Input) if the fold has fewer than two training cases or no
/// held-out case.
CaseSelection select_cases(const Split& fold, double share, std::uint64_t seed);
inline constexpr std::int64_t kMostValidation = 32;

Json to_json(const CaseSelection& cases);
CaseSelection case_selection_from_json(const Json& value, const std::string& where);

}  // namespace nas
