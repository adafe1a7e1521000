// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/prepare.h"

#include <algorithm>
#include <set>
#include <vector>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/json.h"
#include "nas/imaging/data_set_check.h"
#include "search_spaces/planned_unet/planner.h"

namespace nas {
namespace {

namespace fs = std::filesystem;

Split split_of(const DataSet& data, std::int64_t fold) {
  if (fold < 0) {
    Split all;
    for (const CaseFiles& one : data.training) all.train.push_back(one.id);
    return all;
  }
  check_can_be_split(data);
  NAS_CHECK_KIND(Usage,
                 fold < static_cast<std::int64_t>(data.splits.size()),
                 "--fold: expected 0 to ",
                 data.splits.size() - 1,
                 " (",
                 data.splits_source,
                 "), found ",
                 fold);
  return data.splits[static_cast<std::size_t>(fold)];
}

/// The data set with the fold's training cases only: what planning may see.
DataSet without_held_out(const DataSet& data, const Split& split) {
  DataSet seen = data;
  const std::set<std::string> wanted(split.train.begin(), split.train.end());
  std::erase_if(seen.training, [&](const CaseFiles& f) { return !wanted.contains(f.id); });
  return seen;
}

/// "case c3 no longer trains in ...", or "" if both lists hold the same cases in some order.
std::string moved_case(const std::vector<std::string>& then,
                       const std::vector<std::string>& now,
                       const std::string& role) {
  const std::set<std::string> before(then.begin(), then.end()), after(now.begin(), now.end());
  for (const std::string& id : before) {
    if (!after.contains(id)) return concat_text("case ", id, " no longer ", role);
  }
  for (const std::string& id : after) {
    if (!before.contains(id)) return concat_text("case ", id, " did not, but now ", role);
  }
  return "";
}

}  // namespace

void check_can_be_split(const DataSet& data) {
  NAS_CHECK(!data.splits.empty(),
            data.folder.string(),
            data.training.empty()
                ? ": expected labelled cases, found none"
                : ": one labelled case cannot be split; `voxnas train --all`, or add cases");
}

Prepared open_fold(const PrepareOptions& options) {
  Prepared prepared;
  prepared.data = open_data_set(options.data);
  prepared.data.accept_misaligned = options.how.accept_misaligned;
  check_before_training(prepared.data, options.threads);
  prepared.split = split_of(prepared.data, options.fold);
  return prepared;
}

void plan_fold(Prepared& prepared,
               const PrepareOptions& options,
               const std::optional<Fingerprint>& known) {
  if (known) {
    prepared.data.orientation = known->orientation;
  } else {
    use_orientation(prepared.data, options.how.orientation);
  }
  const DataSet seen = without_held_out(prepared.data, prepared.split);
  prepared.fingerprint =
      known ? *known : compute_fingerprint(seen, options.threads, options.show_progress);
  prepared.plan =
      make_plan(prepared.fingerprint, planner_facts(seen), {.planner = options.how.planner});
}

void open_cache(Prepared& prepared, const PrepareOptions& options) {
  prepared.preprocessing = make_preprocessing(
      prepared.plan, options.configuration, prepared.data.channel_names, prepared.data.labels);
  prepared.cache = open_case_cache(default_cache_root(),
                                   prepared.data,
                                   prepared.preprocessing,
                                   options.threads,
                                   options.show_progress);
}

Json data_record(const Prepared& prepared) {
  Json labels = Json::object();
  add_label_scheme(labels, prepared.data.labels);
  return {{"channels", prepared.data.channel_names},
          {"label_scheme", std::move(labels)},
          {"labels", prepared.data.labels.names},
          {"train", prepared.split.train},
          {"held_out", prepared.split.val},
          {"contents", prepared.cache.contents()}};
}

void check_same_data(const Json& record, const DataSet& data, std::int64_t fold, int threads) {
  const std::string where = data.folder.string();
  const JsonReader reader(record, "data_record");
  const auto differs = [&](const auto&... what) {
    fail(ErrorKind::Input,
         where,
         ": not the data set that the run began with: ",
         what...,
         "; give the unchanged data set, or start a new run");
  };
  if (reader.at("channels").texts() != data.channel_names) differs("other channel names");
  LabelScheme then = data.labels;
  then.names = reader.at("labels").texts();
  if (reader.has("label_scheme")) {  // not in the records of before
    then = label_scheme_from_json(reader.at("label_scheme"));
  }
  if (const auto what = difference(then, data.labels); !what.empty()) differs(what);

  const auto now = content_hashes(default_cache_root(), data, threads);
  const JsonReader contents = reader.at("contents");
  for (const std::string& id : contents.keys()) {
    const auto found = now.find(id);
    if (found == now.end()) differs("case ", id, " is missing");
    const std::vector<std::string> then = contents.at(id).texts();
    const CaseFiles& files = data.find(id);
    if (then.size() != found->second.size()) {
      differs("case ", id, " has ", found->second.size(), " files, had ", then.size());
    }
    for (std::size_t i = 0; i < then.size(); ++i) {
      if (then[i] == found->second[i]) continue;
      differs("the content of ",
              (i < files.images.size() ? files.images[i] : files.label).string(),
              " differs");
    }
  }
  for (const auto& [id, hashes] : now) {
    if (!contents.has(id)) differs("case ", id, " is new");
  }

  if (fold >= 0) check_can_be_split(data);
  if (fold >= static_cast<std::int64_t>(data.splits.size())) {
    differs("there is no fold ", fold, " any more (", data.splits_source, ")");
  }
  const Split split = split_of(data, fold);
  const std::string which = concat_text(" in fold ", fold, " of ", data.splits_source);
  for (const std::string& moved :
       {moved_case(reader.at("held_out").texts(), split.val, "is held out" + which),
        moved_case(reader.at("train").texts(), split.train, "trains" + which)}) {
    if (!moved.empty()) differs("other split: ", moved);
  }
}

Prepared open_same_data(const PrepareOptions& options, const Json& record) {
  Prepared prepared;
  prepared.data = open_data_set(options.data);
  prepared.data.accept_misaligned = options.how.accept_misaligned;
  check_same_data(record, prepared.data, options.fold, options.threads);
  const JsonReader reader(record, "data_record");
  prepared.split = {reader.at("train").texts(), reader.at("held_out").texts()};
  return prepared;
}

void check_data_is_there(const fs::path& folder, const std::string& command) {
  NAS_CHECK(fs::exists(folder),
            folder.string(),
            ": the data set of the run is no longer there; say where it lies now with `",
            command,
            "`");
}

}  // namespace nas
