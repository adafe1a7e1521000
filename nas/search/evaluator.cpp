// SPDX-License-Identifier: Apache-2.0
#include "nas/search/evaluator.h"

#include <array>
#include <utility>

#include "nas/core/error.h"

namespace nas {
namespace {

constexpr std::array<std::pair<TrialStatus, const char*>, 8> kStatusNames{{
    {TrialStatus::Queued, "queued"},
    {TrialStatus::Running, "running"},
    {TrialStatus::Done, "done"},
    {TrialStatus::Nan, "nan"},
    {TrialStatus::OutOfMemory, "oom"},
    {TrialStatus::Timeout, "timeout"},
    {TrialStatus::Failed, "failed"},
    {TrialStatus::Stopped, "stopped"},
}};

}  // namespace

std::string to_text(TrialStatus status) {
  for (const auto& [value, name] : kStatusNames) {
    if (value == status) return name;
  }
  fail(ErrorKind::Internal, "trial status ", static_cast<int>(status), " has no name");
}

TrialStatus trial_status_from_text(const std::string& text) {
  for (const auto& [value, name] : kStatusNames) {
    if (text == name) return value;
  }
  fail(ErrorKind::Input,
       "trial status: expected queued, running, done, nan, oom, timeout, failed or stopped, "
       "found \"",
       text,
       "\"");
}

std::string to_text(TrialPurpose purpose) {
  return purpose == TrialPurpose::Search ? "search" : "retrain";
}

}  // namespace nas
