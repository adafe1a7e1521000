// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "supernet/inherited_scores.h"
#include "training/train_evaluator.h"

namespace nas {

inline constexpr const char* kNotFinite = "the network's output is not finite";

std::vector<const CachedCase*> find_cases(const CaseCache& cache,
                                          const std::vector<std::string>& ids);

/// The options of a trained network's scoring: where it runs, and batches for batch norms.
ScoringOptions scoring_options(const TrainEvaluatorSetup& setup,
                               const TrainOptions& base,
                               const Extent3& patch,
                               const Graph& graph);

/// Scores trials with the weights of a trained super-network, which it keeps between batches.
class InheritedTrials {
 public:
  InheritedTrials();
  ~InheritedTrials();

  /// One evaluation a trial; all have the same source, which is loaded if it was another one before.
  std::vector<Evaluation> score(const TrainEvaluatorSetup& setup,
                                const std::vector<Trial>& trials,
                                const TrialContext& context);
  /// Frees the super-network.
  void forget();

 private:
  struct Loaded;  // a trained super-network
  void load(const TrainEvaluatorSetup& setup, const Trial& trial);
  std::unique_ptr<Loaded> loaded_;
};

}  // namespace nas
