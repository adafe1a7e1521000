// SPDX-License-Identifier: Apache-2.0
#include "nas/jobs/mirroring.h"

#include <algorithm>
#include <optional>

#include "nas/core/error.h"
#include "nas/core/log.h"
#include "training/settings/plan_training.h"

namespace nas {
namespace {

TrainOptions short_options(const MirrorQuestion& question, std::int64_t steps) {
  TrainOptions options = plan_training(question.configuration,
                                       static_cast<std::int64_t>(question.cases.training.size()),
                                       {.steps = steps},
                                       {},
                                       question.base);
  if (question.adjust) options = question.adjust(options);
  options.steps = steps;
  return options;
}

/// Steps of each short training; nothing if a tenth of the training cannot pay for enough of them.
std::optional<std::int64_t> affordable_steps(const MirrorQuestion& question) {
  const std::int64_t batch = short_options(question, kFewestCheckSteps).batch;
  const auto steps = mirror_check_steps(question.planned.steps, question.planned.batch, batch);
  if (!steps || question.seconds <= 0) return steps;
  const double left = kMirrorCheckShare * question.seconds - 2 * question.scoring_seconds;
  const auto paid = static_cast<std::int64_t>(left / (2 * question.step_seconds(batch)));
  if (paid < kFewestCheckSteps) return std::nullopt;
  return std::min(*steps, paid);
}

}  // namespace

MirrorCheck decide_mirroring(const MirrorQuestion& question) {
  MirrorCheck check;
  if (question.cases.validation.empty()) {
    check.reason =
        "mirroring stays off: whether it helps can only be tried with two training cases or more";
  } else if (const auto steps = affordable_steps(question); !steps) {
    check.reason =
        concat_text("mirroring stays off: trying whether it helps takes two trainings of ",
                    kFewestCheckSteps,
                    " steps, more than a tenth of this one");
  } else {
    check = check_mirroring(*question.graph,
                            *question.cache,
                            question.cases,
                            short_options(question, *steps),
                            *steps,
                            question.show_progress);
  }
  log_info(check.reason);
  return check;
}

}  // namespace nas
