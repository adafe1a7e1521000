// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "nas/core/json.h"

namespace nas {

struct StrategyKind;
using StrategyKinds = std::vector<const StrategyKind*>;  // a table, e.g. strategy_kinds()

/// An option of a kind of stage: one row a key, so that reading, writing and defaults cannot drift
/// apart.
struct StageOption {
  std::string name;
  Json standard;  // where a recipe does not give it
  /// The value in the form that is kept. \throws Error(Usage|Input) naming the key and what was
  /// expected.
  std::function<Json(const JsonReader&)> read;
};

/// A span of numbers; an open end is outside.
struct NumberRange {
  double low = 0, high = 1;
  bool low_open = false, high_open = false;
};
/// \throws Error(Input) naming the key, the range and what was found.
double number_in(const JsonReader& value, const NumberRange& range);
/// \throws Error(Usage) naming the key, the words and the nearest of them.
std::string word_of(const JsonReader& value, const std::vector<std::string>& words);

StageOption count_option(std::string name,
                         std::int64_t standard,
                         std::int64_t low,
                         std::int64_t high);
StageOption number_option(std::string name, double standard, const NumberRange& range);
StageOption flag_option(std::string name, bool standard);
StageOption word_option(std::string name, std::string standard, std::vector<std::string> words);
StageOption words_option(std::string name, std::vector<std::string> words);  // standard: none

/// When a stage ends although its budget would go on; what is 0 or not there never ends it.
struct StopRules {
  std::optional<double> score = {};  // a trial of the highest rung has reached it
  std::int64_t trials = 0;           // so many outcomes were told
  std::int64_t patience = 0;         // so many outcomes in a row brought nothing better
  bool any() const { return score || trials > 0 || patience > 0; }
  bool operator==(const StopRules&) const = default;
};

/// When a trial is ended on its way, by the scores that it and the others have reported. Reports are
/// compared by their place in a trial (first, second, ...), because steps differ between networks.
struct PruneRule {
  /// "none"; "median", "percentile": its best so far is below that of the others; "asha": not among
  /// the best 1/3 of all that came so far; "threshold": below `threshold`; "patient": the last
  /// `patience` reports brought nothing better.
  std::string kind = "none";
  double percentile = 50;     // share of the others that must be worse, in percent
  std::int64_t startup = 5;   // others that must have come so far before anybody is pruned
  double threshold = 0;       // score
  std::int64_t patience = 2;  // reports
  bool any() const { return kind != "none"; }
  bool operator==(const PruneRule&) const = default;
};

/// Of a PruneRule.
const std::vector<std::string>& prune_kinds();

/// One stage of a search: what all kinds share, and the options of its own kind.
struct StageSpec {
  std::string name;                    // unique in the recipe
  const StrategyKind* kind = nullptr;  // a row of a table that outlives the stage
  double share = 0;                    // of the budget, relative to the other stages; > 0
  std::vector<std::string> groups;     // gene groups that may change; empty: all but "network"
  bool control = false;  // equal-budget control: starts from the space's start, inherits nothing,
                         // and its winner is retrained beside best and baseline
  bool async = false;    // outcomes are told as trials end, and the next are asked for whenever a
                         // worker is idle; else batch by batch, the same for any number of workers
  StopRules stop = {};
  PruneRule pruner = {};
  Json options = Json::object();  // every option of the kind by name

  bool operator==(const StageSpec&) const = default;

  // Values of options. \throws Error(Internal) where the kind has no such option.
  std::int64_t count(const std::string& option) const;
  double number(const std::string& option) const;
  bool flag(const std::string& option) const;
  std::string word(const std::string& option) const;
  std::vector<std::string> words(const std::string& option) const;
  /// \throws Error(Usage|Input) as when it is read from a recipe.
  void set(const std::string& option, const Json& value);

 private:
  const Json& value(const std::string& option) const;
};

/// A stage with the standard options of its kind.
StageSpec make_stage(const StrategyKind& kind, std::string name, double share);

}  // namespace nas
