// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "nas/core/json.h"
#include "nas/imaging/dataset.h"
#include "nas/search/evaluator.h"
#include "search_spaces/planned_unet/plan.h"
#include "training/data/preprocessing.h"
#include "training/settings/options.h"

namespace nas {

class GraphModuleImpl;

/// Who learns from which cases. The held-out cases score retrain trials only, that is, the final
/// comparison; search trials never see them.
struct CaseSelection {
  std::vector<std::string> training;          // of the fold; = inner_training + inner_validation
  std::vector<std::string> inner_training;    // every training learns from these
  std::vector<std::string> inner_validation;  // and are scored on these
  std::vector<std::string> held_out;          // the fold's validation cases
  bool operator==(const CaseSelection&) const = default;
};
/// Draws the inner validation cases: `share` of the training cases, at least 1, at most
/// kMostValidation. \throws Error(Input) if the fold has fewer than two training cases or no
/// held-out case.
CaseSelection select_cases(const Split& fold, double share, std::uint64_t seed);
inline constexpr std::int64_t kMostValidation = 12;
/// Why a trial has no score although it was trained.
inline constexpr const char* kNotScored =
    "not scored: in the inner validation cases no class is there and none was predicted";
Json to_json(const CaseSelection& cases);
CaseSelection case_selection_from_json(const Json& value, const std::string& where);

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
};

/// Runs an evaluation. What a search must survive (no memory, a stop) comes back as its status.
Evaluation survive(const std::function<Evaluation()>& run);

/// "" or, on a CPU, why a training that keeps `forecast_bytes` cannot run here: nothing throws
/// there, the kernel would kill the process.
std::string lacks_memory(const std::string& device, std::int64_t forecast_bytes);

/// Weights that trial `trial` left for others. \throws Error(Input) if they are not there.
std::filesystem::path source_weights(const std::filesystem::path& run_folder, std::int64_t trial);
/// Starts `network` from the weights of trial.source (load_narrower_weights). \returns what to say
/// of it (", warm-started from trial 7: 80 of 96 tensors, 12 of them widened"), "" without a
/// source.
std::string warm_start_from_source(GraphModuleImpl& network,
                                   const std::filesystem::path& run_folder,
                                   const Trial& trial);

/// The clock of a running trial, polled between steps.
class TrialClock {
 public:
  TrialClock(const Trial& trial, const TrialContext& context);
  /// Seconds that the trial still needs when its training ends.
  void set_reserve(double seconds) { reserve_ = seconds; }
  /// Stores the run's clock every 5 seconds. True once the trial must end.
  bool poll();
  bool time_is_up() const { return time_is_up_; }

 private:
  const Trial& trial_;
  const TrialContext& context_;
  double reserve_ = 0;
  std::chrono::steady_clock::time_point start_, last_beat_;
  bool time_is_up_ = false;
};

/// Scores a genotype by training its network with `fit`, with the options that the schedule rule
/// (plan_training) gives for the trial's steps or seconds.
///   Search: trains on inner_training, scores the mean foreground Dice on inner_validation, on the
///   preprocessed grid
///     (arg-max of sliding-window logits against the cached labels): fast, and enough to rank.
///   Retrain: trains on inner_training too, writes run_folder/<label> ("best", "baseline"), scores
///     inner_validation (metric `inner_dice`, which decides what is delivered) and the held-out
///     cases on their original grid; predictions in run_folder/predictions/<label>.
/// With a clock a training also stops when its time is up; the steps that it did are recorded.
/// A trial with a source starts from that trial's weights wherever name and shape agree; `how` says
/// from how many.
class TrainEvaluator : public Evaluator {
 public:
  explicit TrainEvaluator(TrainEvaluatorSetup setup);

  TrialCost describe(const Genotype& genotype) override;
  Probe probe(const Genotype& genotype, TrialPurpose purpose) override;
  TrialPlan plan(const Trial& trial) override;
  Evaluation evaluate(const Trial& trial, const TrialContext& context) override;

  /// Seconds per step at the batch that a training of many steps would use, for forecasts.
  double step_seconds(const Genotype& genotype, std::int64_t batch);
  /// Seconds of one patch through the network, without gradients.
  double forward_seconds(const Genotype& genotype);
  const TrainEvaluatorSetup& setup() const { return setup_; }
  /// The network of a genotype, with the planned patch where the space leaves it open.
  Phenotype build(const Genotype& genotype) const;
  /// Forgets what was measured; the next probe takes `steps` steps.
  void probe_again(int steps);

 private:
  struct Speed {
    std::map<std::int64_t, double> probed;   // seconds a step by batch, two steps on random data
    std::map<std::int64_t, double> trained;  // the same of whole trainings
    double forward_seconds = 0;              // one patch
  };
  const Speed& measure(const Genotype& genotype, std::int64_t batch);
  double evaluation_seconds(const Genotype& genotype, TrialPurpose purpose);
  void measure_scoring();
  /// Seconds of a training step whose probe took `probed`.
  double in_training(double probed, std::int64_t batch) const;
  Evaluation run(const Trial& trial, const TrialContext& context);

  TrainEvaluatorSetup setup_;
  std::map<Genotype, Speed> speeds_;
  int probe_steps_ = 2;
  // What a sample costs besides the network (augmentation on the same cores), learnt from
  // trainings. Not a factor: a small network's would be far too much for a large one.
  double sample_seconds_ = 0;
  double scoring_seconds_ =
      -1;  // of one held-out case beyond its forward passes; < 0: not measured
};

}  // namespace nas
