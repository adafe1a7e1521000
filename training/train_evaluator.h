// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "nas/imaging/dataset.h"
#include "nas/imaging/metrics.h"
#include "nas/search/evaluator.h"
#include "search_spaces/network_costs.h"
#include "search_spaces/planned_unet/plan.h"
#include "training/data/cases.h"
#include "training/data/preprocessing.h"
#include "training/settings/options.h"
#include "training/settings/plan_training.h"

namespace nas {

struct FitReport;

/// Why a trial has no score although it was trained.
inline constexpr const char* kNotScored =
    "not scored: in the inner validation cases no class is there and none was predicted";

/// What a TrainEvaluator works with; all pointers are borrowed and outlive it.
struct TrainEvaluatorSetup {
  const SearchSpace* space = nullptr;
  Configuration configuration;  // the planned one
  Preprocessing preprocessing;
  const DataSet* data = nullptr;
  const CaseCache* cache = nullptr;
  CaseSelection cases;
  TrainOptions base;                 // device, precision, threads
  std::filesystem::path run_folder;  // models, predictions
  bool show_progress = true;
  std::string metric = "dice";  // of metric_table(): by what Search trials are scored
  bool mirror = true;  // whether the schedule rule may switch mirroring on (mirror_check.h)
};

/// Scores a genotype by training its network with `fit`, with the options that the schedule rule
/// (plan_training) gives for the trial's steps or seconds.
///   Search: trains on inner_training, scores the mean over foreground of setup.metric on
///     inner_validation, on the preprocessed grid (arg-max of sliding-window logits against the cached labels): fast, and enough to rank.
///   Retrain: trains on inner_training too, writes run_folder/<label> ("best", "baseline"), scores
///     inner_validation alike (metrics `inner_dice` and, by another metric, `inner_score`, which
///     decides what is delivered) and by Dice the held-out cases on their original grid; predictions
///     in run_folder/predictions/<label>.
/// A trial with a horizon (TrialRequest) is paused, not ended, after its steps, and another one may
/// go on from its checkpoint. With a clock a Search trial has its steps, is stopped only at the end
/// of its stage and is then not ranked (Timeout); in a Retrain trial the clock decides when the
/// decay of the learning rate begins (Pace).
/// A trial with a source starts from that trial's weights wherever name and shape agree; `how` says
/// from how many.
class TrainEvaluator : public Evaluator {
 public:
  explicit TrainEvaluator(TrainEvaluatorSetup setup);

  TrialCost describe(const Genotype& genotype) override;
  Probe probe(const Genotype& genotype, TrialPurpose purpose) override;
  TrialPlan plan(const Trial& trial) override;
  Evaluation evaluate(const Trial& trial, const TrialContext& context) override;

  std::string measured() const override;
  void restore(const std::string& measured) override;

  /// Seconds per step at the batch that a training of many steps would use, for forecasts.
  double step_seconds(const Genotype& genotype, std::int64_t batch);
  /// Seconds of one patch through the network, without gradients.
  double forward_seconds(const Genotype& genotype);
  const TrainEvaluatorSetup& setup() const { return setup_; }
  /// The network of a genotype, with the planned patch where the space leaves it open. Built once
  /// for the several questions that a trial asks.
  std::shared_ptr<const Phenotype> build(const Genotype& genotype) {
    return costs_.build(genotype);
  }
  void allow_mirroring(bool allowed) { setup_.mirror = allowed; }
  /// Seconds of scoring a trial of this purpose.
  double evaluation_seconds(const Genotype& genotype, TrialPurpose purpose);
  /// Forgets what was measured; the next probe takes `steps` steps.
  void probe_again(int steps);

 private:
  struct Speed {
    std::map<std::int64_t, double> probed;   // seconds a step by batch, two steps on random data
    std::map<std::int64_t, double> trained;  // the same of whole trainings
    double forward_seconds = 0;              // one patch
  };
  const Speed& measure(const Genotype& genotype, std::int64_t batch);
  void measure_scoring();
  /// Seconds of a training step whose probe took `probed`.
  double in_training(double probed, std::int64_t batch) const;
  /// A whole training knows its speed better than a probe of two steps.
  void learn_speed(const Genotype& genotype, std::int64_t batch, const FitReport& report);
  Evaluation run(const Trial& trial, const TrialContext& context);
  MetricOptions inner_options() const;

  TrainEvaluatorSetup setup_;
  NetworkCosts costs_;
  std::map<Genotype, Speed> speeds_;
  int probe_steps_ = 2;
  // What a sample costs besides the network (augmentation on the same cores), learnt from
  // trainings. Not a factor: a small network's would be far too much for a large one.
  double sample_seconds_ = 0;
  double scoring_seconds_ =
      -1;  // of one held-out case beyond its forward passes; < 0: not measured
};

}  // namespace nas
