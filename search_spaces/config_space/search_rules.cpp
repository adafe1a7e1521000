// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/config_space/search_rules.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <map>

#include "nas/core/error.h"
#include "nas/core/text.h"

namespace nas {
namespace {

using Pointer = Json::json_pointer;

bool parked(const std::string& key) { return key.starts_with(kParked); }

std::string at_path(const std::string& where, const std::string& path) {
  return path.empty() ? where : where + ": " + path;
}

std::vector<std::string> keys_of(const Json& object) {
  std::vector<std::string> keys;
  for (const auto& item : object.items()) keys.push_back(item.key());
  return keys;
}

/// A value as a gene's text: short, without spaces, else "" (then the choice's number is the text).
std::string choice_text(const Json& values) {
  std::string text;
  for (const Json& value : values) {
    text +=
        (text.empty() ? "" : ",") + (value.is_string() ? value.get<std::string>() : value.dump());
  }
  const bool plain = !text.empty() && text.size() <= 40 && std::ranges::none_of(text, [](char c) {
    return std::isspace(static_cast<unsigned char>(c)) != 0 || c == '=';
  });
  return plain ? text : "";
}

/// Walks through a description and collects.
class Finder {
 public:
  Finder(const Json& root, std::string where) : root_(root), where_(std::move(where)) {}

  SearchRules find() {
    NAS_CHECK(root_.is_object(), where_, ": expected an object, found ", root_.type_name());
    if (root_.contains("search")) add_searches(root_, Pointer(), "");
    add_legacy_rate();
    walk(root_, Pointer());
    check_searched_once();
    resolve_applies();
    resolve_conditions();
    order_conditions();
    warn_unapplied();
    return std::move(rules_);
  }

 private:
  struct Declared {
    std::size_t dimension, arg;
    std::string where;
  };
  struct Wanted {
    std::size_t dimension;
    std::string path;
    Json when;
  };

  template <class... Parts>
  [[noreturn]] void wrong(const std::string& path, const Parts&... parts) const {
    fail(ErrorKind::Input, at_path(where_, path), ": ", parts...);
  }

  void walk(const Json& value, const Pointer& at) {
    if (value.is_array()) {
      for (std::size_t i = 0; i < value.size(); ++i) walk(value[i], at / i);
      return;
    }
    if (!value.is_object()) return;
    const std::string path = path_text(at);
    if (!path.empty()) {
      if (value.contains("search")) add_searches(value, at, path);
      if (value.contains("apply")) add_applies(value, at, path);
    } else if (value.contains("apply")) {
      wrong("apply", "stands at top level, where nothing can take a value; put it to a component");
    }
    for (const auto& item : value.items()) {
      if (parked(item.key())) {
        rules_.notes.push_back(
            concat_text(path.empty() ? "" : path + ".", item.key(), ": ignored"));
      } else if (item.key() != "args" && item.key() != "search" && item.key() != "apply") {
        walk(item.value(), at / item.key());
      }
    }
  }

  void add_searches(const Json& component, const Pointer& at, const std::string& path) {
    const std::string list = path.empty() ? "search" : path + ".search";
    const Json& searches = component["search"];
    if (!searches.is_array()) wrong(list, "expected a list, found ", searches.dump().substr(0, 60));
    for (std::size_t i = 0; i < searches.size(); ++i) {
      add_search(component, at, path, searches[i], i, concat_text(list, "[", i, "]"));
    }
  }

  void add_search(const Json& component,
                  const Pointer& at,
                  const std::string& path,
                  const Json& search,
                  std::size_t index,
                  const std::string& here) {
    const JsonReader reader(search, at_path(where_, here));
    reader.check_keys({"domain", "type", "args", "targets", "log", "default", "when"});
    Dimension dimension;
    dimension.at = at;
    dimension.path = path;
    dimension.index = index;
    dimension.domain = reader.has("domain") ? reader.at("domain").text() : "training";
    dimension.type = reader.at("type").text();
    const std::vector<std::string> types{"enum", "float", "int"};
    if (std::ranges::find(types, dimension.type) == types.end()) {
      wrong(here + ".type",
            "expected one of ",
            joined(types),
            ", found '",
            dimension.type,
            "'",
            did_you_mean(dimension.type, types));
    }
    add_args(dimension, component, reader.at("args").json(), here);
    dimension.key = key_of(dimension);
    if (dimension.type == "enum") {
      read_choices(dimension, reader, here);
    } else {
      read_range(dimension, reader, here);
    }
    if (reader.has("default")) read_default(dimension, reader.at("default").json(), here);
    const std::size_t number = rules_.dimensions.size();
    if (reader.has("when")) wanted_.push_back({number, here + ".when", search["when"]});
    for (std::size_t a = 0; a < dimension.args.size(); ++a) {
      const std::string& alias = dimension.args[a].alias;
      if (alias.empty()) continue;
      const auto [other, added] = declared_.emplace(alias, Declared{number, a, here});
      if (!added)
        wrong(here, "declares '", alias, "', which ", other->second.where, " declares too");
    }
    rules_.dimensions.push_back(std::move(dimension));
  }

