// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "nas/search/search_space.h"

namespace nas {

/// The life of a trial. Everything from Done on is final, except that Stopped (Ctrl-C) is queued
/// again by a resume. Failures are data: a search survives them and the database keeps them.
/// Pruned: ended early because what it reported was worse than the others; its score is the last
/// reported one. Aborted: by a wish of the user (`voxnas ctl`).
enum class TrialStatus {
  Queued,
  Running,
  Done,
  Nan,
  OutOfMemory,
  Timeout,
  Failed,
  Stopped,
  Pruned,
  Aborted
};
std::string to_text(
    TrialStatus status);  // "queued", "running", "done", "nan", "oom", "timeout", ...
TrialStatus trial_status_from_text(const std::string& text);  // \throws Error(Input)

/// What a trial is for.
///   Search     own training on the inner training cases, scored on the inner validation cases.
///   Retrain    final training, scored on the held-out cases.
///   SuperNet   trains a super-network around the genotype; leaves its weights (kWeightsFile of
///              nas/network/safetensors.h) in the trial's folder. The score says how well it did
///              itself and ranks nothing.
///   Inherited  no training: the genotype scored with the weights of trial `source`.
enum class TrialPurpose { Search, Retrain, SuperNet, Inherited };
std::string to_text(TrialPurpose purpose);  // "search", "retrain", "super-net", "inherited"
TrialPurpose trial_purpose_from_text(const std::string& text);  // \throws Error(Input)

/// Metric of a final training in a search that goes by another metric than Dice: its score on the
/// inner validation cases.
inline constexpr const char* kInnerScore = "inner_score";

/// How a trial ended.
struct Evaluation {
  TrialStatus status = TrialStatus::Failed;
  double score = 0;  // higher is better; meaningful only if status is Done. NaN: not scored, the
                     // held-out cases of a final training hold nothing (never of a Search trial)
  std::string how;   // "own training, 120 steps, inner validation"
  std::int64_t steps = 0;                 // done in fact
  double seconds = 0;                     // of all attempts
  std::map<std::string, double> metrics;  // by name; finite
  std::string details;  // JSON text: metrics per case and class (metrics_json), or ""; of a
                        // SuperNet trial its history
  Genotype decoded;     // the architecture that a differentiable super-network chose; else empty
  std::string message;  // why it failed, or ""
  bool operator==(const Evaluation&) const = default;
};

/// One row of the results database: a genotype with everything that decides its evaluation, and the
/// result.
struct Trial {
  std::int64_t id = 0;  // 1, 2, ... in order of creation
  std::string stage;
  TrialPurpose purpose = TrialPurpose::Search;
  std::string label;          // of a retrain trial: "best", "baseline"; else ""
  std::int64_t proposal = 0;  // the strategy's own number
  int rung = 0;               // fidelity level, 0 the cheapest
  double share = 0;           // of the stage's budget, (0, 1]
  Genotype genotype;
  std::string genotype_text, genotype_id, graph_id;
  std::string request;      // JSON text: what the strategy wants of a SuperNet trial, or ""
  std::int64_t source = 0;  // trial whose weights are inherited or warm-start this one; 0: none
  std::int64_t parameters = 0, macs = 0, memory_bytes = 0;
  std::int64_t steps = 0;    // to do; 0: not fixed yet
  double seconds_limit = 0;  // what it may take; 0: no clock
  std::string settings;      // JSON text of the training options, fixed together with `steps`
  std::uint64_t seed = 1;
  int attempt = 0;  // how often it was claimed
  TrialStatus status = TrialStatus::Queued;
  Evaluation evaluation;
  std::string checkpoint;                      // folder, relative to the run folder
  double created = 0, started = 0, ended = 0;  // seconds on the run's clock (0 before)
  std::string owner;                           // worker that claimed it last; "" before
  std::int64_t token = 0;       // grows with every claim: an earlier owner's writes are refused
  std::int64_t told_order = 0;  // 1, 2, ...: as the strategy was told; 0: not yet
  std::string asked_by;         // who wanted it instead of the strategy (kAskedByUser, ...), or ""
  std::string folder_state = "full";  // what is left of its folder: "full", "key"
  // It ran out of memory beside others, and has its device to itself now (TrialStore::retry_alone).
  bool alone = false;
};
inline constexpr const char* kAskedByUser = "the user";  // `voxnas ctl RUN enqueue`

/// Size of what a genotype stands for.
struct TrialCost {
  std::string graph_id;
  std::int64_t parameters = 0;
  std::int64_t macs = 0;          // one forward pass of one patch
  std::int64_t memory_bytes = 0;  // forecast of a training step
  double step_seconds = 0;        // measured or estimated training step; 0: unknown
  double relative_cost = 0;       // effort of a training step: 1 is the plan's; 0: unknown
};

/// Size of a network that was built. Its step is forecast at `batch`; step time and relative cost are
/// left open.
TrialCost network_size(const Phenotype& built, std::int64_t batch);

/// What a network may be asked to keep small beside its score.
const std::vector<std::string>& cost_objectives();  // "parameters", "macs", "memory", "step_time"
/// \throws Error(Internal) on an unknown objective.
double cost_value(const TrialCost& cost, const std::string& objective);

/// Measured speed of one genotype.
struct Probe {
  double step_seconds = 0;  // one training step
  double evaluation_seconds =
      0;                     // scoring one trial of the given purpose (Inherited: one candidate)
  double probe_seconds = 0;  // what measuring cost
};

/// The numbers that turn a trial into a function of its row.
struct TrialPlan {
  std::int64_t steps = 0;  // > 0, except of an Inherited trial: 0
  std::string settings;    // JSON text
};

/// What surrounds one evaluation.
struct TrialContext {
  std::filesystem::path folder;     // for checkpoints and logs of this trial; exists
  std::function<double()> clock;    // seconds on the run's clock, earlier sessions included
  double deadline = 0;              // on that clock: be done by then; 0: no clock
  std::function<void()> heartbeat;  // call now and then: stores the clock
  std::function<bool()> aborted;    // somebody wants this trial to end (Aborted); empty: never
  /// Steps after which a score is wanted; empty where nobody asks.
  std::vector<std::int64_t> report_steps;
  /// A score on the way, at a step. \returns whether the trial goes on; else it ends as Pruned.
  std::function<bool(std::int64_t step, double score)> report;
};

/// Scores trials. Implementations: TrainEvaluator (own training), SuperEvaluator (super-networks
/// and inherited weights too). A search must survive what happens here: out of memory, NaN,
/// time-outs come back as a status, not as exceptions.
class Evaluator {
 public:
  virtual ~Evaluator() = default;
  /// \throws Error(Input|Shape) if the genotype cannot be built.
  virtual TrialCost describe(const Genotype& genotype) = 0;
  /// Measures speed; not called when the budget is in steps.
  virtual Probe probe(const Genotype& genotype, TrialPurpose purpose) = 0;
  /// Fixes steps (kept if trial.steps > 0, else from trial.seconds_limit) and settings. Called once
  /// per trial.
  virtual TrialPlan plan(const Trial& trial) = 0;
  /// Runs the trial: a function of its row. Continues from a checkpoint in context.folder if there
  /// is one. Status Stopped means that the user asked to stop.
  virtual Evaluation evaluate(const Trial& trial, const TrialContext& context) = 0;
  /// How many queued trials of this one's purpose and source it wants at once.
  virtual std::int64_t batch_size(const Trial& /*trial*/) { return 1; }
  /// Evaluates them together, e.g. sharing prefixes; results in the same order. `context` is that
  /// of the first. Default: one after the other.
  virtual std::vector<Evaluation> evaluate_batch(const std::vector<Trial>& trials,
                                                 const TrialContext& context);
  /// What was measured so far, as JSON text ("": nothing). A run that goes on gives it back to
  /// `restore`, and then plans as if it had never been interrupted.
  virtual std::string measured() const { return ""; }
  virtual void restore(const std::string& /*measured*/) {}
  /// A measured training step of this genotype at the search's batch, for limits on step time.
  /// 0: unknown.
  virtual double step_seconds(const Genotype& /*genotype*/) { return 0; }
};

}  // namespace nas
