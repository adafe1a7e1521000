// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "training/data/preprocessing.h"
#include "training/fit/trainer.h"
#include "training/model/graph_module.h"
#include "training/settings/options.h"

namespace nas {

/// The trainer (training/fit/trainer.h) of `network` on the cases named by `train_ids`. \throws as fit().
std::unique_ptr<Trainer> make_trainer(GraphModule& network,
                                      const CaseCache& data,
                                      const std::vector<std::string>& train_ids,
                                      const TrainOptions& options);

/// One whole training: resumes where a checkpoint lies, trains `network` in place, saves, and
/// leaves what is delivered in it. Deterministic on the CPU for given options and threads: a resumed
/// run equals the straight one bit for bit.
///
/// Sample s of step i is a function of (seed, i, s) alone, so threads and resumption change
/// nothing. With `average_decay` the network holds the averaged weights when fit returns (the
/// checkpoint holds both). "nan" (a loss that is not finite) leaves the weights as they were before
/// that step. \throws Error(Input|Usage) on unknown ids, a patch that the network cannot take, or a
/// checkpoint of another training.
FitReport fit(GraphModule& network,
              const CaseCache& data,
              const std::vector<std::string>& train_ids,
              const TrainOptions& options,
              const FitFiles& files = {},
              const FitHooks& hooks = {});

}  // namespace nas