  static std::string key_of(const Dimension& d) {
    std::vector<std::string> names;
    for (const Dimension::Arg& arg : d.args) names.push_back((arg.attribute ? "@" : "") + arg.name);
    return concat_text(d.domain,
                       ".",
                       d.type,
                       d.path.empty() ? "" : ".",
                       d.path,
                       "$",
                       d.index,
                       ":",
                       joined(names, ","));
  }

  void add_args(Dimension& dimension,
                const Json& component,
                const Json& args,
                const std::string& here) {
    const Json list = args.is_string() ? Json::array({args}) : args;  // a plain string is fine too
    if (!list.is_array() || list.empty())
      wrong(here + ".args", "expected names, found ", args.dump().substr(0, 60));
    dimension.written = Json::array();
    for (const Json& each : list) {
      if (!each.is_string() || each.get<std::string>().empty())
        wrong(here + ".args", "expected names, found ", each.dump().substr(0, 60));
      std::string name = each.get<std::string>();
      Dimension::Arg arg;
      const bool marked = name.front() == '@';
      if (marked) name.erase(0, 1);
      if (const auto hash = name.find('#'); hash != std::string::npos) {
        arg.alias = name.substr(hash + 1);
        name.resize(hash);
        if (arg.alias.empty())
          wrong(here + ".args", "expected a name behind '#', found ", each.dump());
      }
      arg.name = name;
      if (dimension.path.empty()) {
        add_first_level(dimension, std::move(arg), here);
      } else if (marked) {
        add_attribute(dimension, std::move(arg), component, here);
      } else {
        const Json none = Json::object();
        const Json& known = component.contains("args") ? component["args"] : none;
        if (!known.is_object() || !known.contains(name)) {
          const std::vector<std::string> names =
              known.is_object() ? keys_of(known) : std::vector<std::string>();
          wrong(here + ".args",
                "'",
                name,
                "' is no arg of ",
                dimension.path,
                names.empty() ? ", which has none" : "; it has ",
                joined(names),
                did_you_mean(name, names));
        }
        dimension.written.push_back(known[name]);
        dimension.args.push_back(std::move(arg));
      }
    }
  }

  /// A first-level parameter, or a virtual arg. The "@" of "@name" says nothing and is no part of
  /// the name.
  void add_first_level(Dimension& dimension, Dimension::Arg arg, const std::string& here) {
    if (arg.name == "steps" || arg.name == "epochs")
      wrong(here + ".args", "'", arg.name, "' is the budget, which is the same for all trials");
    const auto found = root_.find(arg.name);
    arg.is_virtual = found == root_.end();
    if (!arg.is_virtual && found->is_structured())
      wrong(
          here + ".args", "'", arg.name, "' is no first-level parameter but ", found->type_name());
    if (arg.is_virtual && arg.alias.empty()) arg.alias = arg.name;
    dimension.written.push_back(arg.is_virtual ? Json() : *found);
    dimension.args.push_back(std::move(arg));
  }

  void add_attribute(Dimension& dimension,
                     Dimension::Arg arg,
                     const Json& component,
                     const std::string& here) {
    if (arg.name != "disabled")
      wrong(here + ".args", "the only attribute is @disabled, found '@", arg.name, "'");
    if (dimension.type != "enum") wrong(here, "@disabled needs \"type\": \"enum\"");
    arg.attribute = true;
    dimension.written.push_back(component.value("disabled", Json(false)));
    dimension.args.push_back(std::move(arg));
  }

