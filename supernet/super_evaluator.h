// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "supernet/inherited_trials.h"
#include "training/train_evaluator.h"

namespace nas {

/// Evaluates every purpose:
///   Search, Retrain  as TrainEvaluator does.
///   SuperNet         trains the super-network around the genotype (its genes of group "operations"
///     open) on the inner training cases, as the trial's request says (SuperOptions as JSON).
///     Leaves kWeightsFile in the trial's folder. Differentiable: `decoded` is the most probable
///     genotype, within max_parameters if given, and the score that of its path; single path: the
///     score is the mean of four drawn paths. `details` holds the alpha and entropy history
///     (SuperReport).
///   Inherited        scores the genotype with the weights of trial `source` on fixed windows
///     (scoring_windows() says how many) of the inner validation cases, the same for every trial of
///     a run. Trials come in batches, whose common prefixes are computed once.
class SuperEvaluator : public Evaluator {
 public:
  explicit SuperEvaluator(TrainEvaluatorSetup setup);

  TrialCost describe(const Genotype& genotype) override;
  Probe probe(const Genotype& genotype, TrialPurpose purpose) override;
  TrialPlan plan(const Trial& trial) override;
  Evaluation evaluate(const Trial& trial, const TrialContext& context) override;
  std::int64_t batch_size(const Trial& trial) override;
  std::vector<Evaluation> evaluate_batch(const std::vector<Trial>& trials,
                                         const TrialContext& context) override;
  std::string measured() const override;
  void restore(const std::string& measured) override;
  double step_seconds(const Genotype& genotype) override;

  /// What does the own trainings, e.g. for forecasts.
  TrainEvaluator& trainer() { return train_; }

  static constexpr std::int64_t kScoringBatch = 48;  // trials; what a kill makes score again

 private:
  double super_step_seconds(const Genotype& fixed, const std::string& request, std::int64_t batch);
  double scoring_seconds(const Genotype& genotype, std::int64_t paths);

  TrainEvaluator train_;
  std::map<std::string, std::map<std::int64_t, double>> super_speeds_;  // by what and batch
  InheritedTrials inherited_;
};

}  // namespace nas
