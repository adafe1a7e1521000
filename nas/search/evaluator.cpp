// SPDX-License-Identifier: Apache-2.0
#include "nas/search/evaluator.h"

#include <array>
#include <utility>

#include "nas/core/error.h"

namespace nas {
namespace {

constexpr std::array<std::pair<TrialStatus, const char*>, 10> kStatusNames{{
    {TrialStatus::Queued, "queued"},
    {TrialStatus::Running, "running"},
    {TrialStatus::Done, "done"},
    {TrialStatus::Nan, "nan"},
    {TrialStatus::OutOfMemory, "oom"},
    {TrialStatus::Timeout, "timeout"},
    {TrialStatus::Failed, "failed"},
    {TrialStatus::Stopped, "stopped"},
    {TrialStatus::Pruned, "pruned"},
    {TrialStatus::Aborted, "aborted"},
}};

constexpr std::array<std::pair<TrialPurpose, const char*>, 4> kPurposeNames{{
    {TrialPurpose::Search, "search"},
    {TrialPurpose::Retrain, "retrain"},
    {TrialPurpose::SuperNet, "super-net"},
    {TrialPurpose::Inherited, "inherited"},
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
  for (const auto& [value, name] : kPurposeNames) {
    if (value == purpose) return name;
  }
  fail(ErrorKind::Internal, "trial purpose ", static_cast<int>(purpose), " has no name");
}

TrialPurpose trial_purpose_from_text(const std::string& text) {
  for (const auto& [value, name] : kPurposeNames) {
    if (text == name) return value;
  }
  fail(ErrorKind::Input,
       "trial purpose: expected search, retrain, super-net or inherited, found \"",
       text,
       "\"");
}

std::vector<Evaluation> Evaluator::evaluate_batch(const std::vector<Trial>& trials,
                                                  const TrialContext& context) {
  std::vector<Evaluation> evaluations;
  evaluations.reserve(trials.size());
  for (const Trial& trial : trials) evaluations.push_back(evaluate(trial, context));
  return evaluations;
}

TrialCost network_size(const Phenotype& built, std::int64_t batch) {
  TrialCost cost;
  cost.graph_id = graph_id(built.graph);
  cost.parameters = total_cost(built.graph, built.patch).parameters;
  cost.macs = total_cost(first_output_only(built.graph), built.patch).macs;
  cost.memory_bytes = training_memory_bytes(built.graph, built.patch, batch, 4, 2);
  return cost;
}

const std::vector<std::string>& cost_objectives() {
  static const std::vector<std::string> kNames = {"parameters", "macs", "memory", "step_time"};
  return kNames;
}

double cost_value(const TrialCost& cost, const std::string& objective) {
  if (objective == "parameters") return static_cast<double>(cost.parameters);
  if (objective == "macs") return static_cast<double>(cost.macs);
  if (objective == "memory") return static_cast<double>(cost.memory_bytes);
  if (objective == "step_time") return cost.step_seconds;
  fail(ErrorKind::Internal, "there is no objective \"", objective, "\"");
}

}  // namespace nas