  void read_choices(Dimension& dimension, const JsonReader& reader, const std::string& here) {
    if (reader.has("log")) wrong(here + ".log", "is of \"float\" and \"int\" only");
    const Json& targets = reader.at("targets").json();
    const std::size_t n = dimension.args.size();
    if (!targets.is_array() || targets.empty())
      wrong(here + ".targets", "expected a list of choices, found ", targets.dump().substr(0, 60));
    for (std::size_t i = 0; i < targets.size(); ++i) {
      const Json& choice = targets[i];
      const std::string path = concat_text(here, ".targets[", i, "]");
      if (!choice.is_array() || choice.size() != n) {
        wrong(path,
              "expected a list of ",
              n,
              n == 1 ? " value" : " values",
              ", one per arg, found ",
              choice.is_array() ? concat_text(choice.size(), ": ") : "",
              choice.dump().substr(0, 60));
      }
      for (std::size_t a = 0; a < n; ++a) {
        if (dimension.args[a].attribute && !choice[a].is_boolean())
          wrong(path, "@disabled is true or false, found ", choice[a].dump().substr(0, 60));
      }
      for (std::size_t j = 0; j < i; ++j) {
        if (targets[j] == choice) wrong(path, "is the same choice as targets[", j, "]");
      }
    }
    dimension.choices = targets;
  }

  void read_range(Dimension& dimension, const JsonReader& reader, const std::string& here) {
    const std::vector<double> ends = reader.at("targets").numbers();
    const std::string path = here + ".targets";
    if (ends.size() != 2) wrong(path, "expected [min, max], found ", ends.size(), " numbers");
    dimension.lo = ends[0];
    dimension.hi = ends[1];
    dimension.log = reader.has("log") && reader.at("log").boolean();
    if (const std::string reason = range_gene(dimension).malformed_reason(0); !reason.empty())
      wrong(path, reason);
  }

  static Gene range_gene(const Dimension& dimension) {
    Gene gene{dimension.key, "training", {}};
    gene.kind = dimension.type == "int" ? Gene::Kind::Integer : Gene::Kind::Real;
    gene.lo = dimension.lo;
    gene.hi = dimension.hi;
    gene.log = dimension.log;
    return gene;
  }

  void read_default(Dimension& dimension, const Json& value, const std::string& here) {
    dimension.has_default = true;
    const std::string path = here + ".default";
    if (dimension.type == "enum") {
      if (std::ranges::find(dimension.choices, value) == dimension.choices.end())
        wrong(path, "expected one of the choices, found ", value.dump().substr(0, 60));
      dimension.written = value;
      return;
    }
    if (!value.is_number() || value.get<double>() < dimension.lo ||
        value.get<double>() > dimension.hi ||
        (dimension.type == "int" && value.get<double>() != std::floor(value.get<double>())))
      wrong(path,
            "expected ",
            range_gene(dimension).range_text(),
            ", found ",
            value.dump().substr(0, 60));
    for (Json& each : dimension.written) each = value;
  }

  /// "lr_search": [min, max], of Clara Train 4.0.
  void add_legacy_rate() {
    if (!root_.contains("lr_search")) return;
    const JsonReader reader(root_["lr_search"], at_path(where_, "lr_search"));
    const std::vector<double> ends = reader.numbers();
    if (ends.size() != 2)
      wrong("lr_search", "expected [min, max], found ", ends.size(), " numbers");
    if (!root_.contains("learning_rate") || !root_["learning_rate"].is_number())
      wrong("lr_search", "expected the first-level number \"learning_rate\" that it is about");
    const Json search{
        {"domain", "lr"}, {"type", "float"}, {"args", "learning_rate"}, {"targets", ends}};
    const std::size_t index = root_.contains("search") ? root_["search"].size() : 0;
    add_search(root_, Pointer(), "", search, index, "lr_search");
  }

  void add_applies(const Json& component, const Pointer& at, const std::string& path) {
    const std::string here = path + ".apply";
    const JsonReader reader(component["apply"], at_path(where_, here));
    for (const std::string& target : reader.keys()) {
      Apply apply;
      apply.path = path;
      apply.at = at;
      apply.attribute = target.starts_with("@");
      apply.name = apply.attribute ? target.substr(1) : target;
      if (apply.attribute && apply.name != "disabled")
        wrong(here, "the only attribute is @disabled, found '", target, "'");
      const Json args = component.value("args", Json::object());
      if (!apply.attribute && !args.contains(apply.name)) {
        wrong(here, "'", target, "' is no arg of ", path, did_you_mean(target, keys_of(args)));
      }
      std::string alias = reader.at(target).text();
      if (alias.starts_with("@")) alias.erase(0, 1);
      pending_.emplace_back(std::move(apply), std::move(alias));
    }
  }

