// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "nas/network/graph.h"

namespace nas {

/// A closed graph with one input as source text for PyTorch, in two dialects of one generator.

/// A module `network.py` with a class `Network` (torch.nn only): the whole graph, deep-supervision
/// outputs included, with the state-dict names of the graph. `forward` returns the finest output in
/// evaluation and the list of all, finest first, in training.
/// \throws Error(Usage) on open choices; Error(Input) naming a node that PyTorch cannot express, or
/// whose name an nn.Module has already.
std::string python_source(const Graph& graph);

/// The methods of one TorchScript module, for torch::jit::Module::define.
struct TorchScriptPart {
  std::string node;    // name of the node whose weights it reads; "" for the network itself
  std::string source;  // "def forward(self, x: Tensor) -> Tensor: ..."
};
/// Methods of every node with weights, then those of the network, which returns the first output
/// alone: sizes come from the tensors, nothing is traced. \throws as python_source.
std::vector<TorchScriptPart> torchscript_source(const Graph& graph);

}  // namespace nas
