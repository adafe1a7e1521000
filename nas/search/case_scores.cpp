// SPDX-License-Identifier: Apache-2.0
#include "nas/search/case_scores.h"

#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>

namespace nas {

double case_dice(const Json& classes) {
  double sum = 0;
  std::int64_t known = 0;
  for (const Json& one : classes) {
    const auto dice = one.find("dice");
    if (dice == one.end() || !dice->is_number()) continue;
    sum += dice->get<double>();
    ++known;
  }
  return known > 0 ? sum / static_cast<double>(known) : NAN;
}

std::vector<double> case_scores(const Evaluation& evaluation) {
  if (evaluation.details.empty() || evaluation.status != TrialStatus::Done) return {};
  const Json details = parse_json(evaluation.details, "details of a trial");
  const JsonReader reader(details, "details of a trial");
  if (!reader.has("cases")) return {};
  std::vector<double> scores;
  for (std::size_t i = 0; i < reader.at("cases").size(); ++i) {
    scores.push_back(case_dice(reader.at("cases").at(i).at("classes").json()));
  }
  return scores;
}

}  // namespace nas
