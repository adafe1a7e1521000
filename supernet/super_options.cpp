// SPDX-License-Identifier: Apache-2.0
#include "supernet/super_options.h"

#include <cstdint>

#include "nas/core/error.h"

namespace nas {

Json to_json(const SuperOptions& options) {
  return {{"method", options.method},
          {"order", options.order},
          {"warmup", options.warmup},
          {"merge", options.merge},
          {"alpha_learning_rate", options.alpha_learning_rate},
          {"max_parameters", options.max_parameters}};
}

Merge merge_from_text(const std::string& text) {
  if (text == "none") return Merge::None;
  if (text == "exact") return Merge::Exact;
  NAS_CHECK_KIND(
      Usage, text == "mixed", "merge: expected none, exact or mixed; found '", text, "'");
  return Merge::Mixed;
}

SuperOptions super_options_from_json(const Json& value, const std::string& where) {
  const JsonReader reader(value, where);
  reader.check_keys(
      {"method", "order", "warmup", "merge", "alpha_learning_rate", "max_parameters"});
  SuperOptions options;
  const auto number = [&](const char* key, double high) {
    const double found = reader.at(key).number();
    NAS_CHECK_KIND(Usage,
                   found >= 0 && found <= high,
                   where,
                   ": ",
                   key,
                   ": expected a number in [0, ",
                   high,
                   "], found ",
                   found);
    return found;
  };
  if (reader.has("method")) options.method = reader.at("method").text();
  if (reader.has("order")) options.order = static_cast<int>(reader.at("order").integer(1, 2));
  if (reader.has("warmup")) options.warmup = number("warmup", 0.99);
  if (reader.has("merge")) options.merge = reader.at("merge").text();
  if (reader.has("alpha_learning_rate"))
    options.alpha_learning_rate = number("alpha_learning_rate", 10);
  if (reader.has("max_parameters"))
    options.max_parameters = reader.at("max_parameters").integer(0, INT64_MAX);
  NAS_CHECK_KIND(Usage,
                 options.method == "single_path" || options.method == "differentiable",
                 where,
                 ": method: expected single_path or differentiable, found '",
                 options.method,
                 "'");
  merge_from_text(options.merge);
  NAS_CHECK_KIND(Usage,
                 options.method == "differentiable" || options.merge != "mixed",
                 where,
                 ": merge \"mixed\" needs the method differentiable: a single path has no mixture");
  return options;
}

}  // namespace nas
