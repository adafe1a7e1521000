// SPDX-License-Identifier: Apache-2.0
#include "nas/imaging/label_scheme.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "nas/core/error.h"

namespace nas {
namespace {

constexpr std::int64_t kMostLabels = 1024;
constexpr const char* kBackground = "background";
constexpr const char* kIgnore = "ignore";

/// One value or a list of them, ascending and each once, as nnU-Net takes them.
std::vector<std::int16_t> read_values(const JsonReader& item) {
  std::vector<std::int16_t> values;
  if (item.json().is_array()) {
    NAS_CHECK(item.size() > 0, item.where(), ": expected at least one label, found none");
    for (std::size_t i = 0; i < item.size(); ++i)
      values.push_back(static_cast<std::int16_t>(item.at(i).integer(0, kMostLabels - 1)));
  } else {
    values.push_back(static_cast<std::int16_t>(item.integer(0, kMostLabels - 1)));
  }
  std::ranges::sort(values);
  values.erase(std::unique(values.begin(), values.end()), values.end());
  return values;
}

/// Checks that the scheme's parts fit together. \param where file and key.
void check_scheme(const LabelScheme& scheme, const std::string& where) {
  NAS_CHECK(scheme.names.size() >= 2,
            where,
            ": expected background and at least one more label, found ",
            scheme.names.size());
  std::set<std::string> seen;
  for (const std::string& name : scheme.names) {
    NAS_CHECK(!name.empty() && seen.insert(name).second,
              where,
              ": expected different names, found \"",
              name,
              name.empty() ? "\"" : "\" twice");
  }
  if (!scheme.has_regions()) return;
  NAS_CHECK(scheme.regions.size() + 1 == scheme.names.size(),
            where,
            ": expected labels for each of ",
            scheme.names.size() - 1,
            " regions, found ",
            scheme.regions.size());
  NAS_CHECK(scheme.region_labels.size() == scheme.regions.size(),
            where,
            ": regions_class_order: expected ",
            scheme.regions.size(),
            " labels, one for each region, found ",
            scheme.region_labels.size());
  for (const std::int16_t label : scheme.region_labels) {
    NAS_CHECK(label >= 0 && label < scheme.labels(),
              where,
              ": regions_class_order: expected labels from 0 to ",
              scheme.labels() - 1,
              ", found ",
              label);
  }
}

}  // namespace

std::int64_t LabelScheme::labels() const {
  if (regions.empty()) return static_cast<std::int64_t>(names.size());
  std::int64_t largest = 0;
  for (const auto& region : regions) largest = std::max<std::int64_t>(largest, region.back());
  return largest + 1;
}

std::int64_t LabelScheme::outputs() const {
  return static_cast<std::int64_t>(has_regions() ? regions.size() : names.size());
}

bool LabelScheme::holds(std::int64_t k, std::int64_t value) const {
  if (!has_regions()) return value == k + 1;
  return std::ranges::binary_search(regions[static_cast<std::size_t>(k)], value);
}

std::string difference(const LabelScheme& then, const LabelScheme& now) {
  if (then.names != now.names) return "other label names";
  if (then.has_ignore != now.has_ignore) {
    return then.has_ignore ? "no label is ignored any more" : "a label to ignore is new";
  }
  if (then.has_regions() != now.has_regions()) {
    return then.has_regions() ? "regions then, classes now" : "classes then, regions now";
  }
  for (std::size_t k = 0; k < then.regions.size(); ++k) {
    if (then.regions[k] != now.regions[k]) {
      return concat_text("region ",
                         then.names[k + 1],
                         " held labels ",
                         Json(then.regions[k]).dump(),
                         ", now ",
                         Json(now.regions[k]).dump());
    }
  }
  return then == now ? "" : "other regions_class_order";
}

std::string to_text(const LabelScheme& scheme) {
  const std::int64_t count = scheme.foreground();
  std::string text =
      scheme.has_regions()
          ? concat_text(
                count, count == 1 ? " region" : " regions", " of ", scheme.labels() - 1, " labels")
          : concat_text(count, count == 1 ? " foreground class" : " foreground classes");
  if (scheme.has_ignore) text += concat_text(", label ", scheme.ignore_label(), " ignored");
  return text;
}

bool is_nnunet_scheme(const JsonReader& labels) {
  if (!labels.json().is_object()) return false;
  for (const std::string& key : labels.keys()) {
    const Json& value = labels.at(key).json();
    if (value.is_array() || (key == kIgnore && value.is_number())) return true;
  }
  return false;
}

LabelScheme label_scheme_from_nnunet(const JsonReader& root,
                                     const std::vector<std::string>& order) {
  const JsonReader labels = root.at("labels");
  std::vector<std::string> keys = labels.keys();
  const bool known = std::set(keys.begin(), keys.end()) == std::set(order.begin(), order.end());
  if (known) keys = order;
  NAS_CHECK(
      labels.has(kBackground), labels.where(), ": expected \"background\": 0, found no background");
  NAS_CHECK(labels.at(kBackground).json().is_number_integer() && labels.at(kBackground).json() == 0,
            labels.at(kBackground).where(),
            ": expected 0, found ",
            labels.at(kBackground).json().dump());

  LabelScheme scheme{.names = {kBackground}};
  std::set<std::int64_t> values{0};
  bool overlapping = false;
  std::vector<std::pair<std::string, std::vector<std::int16_t>>> items;
  for (const std::string& key : keys) {
    if (key == kBackground || key == kIgnore) continue;
    items.emplace_back(key, read_values(labels.at(key)));
    values.insert(items.back().second.begin(), items.back().second.end());
    overlapping = overlapping || items.back().second.size() > 1;
  }
  std::int64_t next = 0;
  for (const std::int64_t value : values) {
    NAS_CHECK(value == next,
              labels.where(),
              ": expected the numbers 0, 1, 2, ... without a gap, found ",
              value,
              " after ",
              next - 1);
    ++next;
  }
  if (labels.has(kIgnore)) {
    const JsonReader ignore = labels.at(kIgnore);
    NAS_CHECK(!ignore.json().is_array(), ignore.where(), ": expected one label, found a list");
    NAS_CHECK(ignore.integer(0, kMostLabels) == next,
              ignore.where(),
              ": the ignored label must be the highest; expected ",
              next,
              ", found ",
              ignore.integer(0, kMostLabels));
    scheme.has_ignore = true;
  }
  if (!overlapping) {
    std::ranges::stable_sort(items, {}, [](const auto& item) { return item.second.front(); });
    for (const auto& [name, own] : items) {
      NAS_CHECK(own.front() == static_cast<std::int64_t>(scheme.names.size()),
                labels.where(),
                ": label ",
                own.front(),
                " appears twice");
      scheme.names.push_back(name);
    }
  } else {
    NAS_CHECK(known,
              labels.where(),
              ": regions are numbered by their order in the file, which is not known here");
    for (const auto& [name, own] : items) {
      if (own.back() == 0) continue;  // background by another name
      scheme.names.push_back(name);
      scheme.regions.push_back(own);
    }
    const bool ordered =
        root.has("regions_class_order") && !root.at("regions_class_order").json().is_null();
    NAS_CHECK(ordered,
              root.where(),
              ": labels made of several others are regions and need \"regions_class_order\": the ",
              scheme.regions.size(),
              " labels that a prediction gets for them, in their order");
    for (const std::int64_t label : root.at("regions_class_order").integers()) {
      NAS_CHECK(label >= 0 && label < next,
                root.at("regions_class_order").where(),
                ": expected labels from 0 to ",
                next - 1,
                ", found ",
                label);
      scheme.region_labels.push_back(static_cast<std::int16_t>(label));
    }
  }
  check_scheme(scheme, labels.where());
  return scheme;
}

std::vector<std::string> keys_in_order(const std::string& json_text, const char* key) {
  const OrderedJson root = OrderedJson::parse(json_text, nullptr, false);
  std::vector<std::string> keys;
  if (!root.is_object() || !root.contains(key) || !root.at(key).is_object()) return keys;
  for (const auto& [name, value] : root.at(key).items()) keys.push_back(name);
  return keys;
}

OrderedJson nnunet_labels(const LabelScheme& scheme) {
  OrderedJson labels = OrderedJson::object();
  labels[scheme.names.front()] = 0;
  for (std::size_t k = 1; k < scheme.names.size(); ++k) {
    if (!scheme.has_regions()) {
      labels[scheme.names[k]] = k;
    } else if (const auto& values = scheme.regions[k - 1]; values.size() == 1) {
      labels[scheme.names[k]] = values.front();
    } else {
      labels[scheme.names[k]] = values;
    }
  }
  if (scheme.has_ignore) labels[kIgnore] = scheme.ignore_label();
  OrderedJson result{{"labels", std::move(labels)}};
  if (scheme.has_regions()) result["regions_class_order"] = scheme.region_labels;
  return result;
}

void add_label_scheme(Json& object, const LabelScheme& scheme) {
  object["label_names"] = scheme.names;
  if (scheme.has_regions()) {
    object["regions"] = scheme.regions;
    object["regions_class_order"] = scheme.region_labels;
  }
  if (scheme.has_ignore) object["ignore_label"] = scheme.ignore_label();
}

LabelScheme label_scheme_from_json(const JsonReader& object) {
  LabelScheme scheme;
  scheme.names = object.at("label_names").texts();
  if (object.has("regions")) {
    const JsonReader regions = object.at("regions");
    for (std::size_t i = 0; i < regions.size(); ++i)
      scheme.regions.push_back(read_values(regions.at(i)));
    NAS_CHECK(scheme.has_regions(), regions.where(), ": expected at least one region");
    for (const std::int64_t label : object.at("regions_class_order").integers()) {
      scheme.region_labels.push_back(
          static_cast<std::int16_t>(std::clamp<std::int64_t>(label, -1, kMostLabels)));
    }
  }
  NAS_CHECK(scheme.names.size() >= 2 && scheme.names.size() <= 32767,
            object.where(),
            ": label_names: expected 2 to 32767 names, found ",
            scheme.names.size());
  if (scheme.has_regions()) check_scheme(scheme, object.where());
  if (object.has("ignore_label")) {
    scheme.has_ignore = true;
    NAS_CHECK(object.at("ignore_label").integer() == scheme.labels(),
              object.where(),
              ": ignore_label: expected ",
              scheme.labels(),
              ", the label after the last one, found ",
              object.at("ignore_label").integer());
  }
  return scheme;
}

}  // namespace nas
