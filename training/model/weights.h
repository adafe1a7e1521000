// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "training/model/graph_module.h"

namespace nas {

/// Weights of a module as a safetensors file with the graph's names, and back (all names and shapes
/// must fit; \throws Error(Input) naming file, tensor, expected and found shape).
void save_weights(const std::string& file, const torch::nn::Module& module);
void load_weights(const std::string& file, torch::nn::Module& module);
/// What load_matching_weights found.
struct WeightTransfer {
  std::vector<std::string> copied;     // names
  std::int64_t widened = 0;            // of them, how many into a wider tensor
  std::vector<std::string> own_start;  // in the module, but not in the file or of another shape
};
/// Copies the tensors whose name and shape agree and leaves the others at their start: a warm
/// start, or another task's weights for an adapted network (adapt_network).
WeightTransfer load_matching_weights(const std::string& file, torch::nn::Module& module);
/// The same, and weights of a narrower network of this structure become part of the wider one, so
/// that it begins with the narrower one's function: the channels that both have get their weights,
/// the others begin anew and are read with weight 0 by the shared ones. Ours; Net2Net (Chen et al.,
/// ICLR 2016, arXiv:1511.05641) repeats channels instead, which then need noise to differ. Exact
/// for what works channel by channel (norms per channel, not groups of them); with open choices as
/// load_matching_weights.
WeightTransfer load_narrower_weights(const std::string& file, GraphModuleImpl& module);

}  // namespace nas
