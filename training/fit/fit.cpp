// SPDX-License-Identifier: Apache-2.0
#include "training/fit/fit.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include <c10/core/DeviceGuard.h>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/hash.h"
#include "nas/core/log.h"
#include "nas/core/progress.h"
#include "nas/core/run_folder.h"
#include "nas/core/stopwatch.h"
#include "nas/core/threads.h"
#include "nas/network/output_region.h"
#include "training/fit/checkpoint.h"
#include "training/fit/trainer.h"
#include "training/model/device.h"

namespace nas {
namespace {

/// What must agree between a checkpoint and the training that goes on from it.
Json training_identity(const GraphModule& network,
                       const CaseCache& data,
                       const std::vector<std::string>& ids,
                       const TrainOptions& options) {
  Hasher cases;
  cases.add(data.key());
  for (const std::string& id : ids) cases.add(id);
  return {
      {"options", to_json(options)}, {"graph", graph_id(network->graph())}, {"data", cases.hex()}};
}

}  // namespace

FitReport fit(GraphModule& network,
              const CaseCache& data,
              const std::vector<std::string>& train_ids,
              const TrainOptions& options,
              const FitFiles& files,
              const FitHooks& hooks) {
  check_train_options(options);
  NAS_CHECK_KIND(Usage, !train_ids.empty(), "fit: no training cases");
  NAS_CHECK_KIND(
      Usage, !hooks.save_state == !hooks.load_state, "fit: save_state and load_state go together");
  std::vector<const CachedCase*> cases;
  for (const std::string& id : train_ids) cases.push_back(&data.find(id));
  // Refuses a patch that the network cannot take.
  const OutputRegion region = output_region(network->graph(), options.patch);

  const Stopwatch watch;
  const at::Device device = choose_device(options.device);
  const c10::DeviceGuard device_guard(device);
  set_up_compute(options.threads, device);
  network->to(device);
  network->train();
  Trainer trainer(network, options, device);
  FitReport report;

  const std::filesystem::path checkpoint =
      files.folder.empty() ? "" : RunFolder::checkpoint(files.folder);
  const Json identity = training_identity(network, data, train_ids, options);
  if (!checkpoint.empty() && files.resume && std::filesystem::exists(checkpoint)) {
    CheckpointRecord stored = read_checkpoint(checkpoint, trainer.state(), identity);
    report.steps = stored.steps;
    report.skipped = stored.skipped;
    report.losses = std::move(stored.losses);
    if (hooks.load_state) {
      NAS_CHECK(!stored.extra.empty(), checkpoint.string(), ": tensor hooks is missing");
      hooks.load_state(stored.extra);
    }
    log_info(files.label, ": goes on from step ", report.steps);
  }
  std::int64_t saved_step = report.steps;
  Stopwatch since_saved;
  const auto save = [&] {
    if (checkpoint.empty()) return;
    write_checkpoint(checkpoint,
                     trainer.state(),
                     identity,
                     {.steps = report.steps,
                      .skipped = report.skipped,
                      .losses = report.losses,
                      .extra = hooks.save_state ? hooks.save_state() : ""});
    saved_step = report.steps;
    since_saved.restart();
  };

  report.status = "done";
  if (report.steps < options.steps) {
    const std::unique_ptr<BatchSource> source =
        make_source(cases, options, report.steps, device, region);
    StepLog log(files.tensorboard ? files.folder : std::filesystem::path());
    std::optional<Progress> progress;
    if (files.show_progress) progress.emplace(files.label, options.steps, "step");
    double smooth_loss = 0, smooth_weight = 0;

    while (report.steps < options.steps) {
      if (stop_requested() || (hooks.should_stop && hooks.should_stop())) {
        report.status = "stopped";
        break;
      }
      const Stopwatch step_watch;
      if (hooks.before_step) hooks.before_step(report.steps);
      const Stopwatch wait_watch;
      Batch batch = source->next();
      StepInfo info;
      info.wait_seconds = wait_watch.seconds();
      if (batch.image.device() != device) {
        batch = {batch.image.to(device), batch.target.to(device)};
      }
      info.learning_rate = scheduled_learning_rate(options, report.steps);
      info.loss = trainer.step(batch, report.steps, info.skipped);
      if (!std::isfinite(info.loss)) {
        report.status = "nan";
        log_warning(
            files.label, ": the loss of step ", report.steps + 1, " is not finite; stopped");
        break;
      }
      info.step = ++report.steps;
      info.step_seconds = step_watch.seconds();
      report.skipped += info.skipped;
      report.wait_seconds += info.wait_seconds;
      report.losses.push_back(info.loss);
      log.add(info, batch, trainer.first_output);
      if (hooks.after_step) hooks.after_step(info);
      smooth_loss = 0.95 * smooth_loss + 0.05 * info.loss;
      smooth_weight = 0.95 * smooth_weight + 0.05;
      if (progress) {
        progress->set(report.steps,
                      progress_note(smooth_loss / smooth_weight,
                                    report.wait_seconds / watch.seconds(),
                                    report.skipped));
      }
      if (since_saved.seconds() >= files.checkpoint_seconds && report.steps < options.steps) save();
    }
    log.finish();
  }
  if (report.steps != saved_step && report.status != "nan") save();
  if (report.skipped > 0) {
    log_warning(files.label,
                ": gradients of ",
                report.skipped,
                " of ",
                report.steps,
                " steps were not finite; those updates were left out");
  }
  if (trainer.average && report.steps > 0) trainer.average->copy_to_parameters();
  network->eval();
  report.seconds = watch.seconds();
  return report;
}

}  // namespace nas
