// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "nas/network/graph.h"

namespace nas {

struct NetworkFileOptions {
  std::string configuration = "3d_fullres";  // of a plan
  std::string genotype = {};  // "features=16 stages=3": a point of the U-Net space around the plan
  std::int64_t classes = 2;   // of an nnU-Net plans.json, which does not say; background included
};

/// A network and the patch and batch it is meant for (0 where the file does not say).
struct NetworkFile {
  Graph graph;
  Extent3 patch{0, 0, 0};  // voxels
  std::int64_t batch = 0;
};

/// Reads a network from whatever names one: a graph (network.json), a model folder, a plan (our own
/// or nnU-Net's plans.json: its planned network), or the name of a search space (its example).
/// \throws Error(Input|Io|Usage) naming the file and what it should be.
NetworkFile load_network(const std::string& name, const NetworkFileOptions& options = {});

}  // namespace nas
