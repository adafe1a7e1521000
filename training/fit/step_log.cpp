// SPDX-License-Identifier: Apache-2.0
#include "training/fit/step_log.h"

#include <cstdio>

#include "training/fit/losses.h"

namespace nas {

StepLog::StepLog(const std::filesystem::path& folder) {
  if (!folder.empty()) writer_.emplace(folder);
}

void StepLog::add(const StepInfo& info, const Batch& batch, const at::Tensor& output) {
  if (!writer_) return;
  const double now = wall_time_now();
  const auto scalar = [&](const char* tag, double value) {
    writer_->scalar(tag, value, info.step, now);
  };
  scalar("train/loss", info.loss);
  scalar("train/learning_rate", info.learning_rate);
  scalar("time/step_seconds", info.step_seconds);
  scalar("time/wait_seconds", info.wait_seconds);
  if (info.step % kDiceInterval != 0) return;
  const HardCounts counts = hard_counts(output, batch.target);
  for (std::int64_t k = 0; k < counts.both.numel(); ++k) {
    const double both = counts.both[k].item<double>();
    if (both > 0) {
      scalar(("train/dice_" + std::to_string(k + 1)).c_str(),
             2 * counts.common[k].item<double>() / both);
    }
  }
  writer_->flush();
}

void StepLog::finish() {
  if (writer_) writer_->flush();
}

std::string progress_note(double smooth_loss, double wait_share, std::int64_t skipped) {
  char text[96];
  std::snprintf(
      text, sizeof text, "loss %.3f, waiting for data %.0f %%", smooth_loss, 100 * wait_share);
  std::string note = text;
  if (skipped > 0) note += ", " + std::to_string(skipped) + " steps skipped";
  return note;
}

}  // namespace nas
