// SPDX-License-Identifier: Apache-2.0
#include "nas/core/json.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "nas/core/error.h"
#include "nas/core/files.h"
#include "nas/core/text.h"

namespace nas {
namespace {

constexpr int kMaxDepth = 64;

/// A short picture of a value for error messages: `"x"`, `3.5`, `an object with 4 members`.
std::string describe(const Json& value) {
  if (value.is_object()) return concat_text("an object with ", value.size(), " members");
  if (value.is_array()) return concat_text("an array with ", value.size(), " elements");
  std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

template <class Convert>
auto elements(const JsonReader& reader, Convert convert) {
  std::vector<decltype(convert(reader))> items;
  NAS_CHECK(reader.json().is_array(),
            reader.where(),
            ": expected an array, found ",
            describe(reader.json()));
  items.reserve(reader.size());
  for (std::size_t i = 0; i < reader.size(); ++i) items.push_back(convert(reader.at(i)));
  return items;
}

}  // namespace

Json parse_json(std::string_view text, const std::string& where) {
  // Two things the library lets pass: deep nesting (dump() would overflow the stack) and repeated
  // keys (the first value would be lost in silence).
  std::vector<std::set<std::string>> open_objects;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    switch (event) {
      case Json::parse_event_t::object_start:
        open_objects.emplace_back();
        [[fallthrough]];
      case Json::parse_event_t::array_start:
        NAS_CHECK(depth < kMaxDepth,
                  where,
                  ": expected at most ",
                  kMaxDepth,
                  " nested levels, found more");
        break;
      case Json::parse_event_t::object_end:
        open_objects.pop_back();
        break;
      case Json::parse_event_t::key:
        NAS_CHECK(open_objects.back().insert(value.get_ref<const std::string&>()).second,
                  where,
                  ": the key ",
                  describe(value),
                  " appears twice in one object");
        break;
      default:
        break;
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), watch);
  } catch (const Json::exception& error) {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: ..." without the bracket.
    std::string message = error.what();
    if (const auto bracket = message.find("] "); bracket != std::string::npos) {
      message = message.substr(bracket + 2);
    }
    if (message.size() > 400) message = message.substr(0, 397) + "...";
    fail(ErrorKind::Input, where, ": expected JSON, found a ", message);
  }
}

Json read_json(const std::filesystem::path& file, std::int64_t max_bytes) {
  return parse_json(read_file(file, max_bytes), file.string());
}

void write_json(const std::filesystem::path& file, const Json& value) {
  write_file_atomic(file, value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

JsonReader::JsonReader(const Json& value, std::string where)
    : value_(&value), where_(std::move(where)) {}

JsonReader::JsonReader(const Json& value, std::string where, bool in_path)
    : value_(&value), where_(std::move(where)), in_path_(in_path) {}

bool JsonReader::has(std::string_view key) const {
  return value_->is_object() && value_->find(key) != value_->end();
}

JsonReader JsonReader::at(std::string_view key) const {
  NAS_CHECK(value_->is_object(),
            where_,
            ": expected an object with the key \"",
            key,
            "\", found ",
            describe(*value_));
  const auto found = value_->find(key);
  if (found == value_->end()) {
    const std::string near = nearest_word(key, keys());
    fail(ErrorKind::Input,
         where_,
         ": expected the key \"",
         key,
         "\", found none",
         near.empty() ? "" : concat_text(" (is \"", near, "\" meant for it?)"));
  }
  return JsonReader(*found, concat_text(where_, in_path_ ? "." : ": ", key), true);
}

JsonReader JsonReader::at(std::size_t index) const {
  NAS_CHECK(value_->is_array(), where_, ": expected an array, found ", describe(*value_));
  NAS_CHECK(index < value_->size(),
            where_,
            ": expected more than ",
            index,
            " elements, found ",
            value_->size());
  return JsonReader(
      (*value_)[index], concat_text(where_, in_path_ ? "" : ": ", "[", index, "]"), true);
}

std::size_t JsonReader::size() const {
  NAS_CHECK(
      value_->is_structured(), where_, ": expected an array or object, found ", describe(*value_));
  return value_->size();
}

std::vector<std::string> JsonReader::keys() const {
  NAS_CHECK(value_->is_object(), where_, ": expected an object, found ", describe(*value_));
  std::vector<std::string> result;
  result.reserve(value_->size());
  for (auto item = value_->begin(); item != value_->end(); ++item) result.push_back(item.key());
  return result;
}

std::int64_t JsonReader::integer() const {
  constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  const bool fits = value_->is_number_integer() &&
                    (!value_->is_number_unsigned() || value_->get<std::uint64_t>() <= kMost);
  NAS_CHECK(fits, where_, ": expected an integer, found ", describe(*value_));
  return value_->get<std::int64_t>();
}

std::int64_t JsonReader::integer(std::int64_t low, std::int64_t high) const {
  const std::int64_t value = integer();
  NAS_CHECK(value >= low && value <= high,
            where_,
            ": expected an integer in [",
            low,
            ", ",
            high,
            "], found ",
            value);
  return value;
}

double JsonReader::number() const {
  NAS_CHECK(value_->is_number(), where_, ": expected a number, found ", describe(*value_));
  const double value = value_->get<double>();
  NAS_CHECK(std::isfinite(value), where_, ": expected a finite number, found ", value);
  return value;
}

bool JsonReader::boolean() const {
  NAS_CHECK(value_->is_boolean(), where_, ": expected true or false, found ", describe(*value_));
  return value_->get<bool>();
}

std::string JsonReader::text() const {
  NAS_CHECK(value_->is_string(), where_, ": expected a string, found ", describe(*value_));
  return value_->get<std::string>();
}

std::vector<std::int64_t> JsonReader::integers() const {
  return elements(*this, [](const JsonReader& item) { return item.integer(); });
}

std::vector<double> JsonReader::numbers() const {
  return elements(*this, [](const JsonReader& item) { return item.number(); });
}

std::vector<std::string> JsonReader::texts() const {
  return elements(*this, [](const JsonReader& item) { return item.text(); });
}

void JsonReader::check_keys(const std::vector<std::string>& known) const {
  for (const std::string& key : keys()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    const std::string near = nearest_word(key, known);
    fail(ErrorKind::Usage,
         where_,
         ": unknown key \"",
         key,
         "\"; ",
         near.empty() ? concat_text("expected one of ", joined(known))
                      : concat_text("did you mean \"", near, "\"?"));
  }
}

}  // namespace nas
