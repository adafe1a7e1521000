// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nas/network/graph.h"

namespace nas {

struct NetworkFileOptions {
  std::string configuration = "3d_fullres";  // of a plan
  std::string space = "unet";                // search space around a plan
  std::string genotype = {};  // "features=16 stages=3": a point of it; "" is the planned network,
                              // or where searches start if that is of another kind
  std::int64_t channels = 1;  // of a preset
  std::int64_t classes = 2;  // of a preset or an nnU-Net plans.json, which does not say; background
                             // included
};

/// A network and the patch and batch it is meant for (0 where the file does not say).
struct NetworkFile {
  Graph graph;
  Extent3 patch{0, 0, 0};  // voxels
  std::int64_t batch = 0;
};

/// Reads a network from whatever names one: a graph (network.json), a model folder, a plan (our own
/// or nnU-Net's plans.json: its planned network), a preset (preset_names()), or the name of a
/// search space (its example). \throws Error(Input|Io|Usage) naming the file and what it should be.
NetworkFile load_network(const std::string& name, const NetworkFileOptions& options = {});

/// Published networks by name, for patches of 96x96x96 voxels.
std::vector<std::string> preset_names();

}  // namespace nas
