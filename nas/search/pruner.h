// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nas/search/results_records.h"
#include "nas/search/stage.h"

namespace nas {

/// Why a trial ends after its last report, or "". \param reports of all trials of the stage, ordered
/// by trial and step. Sources: Golovin et al., KDD 2017 (median); Li et al., arXiv 1810.05934 (asha).
std::string reason_to_prune(const PruneRule& rule,
                            const std::vector<ReportRecord>& reports,
                            std::int64_t trial);

/// Where a trial of so many steps is asked for scores: after a ninth and a third of them, but not
/// before `kFirstReport` steps.
std::vector<std::int64_t> report_steps(std::int64_t steps);
inline constexpr std::int64_t kFirstReport = 5;

}  // namespace nas
