// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/config_space/resolve.h"

#include <algorithm>
#include <cctype>
#include <map>

#include "nas/core/error.h"
#include "nas/core/text.h"

namespace nas {
namespace {

using Pointer = Json::json_pointer;

std::string at_path(const std::string& where, const Pointer& at) {
  const std::string path = path_text(at);
  return path.empty() ? where : where + ": " + path;
}

/// The name in "{name}" at `from` of `text`, or "" if there is none.
std::string name_in_braces(const std::string& text, std::size_t from) {
  if (text[from] != '{') return "";
  const std::size_t end = text.find('}', from);
  if (end == std::string::npos) return "";
  const std::string name = text.substr(from + 1, end - from - 1);
  const bool plain = !name.empty() && std::ranges::all_of(name, [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
  });
  return plain ? name : "";
}

/// What "{name}" stands for.
class Names {
 public:
  Names(const Json& environment, std::string where) : where_(std::move(where)) {
    for (const auto& item : environment.items()) values_[item.key()] = item.value();
  }

  void add(const std::string& name, const Json& value) { values_[name] = value; }

  /// "{name}" alone is the value itself; within more text it is its text.
  Json replaced(const std::string& text, const Pointer& at) const {
    std::string result;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const std::string name = name_in_braces(text, i);
      if (name.empty()) {
        result += text[i];
        continue;
      }
      const Json& value = find(name, at);
      if (name.size() + 2 == text.size()) return value;
      result += value.is_string() ? value.get<std::string>() : value.dump();
      i += name.size() + 1;
    }
    return result;
  }

  void replace_all(Json& value, const Pointer& at) const {
    if (value.is_string()) {
      value = replaced(value.get<std::string>(), at);
    } else if (value.is_array()) {
      for (std::size_t i = 0; i < value.size(); ++i) replace_all(value[i], at / i);
    } else if (value.is_object()) {
      for (auto& item : value.items()) replace_all(item.value(), at / item.key());
    }
  }

 private:
  const Json& find(const std::string& name, const Pointer& at) const {
    if (const auto found = values_.find(name); found != values_.end()) return found->second;
    std::vector<std::string> known;
    for (const auto& item : values_) known.push_back(item.first);
    fail(ErrorKind::Input,
         at_path(where_, at),
         ": {",
         name,
         "} is neither a first-level parameter nor in the environment",
         did_you_mean(name, known));
  }

