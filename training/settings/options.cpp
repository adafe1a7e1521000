// SPDX-License-Identifier: Apache-2.0
#include "training/settings/options.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"

namespace nas {
namespace {

/// Calls visit(key, member) for every option: the one list that reading, writing and key checks
/// share.
template <class Options, class Visit>
void visit_options(Options& o, Visit&& visit) {
  visit("steps", o.steps);
  visit("batch", o.batch);
  visit("patch", o.patch);
  visit("optimizer", o.optimizer);
  visit("learning_rate", o.learning_rate);
  visit("momentum", o.momentum);
  visit("weight_decay", o.weight_decay);
  visit("schedule", o.schedule);
  visit("warmup_fraction", o.warmup_fraction);
  visit("warmup_steps", o.warmup_steps);
  visit("decay_start", o.decay_start);
  visit("decay_from", o.decay_from);
  visit("clip_norm", o.clip_norm);
  visit("foreground_fraction", o.foreground_fraction);
  visit("augmentation", o.augmentation);
  visit("mirror", o.mirror);
  visit("average_decay", o.average_decay);
  visit("deep_supervision", o.deep_supervision);
  visit("loss", o.loss);
  visit("batch_dice", o.batch_dice);
  visit("precision", o.precision);
  visit("device", o.device);
  visit("seed", o.seed);
  visit("threads", o.threads);
}

void read_value(const JsonReader& reader, std::int64_t& value) { value = reader.integer(); }
void read_value(const JsonReader& reader, int& value) {
  value = static_cast<int>(reader.integer(0, 1 << 20));
}
void read_value(const JsonReader& reader, double& value) { value = reader.number(); }
void read_value(const JsonReader& reader, bool& value) { value = reader.boolean(); }
void read_value(const JsonReader& reader, std::string& value) { value = reader.text(); }
void read_value(const JsonReader& reader, std::uint64_t& value) {
  // A seed uses all 64 bits; integer() is signed.
  const Json& json = reader.json();
  NAS_CHECK(
      json.is_number_unsigned(), reader.where(), ": expected an integer >= 0, found ", json.dump());
  value = json.get<std::uint64_t>();
}
void read_value(const JsonReader& reader, Extent3& value) {
  const std::vector<std::int64_t> list = reader.integers();
  NAS_CHECK(
      list.size() == 3, reader.where(), ": expected three integers (D H W), found ", list.size());
  std::copy(list.begin(), list.end(), value.begin());
}

void check_word(const std::string& key,
                const std::string& value,
                const std::vector<std::string>& known) {
  if (std::find(known.begin(), known.end(), value) != known.end()) return;
  std::string list;
  for (const std::string& word : known) list += (list.empty() ? "" : ", ") + word;
  fail(ErrorKind::Usage, key, ": expected one of ", list, "; found '", value, "'");
}

void check_range(const std::string& key, double value, double low, double high) {
  NAS_CHECK_KIND(Usage,
                 value >= low && value <= high,
                 key,
                 ": expected a value in [",
                 low,
                 ", ",
                 high,
                 "], found ",
                 value);
}

/// `where` comes before the name of the option that is wrong.
void check_values(const TrainOptions& options, const std::string& where) {
  constexpr double kMany = 1e12;
  check_range(where + "steps", static_cast<double>(options.steps), 0, kMany);
  check_range(where + "batch", static_cast<double>(options.batch), 1, 1 << 16);
  for (const std::int64_t voxels : options.patch)
    check_range(where + "patch", static_cast<double>(voxels), 0, 1 << 16);
  check_word(where + "optimizer", options.optimizer, {"sgd", "adamw", "muon"});
  check_range(where + "learning_rate", options.learning_rate, 0, 1e3);
  check_range(where + "momentum", options.momentum, 0, 1);
  check_range(where + "weight_decay", options.weight_decay, 0, 1e3);
  check_word(where + "schedule", options.schedule, {"poly", "cosine", "constant", "wsd"});
  check_range(where + "warmup_fraction", options.warmup_fraction, 0, 1);
  check_range(where + "warmup_steps", static_cast<double>(options.warmup_steps), 0, kMany);
  check_range(where + "decay_start", static_cast<double>(options.decay_start), 0, kMany);
  check_range(where + "decay_from", options.decay_from, 0, 1);
  check_range(where + "clip_norm", options.clip_norm, 0, kMany);
  check_range(where + "foreground_fraction", options.foreground_fraction, 0, 1);
  check_range(where + "augmentation", options.augmentation, 0, 10);
  check_word(where + "loss", options.loss, {"dice_ce", "dice_focal", "ce"});
  check_range(where + "average_decay", options.average_decay, 0, 1);
  check_word(where + "precision", options.precision, {"auto", "fp32", "bf16", "fp16"});
  check_range(where + "threads", options.threads, 0, 1 << 12);
}

}  // namespace

std::int64_t stable_steps(std::int64_t steps) {
  return static_cast<std::int64_t>((1 - kDecayShare) * static_cast<double>(steps));
}

Json to_json(const TrainOptions& options) {
  Json json = Json::object();
  visit_options(options, [&](const char* key, const auto& value) { json[key] = value; });
  return json;
}

TrainOptions train_options_from_json(const Json& value,
                                     const std::string& where,
                                     const TrainOptions& defaults) {
  const JsonReader reader(value, where);
  TrainOptions options = defaults;
  std::vector<std::string> known;
  visit_options(options, [&](const char* key, auto&) { known.emplace_back(key); });
  reader.check_keys(known);
  visit_options(options, [&](const char* key, auto& member) {
    if (reader.has(key)) read_value(reader.at(key), member);
  });
  // Another number of steps ends as the planned one did.
  if (options.schedule == "wsd" && options.steps != defaults.steps && !reader.has("decay_start")) {
    options.decay_start = stable_steps(options.steps);
    options.decay_from = 0;
  }
  check_values(options, where + ": ");
  return options;
}

void check_train_options(const TrainOptions& options) { check_values(options, "training option "); }

}  // namespace nas
