// SPDX-License-Identifier: Apache-2.0
#include "nas/search/trial_request.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/json.h"

namespace nas {

std::string to_text(const TrialRequest& request) {
  if (request == TrialRequest{}) return "";
  return Json{{"continues", request.continues},
              {"done", request.done},
              {"horizon_steps", request.horizon_steps},
              {"finishes", request.finishes},
              {"all_cases", request.all_cases}}
      .dump();
}

TrialRequest trial_request(const Trial& trial) {
  TrialRequest request;
  const bool trains =
      trial.purpose == TrialPurpose::Search || trial.purpose == TrialPurpose::Retrain;
  if (!trains || trial.request.empty()) return request;
  const std::string where = concat_text("request of trial ", trial.id);
  const Json json = parse_json(trial.request, where);
  const JsonReader reader(json, where);
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  request.continues = reader.at("continues").integer(0, kMost);
  request.done = reader.at("done").integer(0, kMost);
  request.horizon_steps = reader.at("horizon_steps").integer(0, kMost);
  request.finishes = reader.at("finishes").boolean();
  request.all_cases = reader.at("all_cases").boolean();
  return request;
}

}  // namespace nas
