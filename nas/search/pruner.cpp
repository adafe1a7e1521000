// SPDX-License-Identifier: Apache-2.0
#include "nas/search/pruner.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "nas/core/error.h"

namespace nas {
namespace {

constexpr double kEta = 3;

/// Of each trial, the best of its first `count` reports; only of trials that have so many.
std::map<std::int64_t, double> best_so_far(const std::vector<ReportRecord>& reports,
                                           std::size_t count) {
  std::map<std::int64_t, std::vector<double>> values;
  for (const ReportRecord& report : reports) values[report.trial].push_back(report.value);
  std::map<std::int64_t, double> best;
  for (const auto& [trial, scores] : values) {
    if (scores.size() < count) continue;
    best[trial] =
        *std::max_element(scores.begin(), scores.begin() + static_cast<std::ptrdiff_t>(count));
  }
  return best;
}

}  // namespace

std::vector<std::int64_t> report_steps(std::int64_t steps) {
  std::vector<std::int64_t> result;
  for (const std::int64_t part : {9, 3}) {
    const std::int64_t step = steps / part;
    if (step >= kFirstReport && (result.empty() || step > result.back())) result.push_back(step);
  }
  return result;
}

std::string reason_to_prune(const PruneRule& rule,
                            const std::vector<ReportRecord>& reports,
                            std::int64_t trial) {
  if (!rule.any()) return "";
  std::vector<double> own;
  for (const ReportRecord& report : reports) {
    if (report.trial == trial) own.push_back(report.value);
  }
  if (own.empty()) return "";
  const double last = own.back();
  if (rule.kind == "threshold") {
    if (last >= rule.threshold) return "";
    return concat_text("a score of ", last, " is below ", rule.threshold);
  }
  if (rule.kind == "patient") {
    const auto best = std::max_element(own.begin(), own.end());
    const auto since = static_cast<std::int64_t>(own.end() - best) - 1;
    if (since < rule.patience) return "";
    return concat_text("the last ", since, " scores brought nothing better than ", *best);
  }
  std::map<std::int64_t, double> best = best_so_far(reports, own.size());
  const double mine = best.at(trial);
  best.erase(trial);
  const auto others = static_cast<std::int64_t>(best.size());
  if (others < rule.startup) return "";
  const auto better =
      std::ranges::count_if(best, [&](const auto& one) { return one.second > mine; });
  // Of all that came so far, the best third goes on (one at least); or those that are not below the
  // given share of the others.
  const double most = rule.kind == "asha"
                          ? std::max(1.0, std::floor(static_cast<double>(others + 1) / kEta)) - 1
                          : (1 - (rule.kind == "median" ? 50 : rule.percentile) / 100) *
                                static_cast<double>(others);
  if (static_cast<double>(better) <= most) return "";
  return concat_text(better, " of ", others, " others were better than ", mine, " at this point");
}

}  // namespace nas
