// SPDX-License-Identifier: Apache-2.0
#include "search_spaces/config_space/mmar_args.h"

#include <algorithm>
#include <cmath>

#include "nas/core/text.h"

namespace nas {

ClaraArgs::ClaraArgs(const Json& component,
                     const std::string& file,
                     const std::string& path,
                     std::vector<std::string>& notes)
    : args_(component.value("args", Json::object())),
      where_(file + ": " + path),
      label_(path + " (" + component.value("name", "") + ")"),
      notes_(notes) {
  if (!args_.is_object()) wrong("args: expected an object, found ", args_.dump().substr(0, 60));
}

JsonReader ClaraArgs::at(const std::string& name) {
  asked_.insert(name);
  return JsonReader(args_[name], where_ + ": args." + name);
}

bool ClaraArgs::has(const std::string& name) {
  asked_.insert(name);
  return args_.contains(name) && !args_[name].is_null();
}

double ClaraArgs::number(const std::string& name, double fallback) {
  return has(name) ? at(name).number() : fallback;
}

std::int64_t ClaraArgs::integer(const std::string& name, std::int64_t fallback) {
  return has(name) ? at(name).integer() : fallback;
}

bool ClaraArgs::flag(const std::string& name, bool fallback) {
  return has(name) ? at(name).boolean() : fallback;
}

std::string ClaraArgs::text(const std::string& name, const std::string& fallback) {
  return has(name) ? at(name).text() : fallback;
}

std::vector<double> ClaraArgs::numbers(const std::string& name,
                                       const std::vector<double>& fallback) {
  return has(name) ? at(name).numbers() : fallback;
}

const Json& ClaraArgs::any(const std::string& name) {
  if (!has(name)) wrong("args: expected the key \"", name, "\", found none");
  return args_[name];
}

double ClaraArgs::half_range(const std::string& name, double fallback) {
  if (!has(name)) return fallback;
  if (any(name).is_number()) return std::abs(at(name).number());
  const std::vector<double> ends = at(name).numbers();
  if (ends.size() != 2 || ends[0] != -ends[1])
    wrong("args.", name, ": expected a number or [-n, n], found ", args_[name].dump());
  return std::abs(ends[1]);
}

void ClaraArgs::expect(const std::string& name, const Json& value) {
  asked_.insert(name);
  if (!args_.contains(name) || args_[name] == value || (args_[name].is_null() && value == 0.0))
    return;
  wrong("args.",
        name,
        ": expected ",
        value.dump(),
        " (VoxNAS has nothing else), found ",
        args_[name].dump().substr(0, 60));
}

void ClaraArgs::ignore(const std::string& name, const std::string& why) {
  asked_.insert(name);
  if (args_.contains(name) && !why.empty()) note(concat_text(name, ": ", why));
}

void ClaraArgs::finish() {
  const std::vector<std::string> known(asked_.begin(), asked_.end());
  for (const auto& item : args_.items()) {
    if (asked_.contains(item.key())) continue;
    wrong("args.",
          item.key(),
          ": VoxNAS has no such argument; it knows ",
          joined(known),
          did_you_mean(item.key(), known));
  }
}

void OwnDescription::augment(ClaraArgs& args, const std::string& name, double prob, Json values) {
  if (!(prob >= 0 && prob <= 1)) args.wrong("args.prob: expected [0, 1], found ", prob);
  Json& list = root["augmentation"];
  const auto [other, added] = augmented.emplace(name, args.where());
  values["prob"] = prob;
  if (added) {
    list.push_back({{"name", name}, {"args", std::move(values)}});
    return;
  }
  if (name != "mirror")
    args.wrong("becomes \"", name, "\", which ", other->second, " is already; ours has each once");
  // Along other axes: the probability of each axis is prob times its share.
  for (Json& row : list) {
    if (row["name"] != "mirror") continue;
    Json& mine = row["args"];
    const double both = std::max(mine["prob"].get<double>(), prob);
    for (const char* axis : {"d", "h", "w"}) {
      const double one = mine[axis].get<double>() * mine["prob"].get<double>();
      const double two = values[axis].get<double>() * prob;
      if (one > 0 && two > 0) args.wrong("mirrors an axis that ", other->second, " mirrors");
      mine[axis] = both > 0 ? std::max(one, two) / both : 0.0;
    }
    mine["prob"] = both;
  }
}

}  // namespace nas
