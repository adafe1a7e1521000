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
  /// 0: as the file says; of a reference network its defaults; classes of an nnU-Net plans.json,
  /// which does not say, 2. Background included.
  std::int64_t channels = 0, classes = 0;
  Extent3 patch{0, 0, 0};  // of a reference network; 0: its default
  /// A finished network of other channels or classes gets other first and last layers (transfer to
  /// another task) instead of an error.
  bool adapt = false;
};

/// A network and the patch and batch it is meant for (0 where the file does not say).
struct NetworkFile {
  Graph graph;
  Extent3 patch{0, 0, 0};  // voxels
  std::int64_t batch = 0;
  bool adapted = false;  // first or last layers are not the file's
};

/// The one place that turns a name into a network: a reference network ("v-net", see
/// reference_networks.h; "vnas:CODE" with 21 digits), a search space (its example), a graph
/// (network.json), a model folder, a plan (our own or nnU-Net's plans.json: its planned network),
/// DiNTS codes (arch_code_a, ...) as JSON or a TorchScript file ("my_network.ts"; 1 channel and 2
/// classes unless `options` say; it is not opened here). Names come first; "./v-net" is a file.
/// \throws
/// Error(Input|Io|Usage) naming the file and what it should be, with the nearest known name.
NetworkFile load_network(const std::string& name, const NetworkFileOptions& options = {});

/// The names that load_network knows.
std::vector<std::string> network_names();

/// `graph` with other input channels and classes: the input nodes and the convolutions that give
/// the outputs change, all else stays. \throws Error(Input) where an output does not come from
/// convolutions or the rest of the network does not fit.
Graph adapt_network(const Graph& graph, std::int64_t channels, std::int64_t classes);

}  // namespace nas
