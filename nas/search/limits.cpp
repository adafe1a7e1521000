// SPDX-License-Identifier: Apache-2.0
#include "nas/search/limits.h"

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/quantity.h"

namespace nas {

std::string broken_limit(const Limits& limits, const TrialCost& cost, const TrialCost& plan) {
  const auto over = [](double value, double limit) { return limit > 0 && value > limit; };
  const auto said = [](const char* what, const std::string& found, const std::string& allowed) {
    return concat_text(what, " ", found, ", allowed ", allowed);
  };
  const auto parameters = static_cast<double>(cost.parameters);
  if (over(parameters, static_cast<double>(limits.max_parameters))) {
    return said("parameters",
                format_count(parameters),
                format_count(static_cast<double>(limits.max_parameters)));
  }
  const double of_plan = limits.parameters_of_plan * static_cast<double>(plan.parameters);
  if (over(parameters, of_plan)) {
    return said("parameters",
                format_count(parameters),
                format_count(of_plan) + " (a share of the planned network's)");
  }
  if (over(static_cast<double>(cost.macs), static_cast<double>(limits.max_macs))) {
    return said("MACs",
                format_count(static_cast<double>(cost.macs)),
                format_count(static_cast<double>(limits.max_macs)));
  }
  if (over(static_cast<double>(cost.memory_bytes), static_cast<double>(limits.max_memory_bytes))) {
    return said("training memory",
                format_bytes(static_cast<double>(cost.memory_bytes)),
                format_bytes(static_cast<double>(limits.max_memory_bytes)));
  }
  if (over(cost.step_seconds, limits.max_step_seconds)) {
    return said(
        "step time", format_duration(cost.step_seconds), format_duration(limits.max_step_seconds));
  }
  return "";
}

bool within_cost_limit(double limit, const TrialCost& cost, const TrialCost& plan) {
  return limit <= 0 || static_cast<double>(cost.macs) <= limit * static_cast<double>(plan.macs);
}

Json to_json(const Limits& limits) {
  Json value = Json::object();
  if (limits.max_parameters > 0) value["max_parameters"] = limits.max_parameters;
  if (limits.max_macs > 0) value["max_macs"] = limits.max_macs;
  if (limits.max_memory_bytes > 0) value["max_memory_bytes"] = limits.max_memory_bytes;
  if (limits.max_step_seconds > 0) value["max_step_seconds"] = limits.max_step_seconds;
  if (limits.parameters_of_plan > 0) value["parameters_of_plan"] = limits.parameters_of_plan;
  return value;
}

Limits limits_from_json(const Json& value, const std::string& where) {
  const JsonReader reader(value, where);
  reader.check_keys(
      {"max_parameters", "max_macs", "max_memory_bytes", "max_step_seconds", "parameters_of_plan"});
  constexpr std::int64_t kMost = std::int64_t{1} << 60;
  const auto positive = [&](const char* key) {
    const double number = reader.at(key).number();
    NAS_CHECK(number > 0, reader.at(key).where(), ": expected a number above 0, found ", number);
    return number;
  };
  Limits limits;
  if (reader.has("max_parameters")) {
    limits.max_parameters = reader.at("max_parameters").integer(1, kMost);
  }
  if (reader.has("max_macs")) limits.max_macs = reader.at("max_macs").integer(1, kMost);
  if (reader.has("max_memory_bytes")) {
    limits.max_memory_bytes = reader.at("max_memory_bytes").integer(1, kMost);
  }
  if (reader.has("max_step_seconds")) limits.max_step_seconds = positive("max_step_seconds");
  if (reader.has("parameters_of_plan")) limits.parameters_of_plan = positive("parameters_of_plan");
  return limits;
}

}  // namespace nas
