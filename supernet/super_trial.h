// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "nas/search/evaluator.h"
#include "supernet/super_options.h"
#include "training/train_evaluator.h"

namespace nas {

inline constexpr int kPathsOfAScore = 4;  // of a single-path super-network's own score

/// The request of a trial of a super-network: SuperOptions as JSON, or "". \throws Error(Usage).
SuperOptions request_of(const std::string& request, const std::string& where);

/// Trains the super-network around the trial's genotype, scores it and leaves its weights in the
/// trial's folder (SuperEvaluator says how). \param scoring_seconds forecast for so many paths.
/// \param before_saving frees what is not needed any more.
Evaluation train_super_trial(const TrainEvaluatorSetup& setup,
                             const Trial& trial,
                             const TrialContext& context,
                             const std::function<double(std::int64_t paths)>& scoring_seconds,
                             const std::function<void()>& before_saving);

}  // namespace nas
