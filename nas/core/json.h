// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace nas {

using Json = nlohmann::json;  // keys sorted: dump() is canonical
using OrderedJson = nlohmann::ordered_json;

/// Parses text with a bound on nesting (64 levels); a key that appears twice in one object is an
/// error. \throws Error(Input) naming `where`, line and what was expected.
Json parse_json(std::string_view text, const std::string& where);

/// Reads a file of at most `max_bytes`. \throws Error(Io|Input) naming the file.
Json read_json(const std::filesystem::path& file, std::int64_t max_bytes = 256 << 20);

/// Writes atomically with two-space indent and a final newline.
void write_json(const std::filesystem::path& file, const Json& value);

/// A view of one JSON object that knows where it stands, for errors such as
/// "dataset.json: labels.tumour: expected an integer, found \"x\"". Getters throw Error(Input).
class JsonReader {
 public:
  JsonReader(const Json& value, std::string where);

  const Json& json() const { return *value_; }
  const std::string& where() const { return where_; }
  bool has(std::string_view key) const;
  JsonReader at(std::string_view key) const;  // object member, must exist
  JsonReader at(std::size_t index) const;     // array element, must exist
  std::size_t size() const;                   // of an array or object
  std::vector<std::string> keys() const;      // of an object

  std::int64_t integer() const;
  std::int64_t integer(std::int64_t low, std::int64_t high) const;  // checked against [low, high]
  double number() const;                                            // finite
  bool boolean() const;
  std::string text() const;
  std::vector<std::int64_t> integers() const;
  std::vector<double> numbers() const;
  std::vector<std::string> texts() const;

  /// Throws Error(Usage) on the first key that is not in `known`, with the nearest known name.
  void check_keys(const std::vector<std::string>& known) const;

 private:
  JsonReader(const Json& value, std::string where, bool in_path);
  const Json* value_;
  std::string where_;
  bool in_path_ = false;  // where_ already goes into the document: "file: key", not "file"
};

}  // namespace nas
