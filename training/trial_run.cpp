// SPDX-License-Identifier: Apache-2.0
#include "training/trial_run.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <new>

#include <torch/torch.h>

#include "nas/core/cgroup.h"
#include "nas/core/error.h"
#include "nas/core/exception_text.h"
#include "nas/core/progress.h"
#include "nas/core/run_folder.h"
#include "nas/network/safetensors.h"
#include "training/fit/fit.h"
#include "training/model/device.h"
#include "training/model/graph_module.h"
#include "training/model/weights.h"

namespace nas {
namespace {

/// Bytes that the machine can still give away, and no more than a control group leaves this process;
/// 0 if unknown.
std::int64_t available_bytes() {
  std::ifstream in("/proc/meminfo");
  std::string key, unit;
  for (std::int64_t kilobytes = 0; in >> key >> kilobytes; std::getline(in, unit)) {
    if (key == "MemAvailable:") return std::min(kilobytes * 1024, memory_limit_bytes());
  }
  return 0;
}

bool says_out_of_memory(const std::string& text) {
  for (const char* phrase : {"out of memory",
                             "can't allocate memory",
                             "not enough memory",
                             "CUDNN_STATUS_ALLOC_FAILED",
                             "CUBLAS_STATUS_ALLOC_FAILED"}) {
    if (text.find(phrase) != std::string::npos) return true;
  }
  return false;
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

Evaluation survive(const std::function<Evaluation()>& run) {
  const Stopwatch watch;
  Evaluation evaluation;
  try {
    evaluation = run();
  } catch (const std::bad_alloc& error) {
    evaluation.status = TrialStatus::OutOfMemory;
    evaluation.message = exception_text(error);
  } catch (const c10::Error& error) {
    evaluation.message = first_line(exception_text(error));
    evaluation.status =
        says_out_of_memory(evaluation.message) ? TrialStatus::OutOfMemory : TrialStatus::Failed;
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::Stopped) throw;
    evaluation.status = TrialStatus::Stopped;
    evaluation.message = error.what();
  }
  evaluation.seconds = watch.seconds();
  return evaluation;
}

std::string lacks_memory(const std::string& device, std::int64_t forecast_bytes) {
  if (!choose_device(device).is_cpu()) return "";
  const std::int64_t available = available_bytes();
  if (available <= 0 || forecast_bytes <= available) return "";
  return concat_text("forecast ",
                     format_bytes(static_cast<double>(forecast_bytes)),
                     ", available ",
                     format_bytes(static_cast<double>(available)));
}

TrialClock::TrialClock(const Trial& trial, const TrialContext& context)
    : trial_(trial), context_(context) {}

bool TrialClock::poll() {
  if (since_beat_.seconds() > 5) {
    since_beat_.restart();
    if (context_.heartbeat) context_.heartbeat();
  }
  aborted_ = aborted_ || (context_.aborted && context_.aborted());
  if (trial_.seconds_limit > 0) time_is_up_ = seconds_left() < 0;
  return time_is_up_ || aborted_;
}

double TrialClock::seconds_left() const {
  double left = std::numeric_limits<double>::infinity();
  // A search trial does the steps it has, whatever a slow minute does to it, until its stage ends.
  if (trial_.purpose != TrialPurpose::Search) left = trial_.seconds_limit - watch_.seconds();
  if (context_.deadline > 0) left = std::min(left, context_.deadline - context_.clock());
  return left - reserve_;
}

std::filesystem::path source_weights(const std::filesystem::path& run_folder, std::int64_t trial) {
  const std::filesystem::path file = RunFolder(run_folder).trial(trial) / kWeightsFile;
  NAS_CHECK(std::filesystem::is_regular_file(file),
            file.string(),
            ": the weights of trial ",
            trial,
            ", which another one starts from, are not there");
  return file;
}

std::string warm_start_from_source(GraphModuleImpl& network,
                                   const std::filesystem::path& run_folder,
                                   const Trial& trial) {
  if (trial.source == 0) return "";
  const WeightTransfer transfer =
      load_narrower_weights(source_weights(run_folder, trial.source).string(), network);
  return concat_text(
      ", warm-started from trial ",
      trial.source,
      ": ",
      transfer.copied.size(),
      " of ",
      transfer.copied.size() + transfer.own_start.size(),
      " tensors",
      transfer.widened ? concat_text(", ", transfer.widened, " of them widened") : "");
}

}  // namespace nas
