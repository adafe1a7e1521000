// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "nas/search/budget.h"
#include "nas/search/evaluator.h"
#include "nas/search/stage.h"
#include "nas/search/trial_store.h"

namespace nas {

/// What a worker works with; all borrowed.
struct WorkerSetup {
  TrialStore* store = nullptr;
  Evaluator* evaluator = nullptr;
  Budget budget;
  std::function<double()> clock;      // seconds on the run's clock; 0 without one
  std::function<bool()> should_stop;  // polled between trials; empty: never
  std::filesystem::path folder;       // RUN: trial folders are made in folder/trials
  std::string name = TrialStore::kLeader;
  // Told in this process; empty: nobody is.
  std::function<void(const Trial&)> started, ended;
};

/// Keeps what the evaluator has measured, before anything that follows from it is recorded.
void store_measured(TrialStore& store, const Evaluator& evaluator);

/// The part of a search that trains: claims a trial, fixes what it will do, evaluates it, writes the
/// result. It knows no strategy.
class Worker {
 public:
  explicit Worker(WorkerSetup setup) : setup_(std::move(setup)) {}

  enum class Did { Nothing, Trials, Stopped };
  /// Carries out the oldest queued trial of the stage (several where the evaluator wants them
  /// together). Nothing: none is queued. Stopped: the user asked to stop.
  Did work(const StageSpec& stage, const StageRecord& record);

 private:
  std::vector<Evaluation> evaluate(const StageSpec& stage,
                                   const StageRecord& record,
                                   std::vector<Trial>& trials);
  void fix(const StageRecord& record, Trial& trial);
  bool finish(Trial& trial, const Evaluation& evaluation);
  bool goes_again_alone(const Trial& trial, const Evaluation& evaluation);
  const WorkerSetup setup_;
};

}  // namespace nas
