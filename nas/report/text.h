// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "nas/core/json.h"

/// Words, numbers, tables and HTML: for the report, and for the tables that experiments print.
namespace nas {

// ---- numbers and words ----

/// "–" for what is not finite; never "-0.00".
std::string fixed(double value, int digits);
std::string with_sign(double value, int digits);
/// Null for what is not finite: JSON has no NaN.
Json finite(double value);
std::string p_text(double p);
/// "[-0.0016, +0.0031]"; "–" for an interval that is missing or not finite.
std::string interval_text(const Json& interval, int digits);
/// A number with its unit letter ("1.2 M"); "–" for anything else.
std::string count_text(const Json& value);
std::string join(const Json& words, const char* separator = ", ");

// ---- members that may be missing or null: databases hold what older runs and users put there ----

double number_or(const Json& object, const char* key, double otherwise);
std::string text_or(const Json& object, const char* key);
/// An object or array below `key`; null if it is missing.
const Json& part(const Json& value, const char* key);

/// Dice of each class of one case of a run's details, absent where it is null.
std::vector<std::optional<double>> class_dice(const Json& classes);
/// Whether the search chose what is delivered: the final trainings then learned from the inner
/// validation cases too, and cannot be told apart on them.
bool chosen_before(const Json& data);
/// By what search trials were scored: "Dice", "−HD95 mm" (of a distance the negative value).
std::string score_name(const Json& data);
/// Whether the run was measured in seconds; in steps otherwise.
bool budget_is_time(const Json& data);

// ---- tables and pages ----

struct Table {
  std::vector<std::string> head;
  std::vector<std::vector<std::string>> rows;
  std::string
      columns;  // one letter each: 'l' left, 'r' right (numbers), 'w' left and wide (long text)
  std::vector<std::string> classes;  // of each row, for the style sheet; empty for none
};

/// With aligned columns, for a terminal; each line ends with a newline.
std::string text_table(const Table& table);
/// A Markdown table with a final line break.
std::string markdown_table(const Table& table);

std::string escaped(std::string_view text);
std::string base64(std::string_view bytes);

/// A small builder of HTML: everything but raw() is escaped.
class Html {
 public:
  Html& raw(std::string_view markup);
  Html& element(const char* tag, std::string_view content, const char* attributes = "");
  Html& table(const Table& table);
  std::string str() const { return out_.str(); }

 private:
  std::ostringstream out_;
};

}  // namespace nas
