// SPDX-License-Identifier: Apache-2.0
#include "training/fit/trainer.h"

#include <cmath>
#include <optional>
#include <utility>

#include <c10/core/DeviceGuard.h>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/log.h"
#include "nas/core/progress.h"
#include "nas/core/run_folder.h"
#include "nas/core/stop.h"
#include "nas/core/stopwatch.h"
#include "nas/core/threads.h"
#include "training/fit/checkpoint.h"
#include "training/fit/script_loss.h"
#include "training/model/device.h"

namespace nas {
namespace {

/// What the clock decides on the way.
std::string ending_of(const TrainOptions& options) {
  return Json{{"steps", options.steps},
              {"decay_start", options.decay_start},
              {"decay_from", options.decay_from}}
      .dump();
}

}  // namespace

Trainer::Trainer(GraphModule& network,
                 MakeSource source,
                 const TrainOptions& options,
                 std::string cases)
    : network_(network),
      make_source_(std::move(source)),
      options_(options),
      cases_(std::move(cases)),
      device_(choose_device(options.device)),
      step_((network->to(device_), network), options_, device_) {
  report_.status = "done";
}

Json Trainer::identity(bool with_data) const {
  Json identity = {{"options", continuation_identity(options_)},
                   {"graph", graph_id(network_->graph())}};
  const std::string loss = loss_file_hash(options_);
  if (!loss.empty()) identity["loss file"] = loss;
  if (with_data) identity["data"] = cases_;
  return identity;
}

void Trainer::save(const std::filesystem::path& checkpoint, const FitHooks& hooks) const {
  write_checkpoint(checkpoint,
                   step_.state(),
                   identity(true),
                   {.steps = report_.steps,
                    .skipped = report_.skipped,
                    .losses = report_.losses,
                    .extra = hooks.save_state ? hooks.save_state() : "",
                    .ending = hooks.seconds_left ? ending_of(options_) : ""});
}

void Trainer::load(const std::filesystem::path& checkpoint, bool same_data, const FitHooks& hooks) {
  CheckpointRecord stored = read_checkpoint(checkpoint, step_.state(), identity(same_data));
  report_.steps = stored.steps;
  report_.skipped = stored.skipped;
  report_.losses = std::move(stored.losses);
  source_.reset();
  if (!stored.ending.empty()) {
    const Json json = parse_json(stored.ending, checkpoint.string());
    const JsonReader ending(json, checkpoint.string());
    TrainOptions fixed = options_;
    fixed.steps = ending.at("steps").integer(0, INT64_MAX);
    fixed.decay_start = ending.at("decay_start").integer(0, INT64_MAX);
    fixed.decay_from = ending.at("decay_from").number();
    const bool ends = fixed.decay_start < fixed.steps;
    if (hooks.seconds_left || ends) {
      options_ = fixed;
    } else {  // the clock that would have decided is gone: as long as was expected
      const std::int64_t least = 4 * report_.steps / 3;
      options_ = finished_at(options_, std::max(options_.steps, least), report_.steps);
    }
  }
  if (hooks.load_state) {
    NAS_CHECK(!stored.extra.empty(), checkpoint.string(), ": tensor hooks is missing");
    hooks.load_state(stored.extra);
  }
}

void Trainer::end_as(const TrainOptions& options) {
  NAS_CHECK_KIND(Internal,
                 continuation_identity(options) == continuation_identity(options_),
                 "Trainer::end_as: more than the end differs");
  options_ = options;
}

/// One step. \returns false if the loss is not finite.
bool Trainer::step(const FitHooks& hooks, const FitFiles& files, StepLog& log) {
  const Stopwatch step_watch;
  StepInfo info;
  info.learning_rate = scheduled_learning_rate(options_, report_.steps);
  if (hooks.before_step) hooks.before_step(report_.steps, info.learning_rate);
  const Stopwatch wait_watch;
  if (!source_) source_ = make_source_(report_.steps);
  Batch batch = source_->next();
  info.wait_seconds = wait_watch.seconds();
  if (batch.image.device() != device_) {
    batch = {batch.image.to(device_), batch.target.to(device_)};
  }
  info.loss = step_.run(batch, report_.steps, info.skipped);
  if (!std::isfinite(info.loss)) {
    report_.status = "nan";
    log_warning(files.label, ": the loss of step ", report_.steps + 1, " is not finite; stopped");
    return false;
  }
  info.step = ++report_.steps;
  info.step_seconds = step_watch.seconds();
  report_.skipped += info.skipped;
  report_.wait_seconds += info.wait_seconds;
  report_.losses.push_back(info.loss);
  report_.learning_rate = scheduled_learning_rate(options_, report_.steps);
  pace_.add(info.step_seconds);
  log.add(info, batch, step_.first_output);
  if (hooks.after_step) hooks.after_step(info);
  return true;
}

const FitReport& Trainer::run_until(std::int64_t wanted,
                                    const FitFiles& files,
                                    const FitHooks& hooks) {
  const Stopwatch watch;
  const c10::DeviceGuard device_guard(device_);
  network_->train();
  const std::filesystem::path checkpoint =
      files.folder.empty() ? "" : RunFolder::checkpoint(files.folder);
  report_.status = "done";
  StepLog log(files.tensorboard ? files.folder : std::filesystem::path());
  std::optional<Progress> progress;
  std::int64_t shown_end = 0;
  double smooth_loss = 0, smooth_weight = 0;
  Stopwatch since_saved;
  // With a clock the end is where the clock says.
  const auto end = [&] { return hooks.seconds_left ? options_.steps : wanted; };
  while (report_.steps < end()) {
    if (files.show_progress && shown_end != end()) {
      if (!progress || options_.decay_start <= report_.steps) {
        progress.emplace(files.label, end(), "step");
        shown_end = end();
      }
    }
    if (stop_requested() || (hooks.should_stop && hooks.should_stop())) {
      report_.status = "stopped";
      break;
    }
    if (!step(hooks, files, log)) break;
    if (hooks.seconds_left) {
      if (!pace_.decide(options_, report_.steps, hooks.seconds_left()) &&
          report_.steps >= options_.steps && options_.decay_start >= options_.steps) {
        options_ = paused_at(options_, 2 * options_.steps);  // faster than was expected
      }
    }
    smooth_loss = 0.95 * smooth_loss + 0.05 * report_.losses.back();
    smooth_weight = 0.95 * smooth_weight + 0.05;
    if (progress) {
      progress->set(report_.steps,
                    progress_note(smooth_loss / smooth_weight,
                                  report_.wait_seconds / (report_.seconds + watch.seconds()),
                                  report_.skipped));
    }
    if (!checkpoint.empty() && since_saved.seconds() >= files.checkpoint_seconds &&
        report_.steps < end()) {
      save(checkpoint, hooks);
      since_saved.restart();
    }
  }
  log.finish();
  report_.planned_steps = options_.steps;
  report_.seconds += watch.seconds();
  return report_;
}

Trainer::Scored::Scored(Trainer& trainer) : trainer_(trainer) {
  if (trainer_.step_.average && trainer_.report_.steps > 0) trainer_.step_.average->swap();
  trainer_.network_->eval();
}

Trainer::Scored::~Scored() {
  if (trainer_.step_.average && trainer_.report_.steps > 0) trainer_.step_.average->swap();
  trainer_.network_->train();
}

void Trainer::deliver() {
  if (step_.average && report_.steps > 0) step_.average->swap();
  network_->eval();
  source_.reset();
}

}  // namespace nas
