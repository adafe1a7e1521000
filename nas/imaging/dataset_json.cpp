// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/dataset_json.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"

namespace nas {
namespace {

constexpr std::int64_t kMaxClasses = 1024;
constexpr std::int64_t kMaxChannels = 256;

std::optional<std::int64_t> index_of(const std::string& text) {
  if (text.empty() || text.size() > 6) return std::nullopt;
  if (!std::all_of(
          text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c) != 0; })) {
    return std::nullopt;
  }
  return std::stoll(text);
}

bool names_background(std::string name) {
  for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return name == "background";
}

/// Number and name of one entry of a labels object.
std::pair<std::int64_t, std::string> read_label(const std::string& key, const JsonReader& item) {
  if (!item.json().is_string()) return {item.integer(0, kMaxClasses), key};
  // MSD; a few nnU-Net files have {"name": "1"}.
  const auto key_index = index_of(key);
  const auto value_index = index_of(item.text());
  NAS_CHECK(key_index || value_index,
            item.where(),
            ": expected a label number on one side, found \"",
            key,
            "\": \"",
            item.text(),
            "\"");
  return key_index ? std::pair(*key_index, item.text()) : std::pair(*value_index, key);
}

void check_names(const std::vector<std::string>& names, const std::string& where) {
  NAS_CHECK(names.size() >= 2,
            where,
            ": expected background and at least one more label, found ",
            names.size());
  NAS_CHECK(static_cast<std::int64_t>(names.size()) <= kMaxClasses,
            where,
            ": expected at most ",
            kMaxClasses,
            " labels, found ",
            names.size());
  std::set<std::string> seen;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::string& name = names[i];
    NAS_CHECK(!name.empty() && seen.insert(name).second,
              where,
              ": expected different names, found \"",
              name,
              name.empty() ? "\"" : "\" twice");
    NAS_CHECK(i == 0 || !names_background(name),
              where,
              ": expected the number 0 for \"",
              name,
              "\", found ",
              i);
  }
}

}  // namespace

StatedLabels read_labels(const JsonReader& value) {
  StatedLabels labels;
  if (value.json().is_array()) {
    labels.names = value.texts();
    check_names(labels.names, value.where());
    return labels;
  }
  std::map<std::int64_t, std::string> by_number;
  for (const std::string& key : value.keys()) {
    const auto [number, name] = read_label(key, value.at(key));
    NAS_CHECK(number <= kMaxClasses,
              value.at(key).where(),
              ": expected a label below ",
              kMaxClasses,
              ", found ",
              number);
    NAS_CHECK(by_number.emplace(number, name).second,
              value.where(),
              ": label ",
              number,
              " appears twice");
    if (name == "ignore" && number > 0) labels.ignore = number;
  }
  if (labels.ignore) by_number.erase(*labels.ignore);
  NAS_CHECK(!by_number.empty(), value.where(), ": expected at least one entry, found none");
  // "background" elsewhere explains more than the gap that it leaves.
  for (const auto& [number, name] : by_number) {
    NAS_CHECK(number == 0 || !names_background(name),
              value.where(),
              ": expected the number 0 for \"",
              name,
              "\", found ",
              number);
  }
  NAS_CHECK(by_number.contains(0),
            value.where(),
            ": expected \"background\" as label 0, found none; the first is ",
            by_number.begin()->first,
            " (",
            by_number.begin()->second,
            ")");
  for (const auto& [number, name] : by_number) {
    const auto next = static_cast<std::int64_t>(labels.names.size());
    NAS_CHECK(number == next,
              value.where(),
              ": expected the numbers 0, 1, 2, ... without a gap, found ",
              number,
              " (",
              name,
              ") after ",
              next - 1);
    labels.names.push_back(name);
  }
  NAS_CHECK(!labels.ignore || *labels.ignore == static_cast<std::int64_t>(labels.names.size()),
            value.where(),
            ": expected the label to ignore to be the last, ",
            labels.names.size(),
            ", found ",
            *labels.ignore);
  check_names(labels.names, value.where());
  return labels;
}

LabelScheme read_label_scheme(const JsonReader& dataset, const std::vector<std::string>& order) {
  const JsonReader labels = dataset.at("labels");
  if (is_nnunet_scheme(labels)) return label_scheme_from_nnunet(dataset, order);
  StatedLabels stated = read_labels(labels);
  return {.names = std::move(stated.names), .has_ignore = stated.ignore.has_value()};
}

std::vector<std::string> read_channel_names(const JsonReader& value) {
  if (value.json().is_string()) return {value.text()};
  std::vector<std::string> names;
  if (value.json().is_array()) {
    names = value.texts();
  } else {
    std::map<std::int64_t, std::string> by_number;
    for (const std::string& key : value.keys()) {
      const auto index = index_of(key);
      NAS_CHECK(index && *index < kMaxChannels,
                value.where(),
                ": expected channel numbers as keys, found \"",
                key,
                "\"");
      NAS_CHECK(by_number.emplace(*index, value.at(key).text()).second,
                value.where(),
                ": channel ",
                *index,
                " appears twice");
    }
    for (const auto& [number, name] : by_number) {
      NAS_CHECK(number == static_cast<std::int64_t>(names.size()),
                value.where(),
                ": expected the numbers 0, 1, 2, ... without a gap, found ",
                number,
                " (",
                name,
                ") where ",
                names.size(),
                " is next");
      names.push_back(name);
    }
  }
  NAS_CHECK(!names.empty(), value.where(), ": expected at least one channel, found none");
  return names;
}

std::vector<std::string> stated_channel_names(const JsonReader& dataset) {
  for (const char* key : {"channel_names", "modality"}) {
    if (dataset.has(key)) return read_channel_names(dataset.at(key));
  }
  return {"image"};
}

}  // namespace nas
