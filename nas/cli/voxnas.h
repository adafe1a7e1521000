// SPDX-License-Identifier: Apache-2.0
#pragma once

// VoxNAS as a library: the command line with strategies, losses and operations of one's own
// (docs/extending.md, "Add your own in C++"). Installed as <voxnas.h> with
// find_package(VoxNAS COMPONENTS program).

#include <vector>

#include "nas/network/operations.h"
#include "nas/search/draws.h"
#include "nas/search/ledger_strategy.h"
#include "nas/search/one_by_one.h"
#include "nas/search/search_space.h"
#include "nas/search/strategy.h"
#include "nas/search/strategy_kind.h"
#include "training/fit/own_losses.h"
#include "training/model/own_lowerings.h"

namespace nas {

/// A network block: what the table of operations says of it, and what it runs.
struct OwnOperation {
  Operation row;  // name, attributes, shape rule, state; without `onnx` it is not exported
  std::function<StepFunction(const Node& node, const NodeState& state)> make;
};

/// Rows that a program adds to the tables of VoxNAS.
struct Extensions {
  std::vector<StrategyKind> strategies;  // recipes and --controller name them
  std::vector<OwnLoss> losses;           // the training option "loss" names them
  std::vector<OwnOperation> operations;  // nodes of graphs name them
};

/// The command `voxnas` with all its verbs and these rows, for main(). Worker processes of a search
/// are this program again, so they know the rows too.
/// \returns exit code: 0 done, 1 failed, 2 wrong use (also a row that cannot be added).
int run_program(int argc, char** argv, const Extensions& extensions);

}  // namespace nas
