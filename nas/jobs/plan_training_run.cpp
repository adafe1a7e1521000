// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/plan_training_run.h"

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "nas/core/error.h"
#include "nas/core/log.h"
#include "nas/core/quantity.h"
#include "nas/jobs/mirroring.h"
#include "nas/network/output_region.h"
#include "search_spaces/network_file.h"
#include "search_spaces/planned_unet/unet.h"
#include "training/data/time_model.h"
#include "training/fit/probe.h"
#include "training/fit/script_loss.h"
#include "training/model/script_file.h"
#include "training/settings/plan_training.h"

namespace nas {
namespace {

/// The patch that the given options ask for.
std::optional<Extent3> asked_patch(const TrainJob& job) {
  if (job.options.empty()) return std::nullopt;
  const Json json = parse_json(job.options, job.options_name);
  if (!JsonReader(json, job.options_name).has("patch")) return std::nullopt;
  return train_options_from_json(json, job.options_name).patch;
}

/// `planned` with what the user asks for.
TrainOptions with_asked(const TrainJob& job, const TrainOptions& planned) {
  if (job.options.empty()) return planned;
  TrainOptions options =
      train_options_from_json(parse_json(job.options, job.options_name), job.options_name, planned);
  // A resumed run may begin in another folder.
  if (is_loss_file(options.loss)) {
    options.loss = std::filesystem::absolute(options.loss).lexically_normal().string();
  }
  return options;
}

/// The training cases divided for a look at mirroring; empty if there are fewer than two.
InnerSplit inner_split(const Split& split, std::uint64_t seed) {
  constexpr double kShare = 0.2;
  if (split.train.size() < 2) return {};
  return draw_inner_validation(split.train, kShare, seed);
}

}  // namespace

ChosenNetwork choose_network(const TrainJob& job,
                             const Configuration& planned,
                             const DataSet& data) {
  const std::string& name = job.network;
  const std::optional<Extent3> asked = asked_patch(job);
  ChosenNetwork chosen{{}, asked.value_or(planned.patch)};
  NetworkFileOptions options{.configuration = planned.name,
                             .channels = static_cast<std::int64_t>(data.channel_names.size()),
                             .classes = data.labels.outputs(),
                             .patch = chosen.patch,
                             .adapt = true};
  bool adapted = false;
  const auto load = [&] {
    if (name.empty()) {
      chosen.graph = make_unet(planned.architecture);
      return;
    }
    NetworkFile loaded = load_network(name, options);
    adapted = loaded.adapted;
    chosen.graph = std::move(loaded.graph);
    probe_script(chosen.graph, chosen.patch);
  };
  load();
  if (!asked) {
    chosen.patch = fitting_patch(chosen.graph, planned.patch);
    if (chosen.patch != planned.patch) {
      log_info(name,
               " does not take the planned patch of ",
               to_text(planned.patch),
               " voxels; trained with ",
               to_text(chosen.patch));
      options.patch = chosen.patch;
      load();  // layers may depend on the patch
    }
  }
  if (adapted) {
    log_info(name,
             ": first and last layers adapted to ",
             options.channels,
             options.channels == 1 ? " channel and " : " channels and ",
             options.classes,
             " classes");
  }
  if (const auto fits = asked ? fitting_patch(chosen.graph, *asked) : chosen.patch;
      fits != chosen.patch) {
    fail(ErrorKind::Usage,
         job.options_name,
         ": patch: expected a size that ",
         name.empty() ? "the planned network" : name,
         " takes, as ",
         to_text(fits),
         ", found ",
         to_text(chosen.patch));
  }
  output_region(chosen.graph, chosen.patch);  // refuses what cannot be trained
  return chosen;
}

PlannedTraining plan_run(const TrainJob& job,
                         const Prepared& prepared,
                         const Configuration& configuration,
                         const Graph& graph,
                         const Stopwatch& watch) {
  PlannedTraining planned;
  TrainBudget budget{.seconds = 0, .steps = job.steps};
  std::function<double(std::int64_t)> seconds_per_step;
  ProbeResult measured;
  if (job.budget_seconds > 0) {
    TrainOptions options = job.base;
    options.patch = configuration.patch;
    options.batch = kSmallestBatch;
    options.optimizer = kShortOptimizer;
    measured = probe(graph, options, prepared.data.labels);
    planned.reserve = unmeasured_scoring_seconds(
        scoring_work(
            prepared.cache, prepared.split.val, output_region(graph, configuration.patch).size),
        measured.seconds_per_forward);
    const double left = job.budget_seconds - watch.seconds() - planned.reserve;
    budget.seconds = kShareOfProbedTime * left;
    NAS_CHECK_KIND(Usage,
                   budget.seconds > measured.seconds_per_step,
                   "a budget of ",
                   format_duration(job.budget_seconds),
                   " buys no training: preparing took ",
                   format_duration(watch.seconds()),
                   ", scoring will take ",
                   format_duration(planned.reserve),
                   ", a step takes ",
                   format_duration(measured.seconds_per_step));
    seconds_per_step = [measured](std::int64_t batch) {
      return step_seconds_at_batch({{kSmallestBatch, measured.seconds_per_step}}, batch);
    };
    log_info("measured: ",
             format_duration(measured.seconds_per_step),
             " a step of batch ",
             kSmallestBatch,
             ", ",
             format_bytes(static_cast<double>(measured.peak_bytes)),
             " of memory");
  }
  const auto plan = [&] {
    return with_asked(job,
                      plan_training(configuration,
                                    static_cast<std::int64_t>(prepared.split.train.size()),
                                    budget,
                                    seconds_per_step,
                                    job.base));
  };
  planned.options = plan();
  const Json asked = job.options.empty() ? Json() : parse_json(job.options, job.options_name);
  const bool decided = asked.contains("mirror") || asked.contains("augmentations");
  if (!planned.options.mirror || decided) return planned;

  const InnerSplit inner = inner_split(prepared.split, job.base.seed);
  const Extent3 tile = output_region(graph, configuration.patch).size;
  const double before = watch.seconds();
  const MirrorCheck check = decide_mirroring(
      {.graph = &graph,
       .cache = &prepared.cache,
       .cases = inner,
       .configuration = configuration,
       .planned = planned.options,
       .base = job.base,
       .adjust = [&](const TrainOptions& options) { return with_asked(job, options); },
       .seconds = budget.seconds,
       .step_seconds = seconds_per_step,
       .scoring_seconds = inner_scoring_seconds(
           scoring_work(prepared.cache, inner.validation, tile), measured.seconds_per_forward)});
  if (budget.seconds > 0) {  // what the look at it took is part of the budget
    budget.seconds -= watch.seconds() - before;
    planned.options = plan();
  }
  planned.options.mirror = check.mirror;
  planned.mirroring = to_json(check);
  return planned;
}

}  // namespace nas
