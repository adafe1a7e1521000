// SPDX-License-Identifier: Apache-2.0
#include "nas/search/stage.h"

#include <algorithm>
#include <utility>

#include "nas/core/error.h"
#include "nas/core/text.h"
#include "nas/search/strategy_kind.h"

namespace nas {

double number_in(const JsonReader& value, const NumberRange& range) {
  const double number = value.number();
  const bool fits = (range.low_open ? number > range.low : number >= range.low) &&
                    (range.high_open ? number < range.high : number <= range.high);
  NAS_CHECK(fits,
            value.where(),
            ": expected a number in ",
            range.low_open ? "(" : "[",
            range.low,
            ", ",
            range.high,
            range.high_open ? ")" : "]",
            ", found ",
            number);
  return number;
}

std::string word_of(const JsonReader& value, const std::vector<std::string>& words) {
  const std::string word = value.text();
  if (std::ranges::find(words, word) != words.end()) return word;
  fail(ErrorKind::Usage,
       value.where(),
       ": expected ",
       joined(words),
       "; found \"",
       word,
       "\"",
       did_you_mean(word, words, "\""));
}

StageOption count_option(std::string name,
                         std::int64_t standard,
                         std::int64_t low,
                         std::int64_t high) {
  return {std::move(name), standard, [low, high](const JsonReader& value) {
            return Json(value.integer(low, high));
          }};
}

StageOption number_option(std::string name, double standard, const NumberRange& range) {
  return {std::move(name), standard, [range](const JsonReader& value) {
            return Json(number_in(value, range));
          }};
}

StageOption flag_option(std::string name, bool standard) {
  return {std::move(name), standard, [](const JsonReader& value) { return Json(value.boolean()); }};
}

StageOption word_option(std::string name, std::string standard, std::vector<std::string> words) {
  return {
      std::move(name), std::move(standard), [words = std::move(words)](const JsonReader& value) {
        return Json(word_of(value, words));
      }};
}

StageOption words_option(std::string name, std::vector<std::string> words) {
  return {std::move(name), Json::array(), [words = std::move(words)](const JsonReader& value) {
            Json list = Json::array();
            for (std::size_t i = 0; i < value.texts().size(); ++i) {
              list.push_back(word_of(value.at(i), words));
            }
            return list;
          }};
}

const Json& StageSpec::value(const std::string& option) const {
  const auto found = options.find(option);
  NAS_CHECK_KIND(Internal,
                 found != options.end(),
                 "stage \"",
                 name,
                 "\": kind ",
                 kind == nullptr ? "(none)" : kind->name,
                 " has no option \"",
                 option,
                 "\"");
  return *found;
}

std::int64_t StageSpec::count(const std::string& option) const {
  return value(option).get<std::int64_t>();
}
double StageSpec::number(const std::string& option) const { return value(option).get<double>(); }
bool StageSpec::flag(const std::string& option) const { return value(option).get<bool>(); }
std::string StageSpec::word(const std::string& option) const {
  return value(option).get<std::string>();
}
std::vector<std::string> StageSpec::words(const std::string& option) const {
  return value(option).get<std::vector<std::string>>();
}

void StageSpec::set(const std::string& option, const Json& value) {
  this->value(option);  // must be there
  for (const StageOption& row : kind->options) {
    if (row.name != option) continue;
    const Json wrapped = {{option, value}};
    options[option] = row.read(JsonReader(wrapped, "stage \"" + name + "\"").at(option));
  }
}

const std::vector<std::string>& prune_kinds() {
  static const std::vector<std::string> kinds = {
      "none", "median", "percentile", "asha", "threshold", "patient"};
  return kinds;
}

StageSpec make_stage(const StrategyKind& kind, std::string name, double share) {
  StageSpec stage;
  stage.name = std::move(name);
  stage.kind = &kind;
  stage.share = share;
  stage.async = kind.async;
  for (const StageOption& option : kind.options) stage.options[option.name] = option.standard;
  return stage;
}

}  // namespace nas