  void resolve_applies() {
    for (auto& [apply, alias] : pending_) {
      const Declared& declared = find_alias(alias, apply.path + ".apply");
      const Dimension& source = rules_.dimensions[declared.dimension];
      apply.dimension = declared.dimension;
      apply.arg = declared.arg;
      if (!source.path.empty() && source.at == apply.at) {
        wrong(apply.path + ".apply",
              "takes '",
              alias,
              "', which the component itself declares in ",
              declared.where);
      }
      for (const Dimension& other : rules_.dimensions) {
        for (const Dimension::Arg& arg : other.args) {
          if (other.path.empty() || other.at != apply.at || arg.name != apply.name ||
              arg.attribute != apply.attribute)
            continue;
          wrong(apply.path + ".apply", "'", apply.name, "' is searched by ", other.key, " too");
        }
      }
      if (source.type == "enum" && apply.attribute) {
        for (const Json& choice : source.choices) {
          if (!choice[apply.arg].is_boolean())
            wrong(apply.path + ".apply",
                  "@disabled is true or false, but '",
                  alias,
                  "' may be ",
                  choice[apply.arg].dump().substr(0, 60));
        }
      } else if (apply.attribute) {
        wrong(apply.path + ".apply", "@disabled is true or false, but '", alias, "' is a number");
      }
      rules_.applies.push_back(apply);
    }
  }

  const Declared& find_alias(const std::string& alias, const std::string& path) const {
    if (const auto found = declared_.find(alias); found != declared_.end()) return found->second;
    std::vector<std::string> known;
    for (const auto& item : declared_) known.push_back(item.first);
    wrong(path,
          "takes '",
          alias,
          "', which no search declares",
          known.empty() ? "" : "; declared are ",
          joined(known),
          did_you_mean(alias, known));
  }

  void check_searched_once() const {
    std::map<std::string, std::string> seen;
    for (const Dimension& dimension : rules_.dimensions) {
      for (const Dimension::Arg& arg : dimension.args) {
        const std::string what = concat_text(dimension.path, arg.attribute ? " @" : " ", arg.name);
        const auto [other, added] = seen.emplace(what, dimension.key);
        if (!added && !arg.is_virtual)
          wrong(dimension.path,
                "'",
                arg.name,
                "' is searched by ",
                other->second,
                " and by ",
                dimension.key);
      }
    }
  }

  void resolve_conditions() {
    for (const Wanted& wanted : wanted_) {
      if (!wanted.when.is_object() || wanted.when.size() != 1)
        wrong(wanted.path,
              "expected {\"alias\": [values]} of one alias, found ",
              wanted.when.dump().substr(0, 60));
      const std::string alias = wanted.when.begin().key();
      const Json& values = wanted.when.begin().value();
      const Declared& declared = find_alias(alias, wanted.path);
      const Dimension& parent = rules_.dimensions[declared.dimension];
      if (declared.dimension == wanted.dimension) wrong(wanted.path, "asks for its own value");
      if (parent.type != "enum")
        wrong(wanted.path, "'", alias, "' is a number; a condition needs an enum");
      if (!values.is_array() || values.empty())
        wrong(wanted.path, "expected a list of values of '", alias, "', found ", values.dump());
      Dimension& child = rules_.dimensions[wanted.dimension];
      child.when = static_cast<std::int64_t>(declared.dimension);
      for (const Json& value : values) {
        const std::size_t before = child.when_choices.size();
        for (std::size_t i = 0; i < parent.choices.size(); ++i) {
          if (parent.choices[i][declared.arg] == value)
            child.when_choices.push_back(static_cast<int>(i));
        }
        if (child.when_choices.size() == before)
          wrong(wanted.path, "'", alias, "' is never ", value.dump().substr(0, 60));
      }
    }
  }

