// SPDX-License-Identifier: Apache-2.0
#include "training/fit/fit.h"

#include <utility>

#include <c10/core/DeviceGuard.h>
#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/hash.h"
#include "nas/core/log.h"
#include "nas/core/run_folder.h"
#include "nas/core/stopwatch.h"
#include "nas/core/threads.h"
#include "nas/network/output_region.h"
#include "training/fit/trainer.h"
#include "training/model/device.h"

namespace nas {
namespace {

/// The cases of a training.
std::string cases_identity(const CaseCache& data, const std::vector<std::string>& ids) {
  Hasher cases;
  cases.add(data.key());
  for (const std::string& id : ids) cases.add(id);
  return cases.hex();
}

}  // namespace

std::unique_ptr<Trainer> make_trainer(GraphModule& network,
                                      const CaseCache& data,
                                      const std::vector<std::string>& train_ids,
                                      const TrainOptions& options) {
  check_train_options(options);
  NAS_CHECK_KIND(Usage, !train_ids.empty(), "fit: no training cases");
  std::vector<const CachedCase*> cases;
  for (const std::string& id : train_ids) cases.push_back(&data.find(id));
  // Refuses a patch that the network cannot take.
  const OutputRegion region = output_region(network->graph(), options.patch);
  const at::Device device = choose_device(options.device);
  const c10::DeviceGuard device_guard(device);
  set_up_compute(options.threads, device);
  return std::make_unique<Trainer>(
      network,
      [cases, options, device, region](std::int64_t first) {
        return make_source(cases, options, first, device, region);
      },
      options,
      cases_identity(data, train_ids));
}

FitReport fit(GraphModule& network,
              const CaseCache& data,
              const std::vector<std::string>& train_ids,
              const TrainOptions& options,
              const FitFiles& files,
              const FitHooks& hooks) {
  NAS_CHECK_KIND(
      Usage, !hooks.save_state == !hooks.load_state, "fit: save_state and load_state go together");
  const Stopwatch watch;
  const auto trainer = make_trainer(network, data, train_ids, options);
  const std::filesystem::path checkpoint =
      files.folder.empty() ? "" : RunFolder::checkpoint(files.folder);
  if (!checkpoint.empty() && files.resume && std::filesystem::exists(checkpoint)) {
    trainer->load(checkpoint, true, hooks);
    log_info(files.label, ": goes on from step ", trainer->steps());
  } else if (!files.continues.empty()) {
    trainer->load(files.continues, false, hooks);
  }
  const std::int64_t before = trainer->steps();
  FitReport report = trainer->run_until(trainer->options().steps, files, hooks);
  if (!checkpoint.empty() && report.steps != before && report.status != "nan") {
    trainer->save(checkpoint, hooks);
  }
  if (report.skipped > 0) {
    log_warning(files.label,
                ": gradients of ",
                report.skipped,
                " of ",
                report.steps,
                " steps were not finite; those updates were left out");
  }
  trainer->deliver();
  report.seconds = watch.seconds();
  return report;
}

}  // namespace nas
