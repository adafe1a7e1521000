// SPDX-License-Identifier: Apache-2.0
#include "training/settings/options.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "training/settings/loss_names.h"

namespace nas {
namespace {

/// Calls visit(key, member, always) for every option: the one list that reading, writing and key
/// checks share. Those that came later are not always written.
template <class Visit>
void visit_options(Visit&& visit) {
  using O = TrainOptions;
  visit("steps", &O::steps, true);
  visit("batch", &O::batch, true);
  visit("patch", &O::patch, true);
  visit("optimizer", &O::optimizer, true);
  visit("learning_rate", &O::learning_rate, true);
  visit("momentum", &O::momentum, true);
  visit("beta1", &O::beta1, false);
  visit("beta2", &O::beta2, false);
  visit("epsilon", &O::epsilon, false);
  visit("weight_decay", &O::weight_decay, true);
  visit("schedule", &O::schedule, true);
  visit("warmup_fraction", &O::warmup_fraction, true);
  visit("warmup_steps", &O::warmup_steps, true);
  visit("decay_start", &O::decay_start, true);
  visit("decay_from", &O::decay_from, true);
  visit("schedule_power", &O::schedule_power, false);
  visit("schedule_every", &O::schedule_every, false);
  visit("schedule_gamma", &O::schedule_gamma, false);
  visit("schedule_milestones", &O::schedule_milestones, false);
  visit("clip_norm", &O::clip_norm, true);
  visit("foreground_fraction", &O::foreground_fraction, true);
  visit("augmentation", &O::augmentation, true);
  visit("augmentations", &O::augmentations, false);
  visit("mirror", &O::mirror, true);
  visit("average_decay", &O::average_decay, true);
  visit("deep_supervision", &O::deep_supervision, true);
  visit("loss", &O::loss, true);
  visit("loss_settings", &O::loss_settings, false);
  visit("batch_dice", &O::batch_dice, true);
  visit("dice_weight", &O::dice_weight, false);
  visit("ce_weight", &O::ce_weight, false);
  visit("dice_smooth", &O::dice_smooth, false);
  visit("include_background", &O::include_background, false);
  visit("squared_dice", &O::squared_dice, false);
  visit("generalized_dice", &O::generalized_dice, false);
  visit("focal_gamma", &O::focal_gamma, false);
  visit("precision", &O::precision, true);
  visit("device", &O::device, true);
  visit("seed", &O::seed, true);
  visit("threads", &O::threads, true);
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

void read_value(const JsonReader& reader, std::vector<std::int64_t>& value) {
  value = reader.integers();
}
void read_value(const JsonReader& reader, std::optional<std::vector<Augmentation>>& value) {
  value.reset();
  if (!reader.json().is_null()) value = augmentations_from_json(reader);
}

void read_value(const JsonReader& reader, ObjectText& value) {
  NAS_CHECK(reader.json().is_object(), reader.where(), ": expected an object");
  value.json = reader.json().empty() ? "" : reader.json().dump();
}

template <class Value>
Json written(const Value& value) {
  return value;
}
Json written(const ObjectText& value) {
  return value.json.empty() ? Json::object() : Json::parse(value.json);
}
Json written(const std::optional<std::vector<Augmentation>>& value) {
  return value ? to_json(*value) : Json();
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
  check_word(where + "optimizer", options.optimizer, {"sgd", "adam", "adamw", "novograd", "muon"});
  check_range(where + "learning_rate", options.learning_rate, 0, 1e3);
  check_range(where + "momentum", options.momentum, 0, 1);
  constexpr double kBelowOne = 1 - 1e-9;
  check_range(where + "beta1", options.beta1, 0, kBelowOne);
  check_range(where + "beta2", options.beta2, 0, kBelowOne);
  check_range(where + "epsilon", options.epsilon, 1e-300, 1e3);
  check_range(where + "weight_decay", options.weight_decay, 0, 1e3);
  check_word(where + "schedule",
             options.schedule,
             {"poly", "cosine", "constant", "step", "multistep", "exponential", "wsd"});
  check_range(where + "schedule_power", options.schedule_power, 0, 100);
  check_range(where + "schedule_every", static_cast<double>(options.schedule_every), 1, kMany);
  check_range(where + "schedule_gamma", options.schedule_gamma, 0, 1);
  for (std::size_t i = 0; i < options.schedule_milestones.size(); ++i) {
    const std::int64_t least = i == 0 ? 1 : options.schedule_milestones[i - 1] + 1;
    check_range(where + "schedule_milestones (rising)",
                static_cast<double>(options.schedule_milestones[i]),
                static_cast<double>(least),
                kMany);
  }
  NAS_CHECK_KIND(Usage,
                 options.schedule != "multistep" || !options.schedule_milestones.empty(),
                 where,
                 "schedule_milestones: schedule multistep expects at least one step, found none");
  check_range(where + "warmup_fraction", options.warmup_fraction, 0, 1);
  check_range(where + "warmup_steps", static_cast<double>(options.warmup_steps), 0, kMany);
  check_range(where + "decay_start", static_cast<double>(options.decay_start), 0, kMany);
  check_range(where + "decay_from", options.decay_from, 0, 1);
  check_range(where + "clip_norm", options.clip_norm, 0, kMany);
  check_range(where + "foreground_fraction", options.foreground_fraction, 0, 1);
  check_range(where + "augmentation", options.augmentation, 0, 2);
  NAS_CHECK_KIND(
      Usage,
      !options.augmentations || !options.mirror || mirrors(*options.augmentations),
      where,
      "mirror: true, but augmentations do not mirror; add {\"name\": \"mirror\"} to the list");
  const bool file = options.loss.ends_with(".ts");  // training/fit/script_loss.h
  if (!file) {
    check_word(where + "loss (or a file *.ts)", options.loss, loss_names());
  }
  NAS_CHECK_KIND(Usage,
                 file || options.loss_settings.json.empty(),
                 where,
                 "loss_settings: are of a loss that is a file *.ts, found loss '",
                 options.loss,
                 "'");
  check_range(where + "dice_weight", options.dice_weight, 0, 1e6);
  check_range(where + "ce_weight", options.ce_weight, 0, 1e6);
  NAS_CHECK_KIND(Usage,
                 file || (options.dice_weight > 0 && options.loss.starts_with("dice")) ||
                     (options.ce_weight > 0 && options.loss != "dice"),
                 where,
                 "loss: the weights of '",
                 options.loss,
                 "' are 0: dice_weight ",
                 options.dice_weight,
                 ", ce_weight ",
                 options.ce_weight);
  check_range(where + "dice_smooth", options.dice_smooth, 0, 1e6);
  check_range(where + "focal_gamma", options.focal_gamma, 0, 20);
  check_range(where + "average_decay", options.average_decay, 0, 1);
  check_word(where + "precision", options.precision, {"auto", "fp32", "bf16", "fp16"});
  check_range(where + "threads", options.threads, 0, 1 << 12);
}

}  // namespace

bool mirrors_images(const TrainOptions& options) {
  return options.mirror && options.augmentation > 0;  // at strength 0 nothing is left
}

std::int64_t stable_steps(std::int64_t steps) {
  return static_cast<std::int64_t>((1 - kDecayShare) * static_cast<double>(steps));
}

Json to_json(const TrainOptions& options) {
  static const TrainOptions kBefore;
  Json json = Json::object();
  visit_options([&](const char* key, auto member, bool always) {
    if (always || options.*member != kBefore.*member) json[key] = written(options.*member);
  });
  return json;
}

TrainOptions train_options_from_json(const Json& value,
                                     const std::string& where,
                                     const TrainOptions& defaults) {
  const JsonReader reader(value, where);
  TrainOptions options = defaults;
  std::vector<std::string> known;
  visit_options([&](const char* key, auto, bool) { known.emplace_back(key); });
  reader.check_keys(known);
  visit_options([&](const char* key, auto member, bool) {
    if (reader.has(key)) read_value(reader.at(key), options.*member);
  });
  // A list of augmentations is meant as it is written.
  if (reader.has("augmentations") && options.augmentations) {
    if (!reader.has("augmentation")) options.augmentation = 1;
    if (!reader.has("mirror")) options.mirror = mirrors(*options.augmentations);
  }
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