  /// Every dimension behind the one that its condition asks for.
  void order_conditions() {
    std::vector<Dimension>& all = rules_.dimensions;
    std::vector<std::size_t> order;
    std::vector<char> placed(all.size(), 0);
    while (order.size() < all.size()) {
      const std::size_t before = order.size();
      for (std::size_t i = 0; i < all.size(); ++i) {
        if (placed[i] || (all[i].when >= 0 && !placed[static_cast<std::size_t>(all[i].when)]))
          continue;
        placed[i] = 1;
        order.push_back(i);
      }
      if (order.size() == before)
        wrong("search", "conditions (\"when\") ask for each other in a circle");
    }
    std::vector<std::size_t> place(all.size());
    std::vector<Dimension> ordered;
    for (std::size_t i = 0; i < order.size(); ++i) {
      place[order[i]] = i;
      ordered.push_back(std::move(all[order[i]]));
    }
    for (Dimension& dimension : ordered) {
      if (dimension.when >= 0)
        dimension.when = static_cast<std::int64_t>(place[static_cast<std::size_t>(dimension.when)]);
    }
    for (Apply& apply : rules_.applies) apply.dimension = place[apply.dimension];
    all = std::move(ordered);
  }

  void warn_unapplied() {
    for (std::size_t d = 0; d < rules_.dimensions.size(); ++d) {
      const Dimension& dimension = rules_.dimensions[d];
      for (std::size_t a = 0; a < dimension.args.size(); ++a) {
        const bool used = std::ranges::any_of(rules_.applies, [&](const Apply& apply) {
          return apply.dimension == d && apply.arg == a;
        });
        if (dimension.args[a].is_virtual && !used) {
          std::vector<std::string> parameters;
          for (const auto& item : root_.items()) {
            if (!item.value().is_structured()) parameters.push_back(item.key());
          }
          rules_.notes.push_back(
              concat_text("warning: ",
                          dimension.key,
                          ": '",
                          dimension.args[a].name,
                          "' is no first-level parameter, and nothing applies it",
                          did_you_mean(dimension.args[a].name, parameters)));
        }
      }
    }
  }

  const Json& root_;
  std::string where_;
  SearchRules rules_;
  std::map<std::string, Declared> declared_;
  std::vector<std::pair<Apply, std::string>> pending_;
  std::vector<Wanted> wanted_;
};

}  // namespace

std::string path_text(const Pointer& pointer) {
  std::string text;
  // A JSON pointer is "/train/pre_transforms/6"; keys hold no '/' or '~' in these files.
  std::string rest = pointer.to_string();
  while (!rest.empty()) {
    const auto end = rest.find('/', 1);
    const std::string part = rest.substr(1, end == std::string::npos ? end : end - 1);
    rest = end == std::string::npos ? "" : rest.substr(end);
    const bool number = !part.empty() && std::ranges::all_of(part, [](char c) {
      return std::isdigit(static_cast<unsigned char>(c)) != 0;
    });
    text += number ? "[" + part + "]" : (text.empty() ? "" : ".") + part;
  }
  return text;
}

SearchRules find_search_rules(const Json& root, const std::string& where) {
  return Finder(root, where).find();
}

Gene make_gene(const Dimension& dimension, bool* written) {
  Gene gene{dimension.key, "training", {}};
  if (dimension.type == "enum") {
    std::vector<std::string> texts;
    for (const Json& choice : dimension.choices) texts.push_back(choice_text(choice));
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const bool unique = std::ranges::count(texts, texts[i]) == 1;
      gene.values.push_back(unique && !texts[i].empty() ? texts[i] : concat_text("#", i));
    }
    const auto found = std::ranges::find(dimension.choices, dimension.written);
    *written = found != dimension.choices.end();
    gene.planned = *written ? static_cast<int>(found - dimension.choices.begin()) : 0;
    return gene;
  }
  gene.kind = dimension.type == "int" ? Gene::Kind::Integer : Gene::Kind::Real;
  gene.lo = dimension.lo;
  gene.hi = dimension.hi;
  gene.log = dimension.log;
  const Json& first = dimension.written.front();
  *written = first.is_number() && std::ranges::all_of(dimension.written, [&](const Json& each) {
               return each == first;
             });
  const auto index = *written ? gene.index(Json(first.get<double>()).dump()) : std::nullopt;
  *written = index.has_value();
  gene.planned = index.value_or(0);
  return gene;
}

Json dimension_values(const Dimension& dimension, const Gene& gene, int i, bool written) {
  if (dimension.type == "enum") return dimension.choices[static_cast<std::size_t>(i)];
  if (written && i == gene.planned) return dimension.written;
  const Json number =
      dimension.type == "int" ? Json(std::stoll(gene.text(i))) : Json(std::stod(gene.text(i)));
  return Json::array_t(dimension.args.size(), number);
}

}  // namespace nas
