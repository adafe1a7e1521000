// SPDX-License-Identifier: Apache-2.0
#include "nas/search/limits.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <span>
#include <string_view>

#include "nas/core/error.h"
#include "nas/core/progress.h"

namespace nas {
namespace {

struct Unit {
  std::string_view name;
  double factor;
};

/// The number times its unit's factor, in (0, 9e18).
double parse_with_units(const std::string& text,
                        const std::string& what,
                        std::span<const Unit> units,
                        const char* forms) {
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  const std::string_view rest(end);
  for (const Unit& unit : units) {
    if (end == text.c_str() || rest != unit.name) continue;
    const double value = number * unit.factor;
    if (value > 0 && value < 9e18) return value;
  }
  fail(ErrorKind::Usage, what, ": expected a number such as ", forms, ", found '", text, "'");
}

std::int64_t whole(double value) { return std::max<std::int64_t>(1, std::llround(value)); }

}  // namespace

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

std::int64_t parse_count(const std::string& text, const std::string& what) {
  constexpr std::array kUnits{
      Unit{"", 1}, Unit{"k", 1e3}, Unit{"K", 1e3}, Unit{"M", 1e6}, Unit{"G", 1e9}, Unit{"T", 1e12}};
  return whole(parse_with_units(text, what, kUnits, "750k, 4M or 2.5G"));
}

std::int64_t parse_bytes(const std::string& text, const std::string& what) {
  constexpr std::array kUnits{Unit{"B", 1},
                              Unit{"kB", 1e3},
                              Unit{"MB", 1e6},
                              Unit{"GB", 1e9},
                              Unit{"KiB", 1024},
                              Unit{"MiB", 1024.0 * 1024},
                              Unit{"GiB", 1024.0 * 1024 * 1024}};
  return whole(parse_with_units(text, what, kUnits, "512MB, 2GB or 1.5GiB"));
}

double parse_step_time(const std::string& text, const std::string& what) {
  constexpr std::array kUnits{Unit{"ms", 1e-3}, Unit{"s", 1}, Unit{"us", 1e-6}};
  return parse_with_units(text, what, kUnits, "50ms or 0.2s");
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
