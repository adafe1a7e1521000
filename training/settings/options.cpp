// SPDX-License-Identifier: Apache-2.0
#include "training/settings/options.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "search_spaces/planned_unet/plan.h"
#include "training/settings/schedule.h"

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

/// nnU-Net's optimizer, or for a short training one that moves sooner.
void take_sgd(TrainOptions& options) {
  const bool is_long = options.steps >= kLongSteps;
  options.optimizer = "sgd";
  options.learning_rate = is_long ? 1e-2 : 5e-2;
  options.momentum = is_long ? 0.99 : 0.9;
  options.weight_decay = 3e-5;
  options.clip_norm = 12;
}

/// AdamW at the batch and steps of the options.
void take_adamw(TrainOptions& options) {
  const double batch = static_cast<double>(options.batch);
  const double steps = static_cast<double>(options.steps);
  options.optimizer = "adamw";
  options.learning_rate = std::min(3e-3, 2e-3 * std::sqrt(batch / 2)) * std::min(1.0, steps / 100);
  options.weight_decay = 1e-2;
  options.clip_norm = 1;
}

/// Muon for the kernels, AdamW for the rest; one learning rate, whatever the batch.
void take_muon(TrainOptions& options) {
  take_adamw(options);
  options.optimizer = "muon";
  options.learning_rate = 8e-3;
  options.momentum = 0.9;
}

}  // namespace

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
    options = finished_at(options, options.steps);
  }
  check_values(options, where + ": ");
  return options;
}

void check_train_options(const TrainOptions& options) { check_values(options, "training option "); }

TrainOptions adjust_train_options(const Json& changes,
                                  const std::string& where,
                                  const TrainOptions& planned) {
  const JsonReader reader(changes, where);
  TrainOptions options = planned;
  if (reader.has("optimizer")) {
    const std::string optimizer = reader.at("optimizer").text();
    if (optimizer != planned.optimizer && optimizer == "sgd") take_sgd(options);
    if (optimizer != planned.optimizer && optimizer == "adamw") take_adamw(options);
    if (optimizer != planned.optimizer && optimizer == "muon") take_muon(options);
  }
  Json rest = changes;
  const auto multiply = [&](const char* key, double& value) {
    if (!reader.has(key)) return;
    value *= reader.at(key).number();
    rest.erase(key);
  };
  multiply("learning_rate_factor", options.learning_rate);
  multiply("weight_decay_factor", options.weight_decay);
  multiply("augmentation_factor", options.augmentation);
  options.augmentation = std::min(options.augmentation, 2.0);
  return train_options_from_json(rest, where, options);
}

TrainOptions plan_training(const Configuration& plan,
                           std::int64_t training_cases,
                           const TrainBudget& budget,
                           const std::function<double(std::int64_t)>& seconds_per_step,
                           const TrainOptions& base) {
  NAS_CHECK_KIND(Usage,
                 (budget.seconds > 0) != (budget.steps > 0),
                 "training budget: expected seconds or steps (one of both), found ",
                 budget.seconds,
                 " s and ",
                 budget.steps,
                 " steps");
  NAS_CHECK_KIND(
      Internal, budget.seconds <= 0 || seconds_per_step, "plan_training: no measured step time");
  const auto steps_bought = [&](std::int64_t batch) {
    if (budget.steps > 0) return budget.steps;
    return static_cast<std::int64_t>(budget.seconds / std::max(seconds_per_step(batch), 1e-9));
  };
  TrainOptions options = base;
  options.patch = plan.patch;
  options.batch_dice = plan.batch_dice;
  options.deep_supervision = plan.architecture.deep_supervision;

  if (steps_bought(plan.batch) >= kLongSteps) {  // nnU-Net's own recipe
    options.batch = plan.batch;
    options.steps = steps_bought(plan.batch);
    take_sgd(options);
    options.schedule = "poly";
    options.warmup_fraction = 0;
    options.foreground_fraction = 0.33;
    options.augmentation = 1;
    options.mirror = true;
    options.average_decay = 0;
    return options;
  }

  if (budget.steps > 0) {
    options.batch = std::min<std::int64_t>(plan.batch, 4);
  } else {
    options.batch = kSmallestBatch;
    while (2 * options.batch <= plan.batch && steps_bought(2 * options.batch) >= kWantedSteps)
      options.batch *= 2;
  }
  options.steps = steps_bought(options.batch);
  NAS_CHECK_KIND(Usage,
                 options.steps >= 1,
                 "training budget of ",
                 budget.seconds,
                 " s buys no step of ",
                 seconds_per_step ? seconds_per_step(options.batch) : 0,
                 " s; give more time or a smaller network");
  const double steps = static_cast<double>(options.steps);
  const double batch = static_cast<double>(options.batch);
  take_muon(options);
  set_wsd(options);
  options.foreground_fraction = 0.33;
  const double passes =
      steps * batch / static_cast<double>(std::max<std::int64_t>(training_cases, 1));
  const double position =
      std::clamp(std::log(std::max(passes, 1e-9) / 20) / std::log(10.0), 0.0, 1.0);
  options.augmentation = 0.3 + 0.7 * position;
  options.mirror = passes >= 60;
  options.average_decay = kAverageDecay;
  return options;
}

}  // namespace nas
