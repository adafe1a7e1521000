// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nas/core/extent.h"
#include "nas/core/json.h"
#include "nas/core/stopwatch.h"
#include "nas/jobs/prepare.h"
#include "nas/jobs/train_record.h"
#include "nas/network/graph.h"

/// What a new training will be: its network, its options.
namespace nas {

struct ChosenNetwork {
  Graph graph;
  Extent3 patch{0, 0, 0};  // voxels
};

/// The network that the job asks for (by default the planned one) for the data set's channels and
/// classes, and its patch: the one that the job's options ask for, else the planned one, enlarged
/// where the network does not take it. \throws Error(Usage|Input) if there is no such network, or if it does not take that patch.
ChosenNetwork choose_network(const TrainJob& job,
                             const Configuration& planned,
                             const DataSet& data);

/// The options of a new run, the seconds that are kept back for scoring, and how mirroring was
/// decided (null: there was nothing to decide).
struct PlannedTraining {
  TrainOptions options;
  double reserve = 0;
  Json mirroring;
};

/// \param watch since the command began. \throws Error(Usage) if the budget buys no training.
PlannedTraining plan_run(const TrainJob& job,
                         const Prepared& prepared,
                         const Configuration& configuration,
                         const Graph& graph,
                         const Stopwatch& watch);

}  // namespace nas
