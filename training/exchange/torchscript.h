// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

#include <torch/torch.h>

#include "training/model/model_folder.h"

namespace nas {

/// A value of dictionaries, lists, texts, numbers and tensors as Python's
/// `torch.load(..., weights_only=True)` reads it.
std::vector<char> pickle_for_python(const c10::IValue& value);
/// A TorchScript module of the finest output: any batch and space, state-dict names of the graph.
void write_model_torchscript(const Model& model, const std::filesystem::path& file);

}  // namespace nas