  std::string where_;
  std::map<std::string, Json> values_;
};

/// What a "ref" calls a component: the name behind '#' in "Name#alias", its "alias", its name.
std::string ref_name(const Json& component) {
  if (component.contains("alias") && component["alias"].is_string())
    return component["alias"].get<std::string>();
  const std::string name = component.value("name", "");
  const auto hash = name.find('#');
  return hash == std::string::npos ? name : name.substr(hash + 1);
}

void collect(const Json& value, std::map<std::string, Json>& components) {
  if (value.is_array()) {
    for (const Json& each : value) collect(each, components);
  } else if (value.is_object()) {
    if (value.contains("name") && value["name"].is_string())
      components.emplace(ref_name(value), value);  // the first of a name
    for (const auto& item : value.items()) {
      if (item.key() != "args") collect(item.value(), components);
    }
  }
}

void follow_refs(Json& value,
                 const Pointer& at,
                 const std::map<std::string, Json>& components,
                 const std::string& where) {
  if (value.is_array()) {
    for (std::size_t i = 0; i < value.size(); ++i) follow_refs(value[i], at / i, components, where);
  } else if (value.is_object() && value.contains("ref") && value["ref"].is_string()) {
    const std::string name = value["ref"].get<std::string>();
    const auto found = components.find(name);
    if (found == components.end()) {
      std::vector<std::string> known;
      for (const auto& item : components) known.push_back(item.first);
      fail(ErrorKind::Input,
           at_path(where, at / "ref"),
           ": no component is called '",
           name,
           "'",
           did_you_mean(name, known));
    }
    value = found->second;
  } else if (value.is_object()) {
    for (auto& item : value.items()) {
      if (item.key() != "args") follow_refs(item.value(), at / item.key(), components, where);
    }
  }
}

bool is_disabled(const Json& value, const Pointer& at, const std::string& where) {
  if (!value.is_object() || !value.contains("disabled")) return false;
  NAS_CHECK(value["disabled"].is_boolean(),
            at_path(where, at / "disabled"),
            ": expected true or false, found ",
            value["disabled"].dump().substr(0, 60));
  return value["disabled"].get<bool>();
}

/// Without disabled components, and without what only a search needs.
void drop_disabled(Json& value, const Pointer& at, const std::string& where) {
  if (value.is_array()) {
    for (std::size_t i = 0; i < value.size(); ++i) {
      if (is_disabled(value[i], at / i, where)) {
        value[i] = nullptr;
      } else {
        drop_disabled(value[i], at / i, where);
      }
    }
  } else if (value.is_object()) {
    for (auto item = value.begin(); item != value.end();) {
      const std::string key = item.key();
      const bool search = key == "search" || key == "apply" || key == "lr_search";
      if (search || key.starts_with(kParked) || is_disabled(item.value(), at / key, where)) {
        item = value.erase(item);
        continue;
      }
      if (key != "args") drop_disabled(item.value(), at / key, where);
      ++item;
    }
    value.erase("disabled");
  }
}

void choose_alternatives(Json& tree,
                         const std::vector<SinglePlace>& singles,
                         const std::string& where) {
  for (const SinglePlace& place : singles) {
    const bool there = tree.contains(place.at);
    if (there && tree[place.at].is_array()) {
      Json& list = tree[place.at];
      list = without_gaps(list);
      if (list.size() != 1) {
        std::vector<std::string> names;
        for (const Json& each : list) names.push_back(each.value("name", "?"));
        fail(ErrorKind::Input,
             at_path(where, place.at),
             ": expected one enabled alternative, found ",
             list.empty() ? "none" : concat_text(list.size(), " (", joined(names), ")"));
      }
      Json only = std::move(list.front());
      list = std::move(only);
    }
    NAS_CHECK(there || !place.required,
              at_path(where, place.at),
              ": expected a component, found none that is enabled");
  }
}

}  // namespace

Json without_gaps(Json tree) {
  if (tree.is_array()) {
    Json kept = Json::array();
    for (Json& each : tree) {
      if (!each.is_null()) kept.push_back(without_gaps(std::move(each)));
    }
    return kept;
  }
  if (tree.is_object()) {
    for (auto& item : tree.items()) {
      if (item.key() != "args") item.value() = without_gaps(std::move(item.value()));
    }
  }
  return tree;
}

Json resolve_description(const Json& root,
                         const Json& environment,
                         const SearchRules& rules,
                         const std::vector<std::optional<Json>>& values,
                         const std::vector<SinglePlace>& singles,
                         const std::string& where) {
  Json tree = root;
  // First-level values, which may name something of the environment; searched ones replace them.
  Names names(environment, where);
  for (auto& item : tree.items()) {
    if (item.value().is_string())
      item.value() = names.replaced(item.value().get<std::string>(), Pointer() / item.key());
  }
  for (std::size_t d = 0; d < rules.dimensions.size(); ++d) {
    const Dimension& dimension = rules.dimensions[d];
    if (!values[d]) continue;
    for (std::size_t a = 0; a < dimension.args.size(); ++a) {
      const Dimension::Arg& arg = dimension.args[a];
      if (arg.is_virtual) continue;
      Json& component = tree[dimension.at];
      Json& target = dimension.path.empty() || arg.attribute ? component : component["args"];
      target[arg.name] = (*values[d])[a];
    }
  }
  for (const Apply& apply : rules.applies) {
    if (!values[apply.dimension]) continue;
    Json& component = tree[apply.at];
    Json& target = apply.attribute ? component : component["args"];
    target[apply.name] = (*values[apply.dimension])[apply.arg];
  }
  for (const auto& item : tree.items()) {
    if (!item.value().is_structured()) names.add(item.key(), item.value());
  }
  for (auto& item : tree.items()) {
    const std::string& key = item.key();
    if (key != "search" && !key.starts_with(kParked))
      names.replace_all(item.value(), Pointer() / key);
  }
  std::map<std::string, Json> components;
  collect(tree, components);
  follow_refs(tree, Pointer(), components, where);
  drop_disabled(tree, Pointer(), where);
  choose_alternatives(tree, singles, where);
  return tree;
}

}  // namespace nas
